from pathlib import Path

import pytest

from xkd.pipelines.convert.sources.folder import list_folder


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def names(listing):
    return [item.name for item in listing.items]


def test_split_folders_are_listed_one_at_a_time_with_one_class_list(tmp_path):
    root = tree(tmp_path, "train/b/1.mp4", "train/a/2.mp4", "test/c/3.mp4", "test/a/4.avi")
    train, test = list_folder(root, "train"), list_folder(root, "test")
    assert train.classes == test.classes == ("a", "b", "c")
    assert names(train) == ["train/a/2.mp4", "train/b/1.mp4"]
    assert names(test) == ["test/a/4.avi", "test/c/3.mp4"]
    assert [item.labels for item in test.items] == [("a",), ("c",)]
    assert {item.split for item in test.items} == {"test"}


def test_class_folders_without_splits_are_any_split(tmp_path):
    root = tree(tmp_path, "dog/1.mp4", "cat/nested/2.mkv")
    listing = list_folder(root, "val")
    assert names(listing) == ["cat/nested/2.mkv", "dog/1.mp4"]
    assert [item.labels for item in listing.items] == [("cat",), ("dog",)]


def test_every_visible_file_is_an_item_and_hidden_ones_are_none(tmp_path):
    root = tree(tmp_path, "a/x.mp4", "a/notes.txt", "a/.DS_Store", ".git/config", "readme.md")
    (tmp_path / "a" / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    assert names(list_folder(root, "train")) == ["a/dangling.mp4", "a/notes.txt", "a/x.mp4"]


def test_an_absent_split_and_a_mixed_layout_are_errors(tmp_path):
    root = tree(tmp_path, "train/a/1.mp4", "test/a/2.mp4")
    with pytest.raises(ValueError, match="has no split 'val', only test, train"):
        list_folder(root, "val")
    tree(root, "dog/3.mp4")
    with pytest.raises(ValueError, match=r"has split folders \(test, train\) beside others \(dog\)"):
        list_folder(root, "train")
