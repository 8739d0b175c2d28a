import pytest

from xkd.pipelines.convert.sources import DATASETS

VOCABULARY = "0,Accordion,/m/0mkg\n1,Bark,/m/05tny_\n2,Dog,/m/0bt9lr\n3,Music,/m/04rlf\n"
DEV = """fname,labels,mids,split
64760,"Accordion,Music","/m/0mkg,/m/04rlf",train
16399,Bark,/m/05tny_,train
16401,"Bark,Dog","/m/05tny_,/m/0bt9lr",val
16402,Dog,/m/0bt9lr,val
"""
EVAL = 'fname,labels,mids\n37199,"Music,Accordion","/m/04rlf,/m/0mkg"\n'
FILES = {
    "FSD50K.ground_truth/vocabulary.csv": VOCABULARY,
    "FSD50K.ground_truth/dev.csv": DEV,
    "FSD50K.ground_truth/eval.csv": EVAL,
    "FSD50K.dev_audio/64760.wav": b"",
    "FSD50K.dev_audio/16399.wav": b"",
    "FSD50K.dev_audio/16401.wav": b"",
    "FSD50K.eval_audio/37199.wav": b"",
    "FSD50K.eval_audio/16402.wav": b"",
}


def test_the_splits_are_listed_with_all_labels(lay_out):
    root = lay_out(FILES)
    listings = {split: DATASETS["fsd50k"].list(root, split) for split in ("train", "val", "dev", "eval")}
    found = {split: [(item.name, item.labels) for item in listing.items] for split, listing in listings.items()}
    assert found["train"] == [
        ("FSD50K.dev_audio/64760.wav", ("Accordion", "Music")),
        ("FSD50K.dev_audio/16399.wav", ("Bark",)),
    ]
    assert found["val"] == [("FSD50K.dev_audio/16401.wav", ("Bark", "Dog"))]
    assert found["dev"] == found["train"] + found["val"]
    assert found["eval"] == [("FSD50K.eval_audio/37199.wav", ("Music", "Accordion"))]
    assert [listing.missing for listing in listings.values()] == [
        (),
        ("FSD50K.dev_audio/16402.wav",),
        ("FSD50K.dev_audio/16402.wav",),
        (),
    ]
    assert {listing.unlisted for listing in listings.values()} == {("FSD50K.eval_audio/16402.wav",)}
    assert {listing.classes for listing in listings.values()} == {("Accordion", "Bark", "Dog", "Music")}


def test_one_half_can_be_listed_without_the_lists_of_the_other(lay_out):
    listing = DATASETS["fsd50k"].list(lay_out({n: c for n, c in FILES.items() if n != "FSD50K.ground_truth/dev.csv"}), "eval")
    assert (len(listing.items), listing.unlisted) == (1, ("FSD50K.eval_audio/16402.wav",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dev.csv", DEV.replace("Bark,Dog", "Bark,Cat"), "dev.csv, line 4: the label 'Cat' is none of the 4 of vocabulary.csv"),
        ("dev.csv", DEV.replace(",val", ",eval"), "dev.csv, line 4: split is 'eval'; expected train or val"),
        ("dev.csv", DEV + "16399,Bark,/m/05tny_,val\n", "dev.csv, line 6: 16399 is listed twice"),
        ("dev.csv", EVAL, "dev.csv, line 1: the header is 'fname,labels,mids', without split; expected fname,labels,mids,split"),
        (
            "vocabulary.csv",
            VOCABULARY.replace("2,Dog", "2,Bark"),
            "vocabulary.csv, line 3: the class is 2,Bark; expected the index 2",
        ),
    ],
)
def test_a_wrong_list_is_an_error_with_file_line_and_what_was_expected(folder, name, content, message):
    with pytest.raises(ValueError, match=message):
        DATASETS["fsd50k"].list(folder({**FILES, f"FSD50K.ground_truth/{name}": content}), "dev")
