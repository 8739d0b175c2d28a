import gzip
import multiprocessing
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.pipelines.convert.sources.conftest import write_files, write_tar
from xkd.pipelines.convert.sources.tree import read_tree


def contents(tree):
    return {name: location.read_bytes() for name, location in tree.files.items()}


def test_a_tar_counts_as_what_would_be_there_had_it_been_extracted_where_it_lies(tmp_path):
    write_files(tmp_path, {"lists/a.csv": "a", "train/1.mp4": "1"})
    write_tar(tmp_path / "train" / "part_0.tar", {"./2.mp4": "22", "more/3.mp4": "333", ".hidden": "", "._2.mp4": ""})
    write_tar(tmp_path / "val.TAR", {"val/4.mp4": ""})
    assert contents(read_tree(tmp_path)) == {
        "lists/a.csv": b"a",
        "train/1.mp4": b"1",
        "train/2.mp4": b"22",
        "train/more/3.mp4": b"333",
        "val/4.mp4": b"",
    }


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_all_formats_and_long_names_are_read_by_offset(tmp_path, form):
    name = f"{'long' * 20}/{'ü' * 40}.mp4"
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
        for number in range(3):
            (tmp_path / "data").write_bytes(bytes([number]) * 1000 * number)
            tar.add(tmp_path / "data", f"{number}{name}")
    (tmp_path / "data").unlink()
    assert contents(read_tree(tmp_path)) == {f"{number}{name}": bytes([number]) * 1000 * number for number in range(3)}


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    write_files(tmp_path, {"elsewhere/a/1.mp4": "", "root/b/2.mp4": ""})
    (tmp_path / "root" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "root" / "b" / "up").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "b" / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    tree = read_tree(tmp_path / "root")
    assert list(tree.files) == ["a/1.mp4", "b/2.mp4", "b/dangling.mp4"]
    assert tree.dangling == {"b/dangling.mp4"}
    assert tree.files["b/dangling.mp4"].num_bytes() == 0


def test_links_in_circles_and_through_files_are_dangling(tmp_path):
    write_files(tmp_path, {"a/1.mp4": "1"})
    (tmp_path / "a" / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "a" / "through.mp4").symlink_to("1.mp4/2.mp4")
    tree = read_tree(tmp_path)
    assert tree.dangling == {"a/loop.mp4", "a/through.mp4"}
    assert {name: location.num_bytes() for name, location in tree.files.items()} == {
        "a/1.mp4": 1,
        "a/loop.mp4": 0,
        "a/through.mp4": 0,
    }


def linked_folder(root):
    """Links of every kind: (folder with all of them in `in`, beside a file that one leads to)."""
    write_files(root / "in", {"a/1.mp4": "1", "b/deep/2.mp4": "22", ".store/3.mp4": "333", "empty/.keep": ""})
    write_files(root, {"beside.mp4": "4444"})
    (root / "in" / "b" / "hard.mp4").hardlink_to(root / "in" / "a" / "1.mp4")
    for name, target in {
        "b/same.mp4": "deep/2.mp4",
        "b/other.mp4": "../a/1.mp4",
        "b/chain.mp4": "other.mp4",
        "b/hidden.mp4": "../.store/3.mp4",
        "b/beside.mp4": "../../beside.mp4",
        "b/absolute.mp4": str(root / "beside.mp4"),
        "b/nowhere.mp4": "../a/none.mp4",
        "b/through.mp4": "../a/1.mp4/none.mp4",
        "b/loop.mp4": "loop.mp4",
        "b/.unseen.mp4": "../a/1.mp4",
        "folder": "b/deep",
        "into.mp4": "folder/2.mp4",
        "out.mp4": "folder/../hard.mp4",
        "b/deep/up": "..",
        "c": "b",
        "e": "empty",
    }.items():
        (root / "in" / name).symlink_to(target)
    (root / "in" / "hard link.mp4").hardlink_to(root / "in" / "b" / "same.mp4")  # of what leads nowhere from here
    return root / "in"


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_links_in_a_tar_are_what_they_would_be_had_it_been_extracted(tmp_path, form):
    root = linked_folder(tmp_path / "folder")
    (tmp_path / "tar" / "in").mkdir(parents=True)
    (tmp_path / "tar" / "beside.mp4").write_text("4444")
    subprocess.run(["tar", f"--format={form}", "-cf", tmp_path / "tar" / "in" / "all.tar", "-C", root, "."], check=True)
    folder, tar = read_tree(root), read_tree(tmp_path / "tar" / "in")
    assert list(tar.files) == list(folder.files)
    assert tar.dangling == folder.dangling
    assert len(tar.dangling) >= 4
    assert {"folder/2.mp4", "c/deep/2.mp4", "b/hard.mp4", "b/beside.mp4", "b/hidden.mp4", "into.mp4", "out.mp4"} <= tar.files.keys()
    for name, location in tar.files.items():
        assert location.num_bytes() == folder.files[name].num_bytes(), name
        assert name in tar.dangling or location.read_bytes() == folder.files[name].read_bytes(), name


def test_a_link_in_a_tar_to_a_folder_outside_is_an_error(tmp_path):
    write_files(tmp_path, {"elsewhere/1.mp4": "1", "root/a/2.mp4": "2"})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("../elsewhere")
    subprocess.run(["tar", "-cf", tmp_path / "root" / "a.tar", "-C", tmp_path / "in", "link"], check=True)
    with pytest.raises(ValueError, match=r"a.tar: its link link leads to a folder outside of it, .*elsewhere; extract it"):
        read_tree(tmp_path / "root")


def test_a_file_that_is_there_twice_is_an_error_that_names_both(tmp_path):
    write_files(tmp_path, {"train/1.mp4": ""})
    write_tar(tmp_path / "train" / "a.tar", {"1.mp4": ""})
    with pytest.raises(
        ValueError, match=r"train/1.mp4 is there twice, as \S+train/1.mp4 and as \S+a.tar:1.mp4; remove one of them"
    ):
        read_tree(tmp_path).files  # noqa: B018


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.zst"])
def test_a_compressed_tar_is_refused_with_a_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{name}: is compressed, so its members cannot be read in place; make it a plain .tar"):
        read_tree(tmp_path)


def flip(data):
    return data[:3100] + bytes([data[3100] ^ 1]) + data[3101:]  # in the header of the third member


DAMAGES = {
    "in a header": (lambda data: data[:100], r"truncated header|invalid header|bad checksum"),
    "in a later header": (lambda data: data[: 512 * 3 + 100], "at byte 1536 there is neither a member nor the mark of the end"),
    "in a member": (lambda data: data[: 512 * 3 + 700], "unexpected end of data"),
    "between members": (lambda data: data[: 512 * 3], "at byte 1536 there is neither a member nor the mark of the end"),
    "a flipped bit": (flip, "at byte 3072 there is neither a member nor the mark of the end"),
    "concatenated": (lambda data: data + data, "more follows after its end at byte 4608, as in concatenated tars"),
    "compressed": (gzip.compress, "invalid header|bad checksum|truncated header"),
    "empty": (lambda data: b"", "empty file"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_tar_is_an_error_and_never_a_shorter_list(tmp_path, damage, message):
    write_tar(tmp_path / "a.tar", {f"{number}.mp4": bytes(1000 if number else 600) for number in range(3)})
    (tmp_path / "a.tar").write_bytes(damage((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(ValueError, match=rf"a.tar: is not a whole, uncompressed tar \(({message})\); fetch or write it again"):
        read_tree(tmp_path)


@pytest.mark.parametrize(("name", "message"), [("train", "cannot be listed"), ("a.tar", "cannot be read")])
def test_what_may_not_be_read_is_an_error(name, message):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_files(root, {"train/1.mp4": ""})
        write_tar(root / "a.tar", {"2.mp4": ""})
        os.chmod(root, 0o755)
        os.chmod(root / name, 0)
        with pytest.raises(ValueError, match=rf"{name}: {message}: Permission denied"):
            as_nobody(read_tree, root)
        os.chmod(root / name, 0o755)


def as_nobody(function, argument):
    """Call a function where permissions count, which they do not for root."""
    if os.geteuid():
        return function(argument)
    with multiprocessing.get_context("fork").Pool(1, os.setuid, (65534,)) as pool:
        return pool.apply(function, (argument,))


def test_a_sparse_member_is_an_error(tmp_path):
    with (tmp_path / "1.mp4").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    subprocess.run(["tar", "--sparse", "-cf", "a.tar", "1.mp4"], cwd=tmp_path, check=True)
    (tmp_path / "1.mp4").unlink()
    with pytest.raises(ValueError, match=r"its member 1.mp4 is sparse; write the tar without --sparse"):
        read_tree(tmp_path)


def test_an_absent_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="absent: no such folder; SOURCE is the folder that holds the dataset"):
        read_tree(tmp_path / "absent")
