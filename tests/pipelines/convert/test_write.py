import json

import pytest

from tests.media import write_clip
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.index import ShardSet


@pytest.fixture(scope="module")
def mixed_folder(tmp_path_factory):
    """Nine healthy clips and three bad files, in two splits."""
    root = tmp_path_factory.mktemp("mixed")
    for index in range(9):
        write_clip(root / "train" / "ab"[index % 2] / f"{index}.mp4", seconds=0.5 + 0.1 * index)
    (root / "train" / "a" / "notes.txt").write_text("not media")
    (root / "train" / "b" / "empty.mp4").write_bytes(b"")
    write_clip(root / "train" / "b" / "silent.mp4", sound=None)
    write_clip(root / "test" / "c" / "0.mp4", seconds=0.5)
    return root


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_do_not_depend_on_the_number_of_workers(mixed_folder, tmp_path):
    for workers in (1, 3):
        write_shards(mixed_folder, tmp_path / str(workers), split="train", workers=workers, shard_samples=5)
    one, three = contents(tmp_path / "1"), contents(tmp_path / "3")
    assert one.keys() == three.keys()
    assert all(one[name] == three[name] for name in one)


def test_bad_files_are_listed_and_the_rest_is_converted(mixed_folder, tmp_path):
    summary = write_shards(mixed_folder, tmp_path / "out", split="train", workers=1, shard_samples=5)
    shards = ShardSet.open(tmp_path / "out")
    assert len(shards) == summary.manifest.num_samples == 9
    assert shards.classes == ["a", "b", "c"]
    failures = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert {failure["name"] for failure in failures} == {"train/a/notes.txt", "train/b/empty.mp4", "train/b/silent.mp4"}
    assert all(failure["reason"] and failure["error"] for failure in failures)
    assert "9 samples of 3 classes" in str(summary)
    assert "3 files failed, see" in str(summary)
    frames = shards.column("video_frames")
    assert summary.manifest.video_seconds == frames.sum() / 8
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_second_run_changes_nothing_and_other_settings_are_refused(mixed_folder, tmp_path):
    out = tmp_path / "out"
    assert not write_shards(mixed_folder, out, split="test", workers=1).already_complete
    before = contents(out)
    again = write_shards(mixed_folder, out, split="test", workers=2)
    assert again.already_complete
    assert "already complete" in str(again)
    assert contents(out) == before
    with pytest.raises(ValueError, match="split was 'test' and is now 'train'"):
        write_shards(mixed_folder, out, split="train", workers=1)


def test_a_changed_source_is_not_already_complete(tmp_path):
    write_clip(tmp_path / "media" / "a" / "0.mp4", seconds=0.5)
    write_shards(tmp_path / "media", tmp_path / "out", split="train", workers=1)
    write_clip(tmp_path / "media" / "a" / "0.mp4", seconds=1.0)
    with pytest.raises(ValueError, match="source_identity was"):
        write_shards(tmp_path / "media", tmp_path / "out", split="train", workers=1)


def test_an_unfinished_folder_is_written_again(mixed_folder, tmp_path):
    out = tmp_path / "out"
    write_shards(mixed_folder, out, split="test", workers=1)
    expected = contents(out)
    (out / "manifest.json").rename(out / "unfinished.json")
    (out / "test-000000.tar").write_bytes(b"half a shard")
    write_shards(mixed_folder, out, split="test", workers=1)
    assert contents(out) == expected


def test_a_limit_takes_a_subset_that_does_not_depend_on_the_layout_of_shards(mixed_folder, tmp_path):
    write_shards(mixed_folder, tmp_path / "out", split="train", workers=1, limit=4, shard_samples=3)
    few, failures = ShardSet.open(tmp_path / "out"), (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    assert len(few) + len(failures) == 4


def test_a_source_without_a_healthy_file_is_an_error_that_names_the_list(tmp_path):
    (tmp_path / "media" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="split 'train' holds no files; expected class folders of media files"):
        write_shards(tmp_path / "media", tmp_path / "out", split="train", workers=1)
    (tmp_path / "media" / "a" / "bad.mp4").write_bytes(b"bad")
    with pytest.raises(ValueError, match=r"not one of the 1 files of split 'train' could be converted; see .*failures.jsonl"):
        write_shards(tmp_path / "media", tmp_path / "out", split="train", workers=1)
    assert "bad.mp4" in (tmp_path / "out" / "failures.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "absent"}, "absent: no such folder; SOURCE is"),
        ({"dataset": "folders"}, "dataset: 'folders' is not one of folder"),
        ({"profile": "small"}, "profile: 'small' is not one of pretrain, finetune"),
        ({"workers": 0}, "workers: 0 is not at least 1"),
        ({"limit": -1}, "limit: -1 is not at least 1"),
        ({"shard_samples": 0}, "shard_samples: 0 is not at least 1"),
    ],
)
def test_wrong_arguments_are_errors_before_anything_is_written(media_folder, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_shards(**{"source": media_folder, "out": tmp_path / "out", "split": "train", **arguments})
    assert not (tmp_path / "out").exists()
