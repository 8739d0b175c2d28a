import errno
import json
import os
import shutil

import pytest

from tests.media import write_clip
from xkd.pipelines.convert.merge import merge_shards
from xkd.pipelines.convert.write import write_shards

CALL = {"split": "train", "workers": 1, "shard_samples": 2, "shard_bytes": 60_000}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Eleven clips, of which two are bad."""
    root = tmp_path_factory.mktemp("source")
    for index in range(9):
        write_clip(root / "ab"[index % 2] / f"{index}.mp4", seconds=0.3 + 0.1 * index)
    for index in range(2):
        (root / "a" / f"bad {index}.mp4").write_bytes(b"bad")
    return root


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    write_shards(source, out, **CALL)
    return out


@pytest.fixture(scope="module")
def three_parts(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    for part in (1, 2, 3):
        write_shards(source, root / str(part), part=(part, 3), **CALL)
    return [root / str(part) for part in (1, 2, 3)]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_parts_together_are_one_run_byte_for_byte(three_parts, whole, tmp_path):
    summary = merge_shards(reversed(three_parts), tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole)
    assert "9 samples of 2 classes" in str(summary)
    assert len(summary.failures) == 2
    assert merge_shards(three_parts, tmp_path / "out").already_complete


@pytest.mark.parametrize("number", [1, 2, 8])
def test_any_number_of_parts_will_do(source, whole, tmp_path, number):
    parts = [tmp_path / str(part) for part in range(1, number + 1)]
    for part, out in enumerate(parts, start=1):
        write_shards(source, out, part=(part, number), **CALL)
    merge_shards(parts, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole)


def test_files_are_copied_where_they_cannot_be_linked(three_parts, whole, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    merge_shards(three_parts, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole)
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "out").iterdir())


def test_a_merge_that_was_ended_is_done_again(three_parts, whole, tmp_path):
    out = tmp_path / "out"
    merge_shards(three_parts, out)
    header = {name: json.loads((out / "manifest.json").read_text())[name] for name in ("settings", "versions")}
    (out / "manifest.json").unlink()
    (out / "train-000001.tar").unlink()
    (out / "train-000002.tar.partial").write_bytes(b"half")
    (out / "journal.jsonl").write_text(json.dumps(header) + "\n")
    merge_shards(three_parts, out)
    assert contents(out) == contents(whole)


def test_a_missing_or_doubled_part_is_named(three_parts, tmp_path):
    with pytest.raises(ValueError, match="part 2/3 is missing; given were"):
        merge_shards([three_parts[0], three_parts[2]], tmp_path / "out")
    shutil.copytree(three_parts[1], tmp_path / "copy")
    with pytest.raises(ValueError, match=r"2 and .*copy are the same part"):
        merge_shards([*three_parts, tmp_path / "copy"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_of_two_wholes_are_refused_with_the_difference(three_parts, source, tmp_path):
    other = tmp_path / "other"
    write_shards(source, other, part=(2, 3), shuffle=4, **CALL)
    with pytest.raises(ValueError, match="are not parts of one whole: shuffle is None and 4"):
        merge_shards([three_parts[0], other, three_parts[2]], tmp_path / "out")


def test_a_whole_and_an_unfinished_part_are_refused(three_parts, whole, tmp_path):
    with pytest.raises(ValueError, match="is no part of a shard set; give the folders"):
        merge_shards([*three_parts, whole], tmp_path / "out")
    shutil.copytree(three_parts[0], tmp_path / "unfinished")
    (tmp_path / "unfinished" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="unfinished: is no finished shard folder"):
        merge_shards([tmp_path / "unfinished", *three_parts[1:]], tmp_path / "out")


def test_a_part_with_a_shard_that_lost_bytes_is_refused(three_parts, tmp_path):
    shutil.copytree(three_parts[0], tmp_path / "part")
    tar = tmp_path / "part" / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train-000000.tar: has \d+ bytes, but"):
        merge_shards([tmp_path / "part", *three_parts[1:]], tmp_path / "out")
