import pytest

from xkd.pipelines.convert.sources import DATASETS

INDICES = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/03v3yw,"Keys jangling"
2,/m/0k4j,"Car"
3,/m/0ytgt,"Child speech, kid speaking"
"""
EVAL = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=5, num_segs=5, num_unique_labels=4, num_positive_labels=7
# YTID, start_seconds, end_seconds, positive_labels
-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"
--4gqARaEJE, 0.000, 10.000, "/m/0ytgt"
_whole_file, 30.000, 40.000, "/m/09x0r,/m/0ytgt"
Y0123456789, 5.000, 12.500, "/m/09x0r"
gone0000000, 30.000, 40.000, "/m/0k4j"
"""
BALANCED = "# one\n# two\n# three\n" + '--PJHxphWEs, 30.000, 40.000, "/m/09x0r"\n'
UNBALANCED = BALANCED.replace("--PJHxphWEs, 30", "_UNBALANCED, 31")
FILES = {
    "class_labels_indices.csv": INDICES,
    "eval_segments.csv": EVAL,
    "balanced_train_segments.csv": BALANCED,
    "unbalanced_train_segments.csv": UNBALANCED,
    "eval/-0RWZT-miFs_000420.mp4": b"",
    "eval/--4gqARaEJE_0_10.mkv": b"",
    "eval/_whole_file.mp4": b"",
    "eval/YY0123456789.wav": b"",
    "bal/--PJHxphWEs_30000_40000.mp4": b"",
    "unbal/_UNBALANCED_31.mp4": b"",
    "unbal/stranger000_31.mp4": b"",
}


def test_a_clip_has_all_its_labels_and_a_whole_video_its_time_range(lay_out):
    listing = DATASETS["audioset"].list(lay_out(FILES), "eval")
    assert listing.classes == ("Speech", "Keys jangling", "Car", "Child speech, kid speaking")
    assert [(item.name, item.labels, item.time_range) for item in listing.items] == [
        ("eval/-0RWZT-miFs_000420.mp4", ("Keys jangling", "Car"), None),
        ("eval/--4gqARaEJE_0_10.mkv", ("Child speech, kid speaking",), None),
        ("eval/_whole_file.mp4", ("Speech", "Child speech, kid speaking"), (30.0, 40.0)),
        ("eval/YY0123456789.wav", ("Speech",), (5.0, 12.5)),
    ]
    assert listing.missing == ("gone0000000_30_40",)
    assert listing.unlisted == ("unbal/stranger000_31.mp4",)
    assert listing.official == 5


def test_train_is_its_two_parts_together(lay_out):
    root = lay_out(FILES)
    parts = {split: DATASETS["audioset"].list(root, split) for split in ("train", "balanced_train", "unbalanced_train")}
    names = {split: [item.name for item in listing.items] for split, listing in parts.items()}
    assert names["train"] == names["balanced_train"] + names["unbalanced_train"]
    assert names["train"] == ["bal/--PJHxphWEs_30000_40000.mp4", "unbal/_UNBALANCED_31.mp4"]
    assert parts["train"].official is None  # these lists do not say it


@pytest.mark.parametrize(
    "name",
    [
        *("{}_000420", "{}_420", "{}_420_430", "{}_000420_000430", "{}_420.000_430.000", "{}_420000_430000"),
        *("Y{}_000420", "Y{}_420_430", "Y{}_420000_430000"),
    ],
)
def test_a_clip_is_found_under_the_usual_names(folder, name):
    root = folder({**FILES, "eval/-0RWZT-miFs_000420.mp4": b"", "eval/-0RWZT-miFs.mp4": b""})
    (root / "eval" / "-0RWZT-miFs_000420.mp4").rename(root / f"{name.format('-0RWZT-miFs')}.webm")
    item = DATASETS["audioset"].list(root, "eval").items[0]
    assert (item.name, item.time_range) == (f"{name.format('-0RWZT-miFs')}.webm", None)


def test_two_segments_of_one_video_are_two_items(folder):
    segments = EVAL + '_whole_file, 90.000, 100.000, "/m/0k4j"\n'
    listing = DATASETS["audioset"].list(folder({**FILES, "eval_segments.csv": segments}), "eval")
    first, second = (item for item in listing.items if item.name == "eval/_whole_file.mp4")
    assert (first.time_range, second.time_range) == ((30.0, 40.0), (90.0, 100.0))
    assert first.key != second.key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"eval_segments.csv": EVAL.replace("/m/0k4j", "/m/0")},
            r"eval_segments.csv, line 4: the label '/m/0' is none of the 4 of",
        ),
        (
            {"eval_segments.csv": EVAL.replace("420.000, 430", "4:20, 430")},
            "line 4: start_seconds is '4:20'; expected a number, 0 or",
        ),
        (
            {"eval_segments.csv": EVAL.replace(", 430.000", "")},
            "line 4: has 3 values; expected 4: YTID,start_seconds,end_seconds,pos",
        ),
        (
            {"eval_segments.csv": EVAL + EVAL.splitlines()[3]},
            r"line 9: the segment -0RWZT-miFs_420_430 is listed already",
        ),
        ({"class_labels_indices.csv": INDICES.replace("mid", "id")}, "line 1: the header is 'index,id,display_name', without mid"),
        (
            {"class_labels_indices.csv": INDICES.replace("2,", "3,")},
            "line 4: index is 3; expected 2: the indices go up by one from",
        ),
    ],
)
def test_a_wrong_list_is_an_error_with_file_line_and_what_was_expected(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        DATASETS["audioset"].list(folder({**FILES, **changes}), "eval")


def test_an_absent_list_is_an_error_that_names_it(folder):
    files = {name: content for name, content in FILES.items() if name != "unbalanced_train_segments.csv"}
    root = folder(files)
    assert len(DATASETS["audioset"].list(root, "eval").items) == 4
    with pytest.raises(
        ValueError, match=r"holds no unbalanced_train_segments.csv \(the segments of unbalanced_train\); expected it in"
    ):
        DATASETS["audioset"].list(root, "train")
    with pytest.raises(ValueError, match="split: 'val' is not one of train, balanced_train, unbalanced_train, eval"):
        DATASETS["audioset"].list(root, "val")
