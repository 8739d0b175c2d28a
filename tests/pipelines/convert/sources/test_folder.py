import json

import pytest

from tests.pipelines.convert.sources.conftest import write_tar
from xkd.pipelines.convert.sources import DATASETS

list_folder = DATASETS["folder"].list


def empty(*names):
    return dict.fromkeys(names, b"")


def names(listing):
    return [item.name for item in listing.items]


def test_split_folders_are_listed_one_at_a_time_with_one_class_list(lay_out):
    root = lay_out(empty("train/b/1.mp4", "train/a/2.mp4", "test/c/3.mp4", "test/a/4.avi", "train/5.mp4", "train/notes.md"))
    train, test = list_folder(root, "train"), list_folder(root, "test")
    assert train.classes == test.classes == ("a", "b", "c")
    assert names(train) == ["train/a/2.mp4", "train/b/1.mp4"]
    assert names(test) == ["test/a/4.avi", "test/c/3.mp4"]
    assert [item.labels for item in test.items] == [("a",), ("c",)]
    assert {item.split for item in test.items} == {"test"}
    assert train.unlisted == ("train/5.mp4",)


def test_class_folders_without_splits_are_any_split(lay_out):
    listing = list_folder(lay_out(empty("dog/1.mp4", "cat/nested/2.mkv")), "val")
    assert names(listing) == ["cat/nested/2.mkv", "dog/1.mp4"]
    assert [item.labels for item in listing.items] == [("cat",), ("dog",)]
    assert not listing.has_lists


def test_every_visible_file_is_an_item_and_hidden_ones_are_none(folder):
    root = folder(empty("a/x.mp4", "a/notes.txt", "a/.DS_Store", ".git/config", "readme.md", "a/new\nline ü.mp4"))
    (root / "a" / "dangling.mp4").symlink_to(root / "nowhere")
    assert names(list_folder(root, "train")) == ["a/dangling.mp4", "a/new\nline ü.mp4", "a/notes.txt", "a/x.mp4"]


def test_an_absent_split_and_a_mixed_layout_are_errors(folder):
    root = folder(empty("train/a/1.mp4", "test/a/2.mp4"))
    with pytest.raises(ValueError, match="has no split 'val', only test, train"):
        list_folder(root, "val")
    (root / "dog").mkdir()
    (root / "dog" / "3.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"has split folders \(test, train\) beside others \(dog\)"):
        list_folder(root, "train")


def test_a_folder_without_clips_is_an_error(folder):
    with pytest.raises(ValueError, match="split 'train' holds no files; expected class folders of media files"):
        list_folder(folder(empty("loose.mp4")), "train")


def test_split_files_name_the_clips_of_the_splits(lay_out):
    files = empty("dog/1 a.mp4", "dog/2.mp4", "cat/3.mp4", "cat/4.mp4", "cat/notes.md")
    root = lay_out({**files, "train.txt": "dog/1 a.mp4\ndog/gone.mp4\n", "test.txt": "cat/3.mp4\r\n\r\ndog/2.mp4"})
    train, test = list_folder(root, "train"), list_folder(root, "test")
    assert train.classes == test.classes == ("cat", "dog")
    assert (names(train), train.missing, train.unlisted) == (["dog/1 a.mp4"], ("dog/gone.mp4",), ("cat/4.mp4",))
    assert [(item.name, item.labels) for item in test.items] == [("cat/3.mp4", ("cat",)), ("dog/2.mp4", ("dog",))]
    with pytest.raises(ValueError, match=r"has no split file val.txt, only train.txt, test.txt"):
        list_folder(root, "val")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("dog/1.mp4\n2.mp4\n", "train.txt, line 2: '2.mp4' has no class folder; expected CLASS/FILE"),
        ("dog/1.mp4\n\ndog/1.mp4\n", "train.txt, line 3: 'dog/1.mp4' is listed twice, on line 1 too"),
    ],
)
def test_a_wrong_split_file_is_an_error_with_file_and_line(folder, lines, message):
    with pytest.raises(ValueError, match=message):
        list_folder(folder({**empty("dog/1.mp4"), "train.txt": lines}), "train")


def webdataset(root):
    """Two tars of a split with class names, one of another with numbers and a caption, keys that repeat, and a loose file."""
    write_tar(root / "train-000000.tar", {"1.mp4": b"a", "1.json": json.dumps({"label": "dog"}), "2.x.mp4": b"b", "2.cls": "cat\n"})
    write_tar(
        root / "train-000001.tar", {"1.mp4": b"c", "1.json": json.dumps({"labels": ["cow", "dog"], "text": "x"}), "1.txt": "?"}
    )
    write_tar(root / "test.tar", {"sub/1.mp4": b"d", "sub/1.cls": "10", "sub/1.txt": "a caption", "note.json": "{}"})
    (root / "loose.mp4").write_bytes(b"")
    return root


def test_webdataset_tars_carry_their_labels(tmp_path):
    root = webdataset(tmp_path)
    train, test = list_folder(root, "train"), list_folder(root, "test")
    assert train.classes == test.classes == ("10", "cat", "cow", "dog")
    assert [(item.name, item.labels, item.location.read_bytes()) for item in train.items] == [
        ("train-000000.tar/1.mp4", ("dog",), b"a"),
        ("train-000000.tar/2.x.mp4", ("cat",), b"b"),
        ("train-000001.tar/1.mp4", ("cow", "dog"), b"c"),
    ]
    assert [(item.name, item.labels) for item in test.items] == [("test.tar/sub/1.mp4", ("10",))]
    assert train.unlisted == ("loose.mp4",)
    assert len({item.key for item in train.items}) == 3


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"1.mp4": "", "2.mp4": "", "2.cls": "0"},
            r'train.tar:1.mp4: has no label; expected 1.cls, or 1.json with "label" or "labels"',
        ),
        ({"1.mp4": "", "1.json": "{"}, r"train.tar:1.json: is not json"),
        ({"1.mp4": "", "1.wav": "", "1.cls": "0"}, "train.tar: the sample 1 has 2 media members, 1.mp4 and 1.wav; keep one"),
    ],
)
def test_a_wrong_sample_is_an_error_that_names_tar_and_member(tmp_path, members, message):
    write_tar(tmp_path / "train.tar", members)
    with pytest.raises(ValueError, match=message):
        list_folder(tmp_path, "train")


def test_tars_of_another_split_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds tars of the splits test, train, where 'val' was asked for"):
        list_folder(webdataset(tmp_path), "val")
    write_tar(tmp_path / "more.tar", {"9.mp4": "", "9.cls": "0"})
    with pytest.raises(ValueError, match=r"where 'train' was asked for; \S+more.tar is of none"):
        list_folder(tmp_path, "train")
