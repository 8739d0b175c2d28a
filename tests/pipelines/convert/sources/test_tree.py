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
