import pytest

from xkd.pipelines.convert.sources import DATASETS
from xkd.pipelines.convert.sources.kinetics import KINETICS_SOUND

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
TRAIN = (
    HEADER
    + """testifying,---QUuC4vJs,84,94,train,0
playing accordion,_0a1b2c3d4E,3,13,train,0
"cooking, on campfire",-3B32lodo2M,59,69,train,1
playing accordion,0WpjgHF9iHs,100,110,train,0
bowling,Zz0123456_-,0,10,train,0
"""
)
VAL = HEADER + "bowling,-bowling_id,7,17,val,0\ntestifying,abcdefghijk,1000,1010,val,0\n"
CLASSES = ("bowling", "cooking,_on_campfire", "playing_accordion", "testifying")
FILES = {
    "annotations/train.csv": TRAIN,
    "annotations/val.csv": VAL,
    "train/---QUuC4vJs_000084_000094.mp4": b"a",
    "train/_0a1b2c3d4E_000003_000013.mp4": b"b",
    "train/-3B32lodo2M_000059_000069.mp4": b"c",
    "train/0WpjgHF9iHs_000100_000110.mp4": b"",
    "train/inNoList000_000001_000011.mp4": b"d",
    "val/abcdefghijk_001000_001010.mp4": b"e",
    "test/fileofsplit_000001_000011.mp4": b"f",
}


def found(listing):
    return [(item.name, item.labels) for item in listing.items]


def test_the_clips_of_a_list_are_found_missing_ones_and_unlisted_ones_named(lay_out):
    listing = DATASETS["kinetics400"].list(lay_out(FILES), "train")
    assert listing.classes == CLASSES
    assert found(listing) == [
        ("train/---QUuC4vJs_000084_000094.mp4", ("testifying",)),
        ("train/_0a1b2c3d4E_000003_000013.mp4", ("playing_accordion",)),
        ("train/-3B32lodo2M_000059_000069.mp4", ("cooking,_on_campfire",)),
        ("train/0WpjgHF9iHs_000100_000110.mp4", ("playing_accordion",)),
    ]
    assert [item.location.num_bytes() for item in listing.items] == [1, 1, 1, 0]
    assert listing.missing == ("Zz0123456_-_000000_000010.mp4",)
    assert listing.unlisted == ("train/inNoList000_000001_000011.mp4",)  # test/ has no list, so its files cannot be judged


def test_the_splits_have_the_same_classes(lay_out):
    listing = DATASETS["kinetics400"].list(lay_out(FILES), "val")
    assert listing.classes == CLASSES
    assert found(listing) == [("val/abcdefghijk_001000_001010.mp4", ("testifying",))]
    assert listing.missing == ("-bowling_id_000007_000017.mp4",)
    assert {item.split for item in listing.items} == {"val"}


def test_kinetics_sound_is_the_clips_of_its_classes(lay_out):
    listing = DATASETS["kinetics_sound"].list(lay_out(FILES), "train")
    assert listing.classes == KINETICS_SOUND
    assert [item.labels for item in listing.items] == [("playing_accordion",), ("playing_accordion",)]
    assert listing.missing == ("Zz0123456_-_000000_000010.mp4",)
    assert listing.unlisted == ("train/inNoList000_000001_000011.mp4",)


def test_kinetics_sound_has_its_32_classes():
    assert len(set(KINETICS_SOUND)) == 32
    assert list(KINETICS_SOUND) == sorted(KINETICS_SOUND)


def test_class_folders_are_found_by_the_same_list(lay_out):
    files = {name.replace("train/", "k400/train/any class/"): content for name, content in FILES.items()}
    listing = DATASETS["kinetics400"].list(lay_out(files), "train")
    assert [item.name for item in listing.items] == [
        f"k400/train/any class/{name}_{times}.mp4"
        for name, times in [
            ("---QUuC4vJs", "000084_000094"),
            ("_0a1b2c3d4E", "000003_000013"),
            ("-3B32lodo2M", "000059_000069"),
            ("0WpjgHF9iHs", "000100_000110"),
        ]
    ]


def test_class_folders_without_a_list_are_taken_as_they_are(lay_out):
    root = lay_out(
        {
            "train/playing accordion/-3B32lodo2M_000059_000069.mp4": b"",
            "train/bowling/_0a1b2c3d4E_000003_000013.mp4": b"",
            "train/testifying/---QUuC4vJs_000084_000094.mp4": b"",
            "val/archery/abcdefghijk_001000_001010.mp4": b"",
        }
    )
    listing = DATASETS["kinetics400"].list(root, "train")
    assert listing.classes == ("archery", "bowling", "playing_accordion", "testifying")
    assert [item.labels for item in listing.items] == [("bowling",), ("playing_accordion",), ("testifying",)]
    assert not listing.has_lists
    sound = DATASETS["kinetics_sound"].list(root, "train")
    assert sound.classes == KINETICS_SOUND
    assert [item.labels for item in sound.items] == [("bowling",), ("playing_accordion",)]


def test_a_link_that_leads_nowhere_is_missing(folder):
    root = folder(FILES)
    (root / "train" / "Zz0123456_-_000000_000010.mp4").symlink_to(root / "nowhere.mp4")
    listing = DATASETS["kinetics400"].list(root, "train")
    assert listing.missing == ("Zz0123456_-_000000_000010.mp4",)
    assert "train/Zz0123456_-_000000_000010.mp4" in listing.unlisted


def test_the_same_clip_in_two_places_is_an_error_that_names_both(folder):
    root = folder({**FILES, "replacement/_0a1b2c3d4E_000003_000013.mp4": b""})
    both = r"replacement/_0a1\S+ and train/_0a1\S+"
    with pytest.raises(ValueError, match=rf"1 clip is there more than once: {both}; keep one file of each .*extract these over"):
        DATASETS["kinetics400"].list(root, "train")


def test_all_clips_that_are_there_twice_are_counted_in_one_error_and_the_first_are_named(folder):
    clips = [f"{number:011d}_000000_000010" for number in range(5)]
    rows = "".join(f"bowling,{number:011d},0,10,train\n" for number in range(5))
    twice = {f"{place}/{clip}.mp4": b"" for clip in clips for place in ("train/bowling", "replacement")}
    root = folder({"train.csv": f"label,youtube_id,time_start,time_end,split\n{rows}", **twice})
    with pytest.raises(ValueError, match="5 clips are there more than once: ") as error:
        DATASETS["kinetics400"].list(root, "train")
    assert [clip in str(error.value) for clip in clips] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        (
            "label,id,start\n",
            r"train.csv, line 1: the header is 'label,id,start', without youtube_id, time_start, time_end, split; exp",
        ),
        ("", "train.csv, line 1: the header is 'empty', without label, youtube_id"),
        (
            HEADER + "bowling,abc,1\n",
            "train.csv, line 2: has 3 values; expected 6: label,youtube_id,time_start,time_end,split,is_cc",
        ),
        (HEADER + "bowling,abc,one,11,train,0\n", "train.csv, line 2: time_start is 'one'; expected a whole number, 0 or more"),
        (HEADER + "bowling,abc,1,11,dev,0\n", "train.csv, line 2: split is 'dev'; expected train, val, test"),
        (HEADER + ",abc,1,11,train,0\n", "train.csv, line 2: label or youtube_id is empty"),
        (HEADER + 2 * "bowling,abc,1,11,train,0\n", "train.csv, line 3: the clip abc_000001_000011 is listed twice"),
        (HEADER + "bowling,abc,1,11,val,0\n", "no clip of train.csv is of split 'train', only of val"),
        (b"\xff\xfe\x00\x01", "train.csv: is not text in utf-8"),
    ],
)
def test_a_wrong_list_is_an_error_with_file_line_and_what_was_expected(folder, csv, message):
    with pytest.raises(ValueError, match=message):
        DATASETS["kinetics400"].list(folder({"train.csv": csv, "train/abc_000001_000011.mp4": b""}), "train")


def test_lists_of_another_name_are_an_error(folder):
    with pytest.raises(ValueError, match=r"none of its csv files \(all.csv\) is named train.csv, val.csv or test.csv"):
        DATASETS["kinetics400"].list(folder({"all.csv": TRAIN}), "train")


def test_lists_without_any_clip_are_an_error_that_names_the_first(folder):
    with pytest.raises(
        ValueError, match="none of the 5 clips that are listed for split 'train' is there; the first is ---QUuC4vJs_"
    ):
        DATASETS["kinetics400"].list(folder({"train.csv": TRAIN}), "train")
