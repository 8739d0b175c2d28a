import pytest

from xkd.pipelines.convert.sources import DATASETS

LISTS = "ucfTrainTestlist"
FILES = {
    f"{LISTS}/classInd.txt": "1 ApplyEyeMakeup\n2 Archery\n3 HandstandPushups\n",
    f"{LISTS}/trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\nArchery/v_Archery_g08_c01.avi 2\n",
    f"{LISTS}/testlist01.txt": "HandStandPushups/v_HandStandPushups_g01_c01.avi\r\nArchery/v_Archery_g01_c01.avi\r\n",
    f"{LISTS}/trainlist02.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi 3\nArchery/v_Archery_g01_c01.avi 2\n",
    f"{LISTS}/testlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\n",
    f"{LISTS}/trainlist03.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n",
    f"{LISTS}/testlist03.txt": "Archery/v_Archery_g01_c01.avi\n",
    "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi": b"",
    "UCF-101/Archery/v_Archery_g01_c01.avi": b"",
    "UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.avi": b"",
    "UCF-101/Archery/v_Archery_g99_c01.avi": b"",
}


def test_all_clips_are_listed_once_with_their_roles_in_the_folds(lay_out):
    listing = DATASETS["ucf101"].list(lay_out(FILES), "all")
    assert listing.classes == ("ApplyEyeMakeup", "Archery", "HandstandPushups")
    assert listing.num_folds == 3
    assert {item.name.rpartition("/")[2]: (item.labels, item.roles) for item in listing.items} == {
        "v_ApplyEyeMakeup_g08_c01.avi": (("ApplyEyeMakeup",), ("train", "test", "train")),
        "v_Archery_g01_c01.avi": (("Archery",), ("test", "train", "test")),
        "v_HandStandPushups_g01_c01.avi": (("HandstandPushups",), ("test", "train", "unused")),
    }
    assert len(listing.items) == 3
    assert listing.missing == ("Archery/v_Archery_g08_c01.avi",)
    assert listing.unlisted == ("UCF-101/Archery/v_Archery_g99_c01.avi",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classInd.txt", "1 Archery\n3 Bowling\n", "classInd.txt, line 2: '3 Bowling'; expected `2 CLASS`, each class once"),
        (
            "trainlist01.txt",
            "Ironing/v_Ironing_g01_c01.avi 1\n",
            r"line 1: 'Ironing/v_\S+ 1' is of no class of classInd.txt; expected",
        ),
        ("trainlist01.txt", "Archery/v_Archery_g08_c01.avi 1\n", r"line 1: the class of 'Archery/\S+ 1' is 2 in classInd.txt"),
        (
            "trainlist01.txt",
            "Archery/v_Archery_g01_c01.avi 2\n",
            "line 2: Archery/v_Archery_g01_c01.avi is listed twice in fold 1, and",
        ),
    ],
)
def test_a_wrong_list_is_an_error_with_file_line_and_what_was_expected(folder, name, content, message):
    with pytest.raises(ValueError, match=message):
        DATASETS["ucf101"].list(folder({**FILES, f"{LISTS}/{name}": content}), "all")


def test_an_absent_fold_and_a_split_are_errors(folder):
    root = folder(FILES)
    with pytest.raises(ValueError, match="split: 'train' is not one of all; its folds are in the metadata of all clips"):
        DATASETS["ucf101"].list(root, "train")
    (root / LISTS / "testlist03.txt").unlink()
    with pytest.raises(
        ValueError, match=r"holds no testlist03.txt \(the test clips of fold 3\); expected it in the folder or below"
    ):
        DATASETS["ucf101"].list(root, "all")
