import pytest

from xkd.pipelines.convert.sources import DATASETS

# Names of the kind that the dataset has; the lists have a blank at the end of each line.
ODD = "#122_Cleaning_Up_The_Beach_(HQ)_[x]_brush_hair_u_nm_np1_fr_goo_0.avi"
FILES = {
    **{
        f"testTrainMulti_7030_splits/brush_hair_test_split{fold}.txt": f"{ODD} {roles[0]} \nAtrium & more!.avi {roles[1]} \n"
        for fold, roles in zip((1, 2, 3), ("12", "01", "20"), strict=True)
    },
    **{f"testTrainMulti_7030_splits/wave_test_split{fold}.txt": f"{ODD} 1 \ngone.avi 2 \n" for fold in (1, 2, 3)},
    f"brush_hair/{ODD}": b"",
    "brush_hair/Atrium & more!.avi": b"",
    f"wave/{ODD}": b"",
    "wave/of no list.avi": b"",
}


def test_all_clips_are_listed_once_with_their_roles_in_the_folds(lay_out):
    listing = DATASETS["hmdb51"].list(lay_out(FILES), "all")
    assert (listing.classes, listing.num_folds) == (("brush_hair", "wave"), 3)
    assert [(item.name, item.labels, item.roles) for item in listing.items] == [
        (f"brush_hair/{ODD}", ("brush_hair",), ("train", "unused", "test")),
        ("brush_hair/Atrium & more!.avi", ("brush_hair",), ("test", "train", "unused")),
        (f"wave/{ODD}", ("wave",), ("train", "train", "train")),
    ]
    assert listing.missing == ("wave/gone.avi",)
    assert listing.unlisted == ("wave/of no list.avi",)
    assert DATASETS["hmdb51"].streams == "video"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.avi 3 \n", r"wave_test_split2.txt, line 1: 'a.avi 3'; expected NAME.avi and 1 \(train\), 2 \(test\) or 0 \(unused\)"),
        ("a.avi\n", "wave_test_split2.txt, line 1: 'a.avi'; expected NAME.avi and 1"),
        ("a.avi 1 \na.avi 2 \n", "wave_test_split2.txt, line 2: a.avi is listed twice"),
    ],
)
def test_a_wrong_list_is_an_error_with_file_line_and_what_was_expected(folder, content, message):
    with pytest.raises(ValueError, match=message):
        DATASETS["hmdb51"].list(folder({**FILES, "testTrainMulti_7030_splits/wave_test_split2.txt": content}), "all")


def test_absent_lists_are_errors_that_name_them(folder):
    root = folder(FILES)
    (root / "testTrainMulti_7030_splits" / "wave_test_split2.txt").unlink()
    with pytest.raises(ValueError, match=r"holds no wave_test_split2.txt; expected three lists for each class"):
        DATASETS["hmdb51"].list(root, "all")
    for path in root.rglob("*.txt"):
        path.unlink()
    with pytest.raises(ValueError, match=r"holds no CLASS_test_split1.txt \(the folds\); expected three for each class"):
        DATASETS["hmdb51"].list(root, "all")
