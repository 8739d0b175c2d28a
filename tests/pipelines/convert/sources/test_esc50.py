import pytest

from xkd.pipelines.convert.sources import DATASETS

CSV = """filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
1-100038-A-14.wav,1,14,chirping_birds,False,100038,A
2-100210-B-36.wav,2,36,vacuum_cleaner,False,100210,B
5-9032-A-0.wav,5,0,dog,True,9032,A
"""
FILES = {
    "ESC-50-master/meta/esc50.csv": CSV,
    "ESC-50-master/audio/1-100032-A-0.wav": b"",
    "ESC-50-master/audio/1-100038-A-14.wav": b"",
    "ESC-50-master/audio/5-9032-A-0.wav": b"",
    "ESC-50-master/audio/5-9032-A-1.wav": b"",
}


def test_all_clips_are_listed_once_with_their_roles_in_the_folds(lay_out):
    listing = DATASETS["esc50"].list(lay_out(FILES), "all")
    assert (listing.classes, listing.num_folds) == (("dog", "chirping_birds", "vacuum_cleaner"), 5)
    assert [(item.name.rpartition("/")[2], item.labels, item.roles) for item in listing.items] == [
        ("1-100032-A-0.wav", ("dog",), ("test", "train", "train", "train", "train")),
        ("1-100038-A-14.wav", ("chirping_birds",), ("test", "train", "train", "train", "train")),
        ("5-9032-A-0.wav", ("dog",), ("train", "train", "train", "train", "test")),
    ]
    assert listing.missing == ("2-100210-B-36.wav",)
    assert listing.unlisted == ("ESC-50-master/audio/5-9032-A-1.wav",)
    assert DATASETS["esc50"].streams == "audio"


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        (
            CSV.replace("category", "class"),
            r"esc50.csv, line 1: the header is \S+, without category; expected filename,fold,target,cat",
        ),
        (CSV.replace("wav,5,", "wav,6,"), "esc50.csv, line 5: fold is 6; expected 1 to 5"),
        (CSV.replace("wav,5,0,", "wav,5,14,"), "esc50.csv, line 5: target 14 is 'dog' here and 'chirping_birds' above"),
        (CSV.replace("wav,5,0,", "wav,5,7,"), "esc50.csv: two targets have one category; expected one target for each"),
        (CSV + "5-9032-A-0.wav,5,0,dog,True,9032,A\n", "esc50.csv, line 6: 5-9032-A-0.wav is listed twice"),
    ],
)
def test_a_wrong_list_is_an_error_with_file_line_and_what_was_expected(folder, csv, message):
    with pytest.raises(ValueError, match=message):
        DATASETS["esc50"].list(folder({**FILES, "ESC-50-master/meta/esc50.csv": csv}), "all")
