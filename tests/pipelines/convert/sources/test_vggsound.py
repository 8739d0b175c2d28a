import pytest

from xkd.pipelines.convert.sources import DATASETS

CSV = """---g-f_I2yQ,1,people marching,train
--0PQM4-hqg,30,"waterfall burbling",train
--56QUhyDQM,185,"playing tennis, or badminton",test
_-underscore,20,people marching,test
-gone-000-0,7,only in the test split,test
"""
FILES = {
    "data/vggsound.csv": CSV,
    "video/---g-f_I2yQ_000001.mp4": b"",
    "video/--0PQM4-hqg.mp4": b"",
    "video/--56QUhyDQM_000185.mp4": b"",
    "video/_-underscore_20_30.mp4": b"",
    "video/stranger000_000001.mp4": b"",
}


def test_a_split_is_listed_with_the_classes_of_the_whole_list(lay_out):
    root = lay_out(FILES)
    train, test = DATASETS["vggsound"].list(root, "train"), DATASETS["vggsound"].list(root, "test")
    assert train.classes == test.classes
    assert train.classes == ("only in the test split", "people marching", "playing tennis, or badminton", "waterfall burbling")
    assert [(item.name, item.labels, item.time_range) for item in train.items] == [
        ("video/---g-f_I2yQ_000001.mp4", ("people marching",), None),
        ("video/--0PQM4-hqg.mp4", ("waterfall burbling",), (30.0, 40.0)),
    ]
    assert [(item.name, item.labels) for item in test.items] == [
        ("video/--56QUhyDQM_000185.mp4", ("playing tennis, or badminton",)),
        ("video/_-underscore_20_30.mp4", ("people marching",)),
    ]
    assert (train.missing, test.missing) == ((), ("-gone-000-0_000007.mp4",))
    assert train.unlisted == test.unlisted == ("video/stranger000_000001.mp4",)


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("a,1,with, commas,train\n", "vggsound.csv, line 1: has 5 values; expected 4: id,start,label,split"),
        ("id,start,label,split\n", "vggsound.csv, line 1: start is 'start'; expected a whole number, 0 or more"),
        (CSV + "a,1,people marching,val\n", "vggsound.csv, line 6: split is 'val'; expected train, test"),
        (CSV + "a,1,,train\n", "vggsound.csv, line 6: the label is empty"),
        (CSV + "---g-f_I2yQ,1,people marching,test\n", r"line 6: the clip ---g-f_I2yQ_000001 is listed twice, on line 1 too"),
    ],
)
def test_a_wrong_list_is_an_error_with_file_line_and_what_was_expected(folder, csv, message):
    with pytest.raises(ValueError, match=message):
        DATASETS["vggsound"].list(folder({**FILES, "data/vggsound.csv": csv}), "train")
