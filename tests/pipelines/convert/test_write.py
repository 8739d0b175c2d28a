import json
import platform
import subprocess
from dataclasses import replace

import av
import pytest

from tests.media import write_clip
from xkd.pipelines.convert import write
from xkd.pipelines.convert.output import StoppedRun
from xkd.pipelines.convert.shard import sha256_of
from xkd.pipelines.convert.sources import DATASETS, Dataset
from xkd.pipelines.convert.sources.folder import list_folder
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.shards.index import ShardSet


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
    assert "folder train: 12 present, 9 converted, 3 failed" in str(summary)
    assert "3 files failed, see" in str(summary)
    assert "  1: it has no sound (such as 'train/b/silent.mp4')" in str(summary)
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


def test_a_finished_folder_that_lost_a_tar_is_not_already_complete(mixed_folder, tmp_path):
    write_shards(mixed_folder, tmp_path, split="test", workers=1)
    (tmp_path / "test-000000.tar").unlink()
    with pytest.raises(ValueError, match=r"was complete, but test-000000.tar is missing; put these files back"):
        write_shards(mixed_folder, tmp_path, split="test", workers=1)


def test_a_source_and_an_output_that_lie_in_one_another_are_refused(tmp_path):
    write_clip(tmp_path / "media" / "a" / "0.mp4", seconds=0.3)
    (tmp_path / "link").symlink_to(tmp_path / "media")
    for out in ("media/shards", "media", "link/a/shards"):
        with pytest.raises(ValueError, match="lies in SOURCE"):
            write_shards(tmp_path / "media", tmp_path / out, split="train", workers=1)
    with pytest.raises(ValueError, match="holds SOURCE"):
        write_shards(tmp_path / "media", tmp_path, split="train", workers=1)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0.mp4", "a", "link", "media"]


def test_links_that_lead_nowhere_are_failures_and_links_in_a_tar_are_clips(tmp_path):
    write_clip(tmp_path / "media" / "a" / "0.mp4", seconds=0.3)
    for name, target in {"loop.mp4": "loop.mp4", "through.mp4": "0.mp4/x", "link.mp4": "0.mp4", "none.mp4": "1.mp4"}.items():
        (tmp_path / "media" / "a" / name).symlink_to(target)
    (tmp_path / "media" / "a" / "hard.mp4").hardlink_to(tmp_path / "media" / "a" / "0.mp4")
    (tmp_path / "tar").mkdir()
    subprocess.run(["tar", "-cf", tmp_path / "tar" / "a.tar", "-C", tmp_path / "media", "a"], check=True)
    found = [write_shards(tmp_path / name, tmp_path / "out" / name, split="train", workers=1) for name in ("media", "tar")]
    for summary in found:
        assert {failure.name for failure in summary.failures} == {"a/loop.mp4", "a/through.mp4", "a/none.mp4"}
        assert all(failure.reason.startswith("it cannot be read: ") for failure in summary.failures)
        assert summary.manifest.num_samples == 3
    assert found[0].manifest.identity == found[1].manifest.identity
    assert found[0].manifest.settings == found[1].manifest.settings


def test_a_changed_source_is_not_already_complete(tmp_path):
    write_clip(tmp_path / "media" / "a" / "0.mp4", seconds=0.5)
    write_shards(tmp_path / "media", tmp_path / "out", split="train", workers=1)
    write_clip(tmp_path / "media" / "a" / "0.mp4", seconds=1.0)
    with pytest.raises(ValueError, match="source_identity was"):
        write_shards(tmp_path / "media", tmp_path / "out", split="train", workers=1)


def test_a_run_stopped_by_failures_tells_them_and_goes_on_without_doing_anything_twice(mixed_folder, tmp_path):
    write_shards(mixed_folder, tmp_path / "whole", split="train", workers=1, shard_samples=2)
    out = tmp_path / "out"
    with pytest.raises(StoppedRun, match=r"3 files failed, more than the 2 that .*failures.jsonl[^$]*such as 'train/"):
        write_shards(mixed_folder, out, split="train", workers=1, shard_samples=2, max_failures=2)
    assert len((out / "failures.jsonl").read_text().splitlines()) == 3
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert kept
    assert not (out / "manifest.json").exists()
    summary = write_shards(mixed_folder, out, split="train", workers=2, shard_samples=2, max_failures=0.3)  # 0.3 of 12 is 3
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert contents(out) == contents(tmp_path / "whole")
    assert len(summary.failures) == 3


def test_a_run_whose_source_goes_away_stops_and_ends_in_the_same_bytes_once_it_is_back(tmp_path, monkeypatch):
    source, away, out = tmp_path / "source", tmp_path / "away", tmp_path / "out"
    for index in range(6):
        write_clip(source / "a" / f"{index}.mp4", seconds=0.5 + 0.1 * index)
    call = {"split": "train", "workers": 2, "shard_samples": 2}
    write_shards(source, tmp_path / "whole", **call)
    whole_plan = write.make_plan

    def plan_and_lose(*args, **choices):
        plan = whole_plan(*args, **choices)
        away.mkdir()
        for item in plan.items[4:]:
            item.location.path.rename(away / item.location.path.name)
        return plan

    monkeypatch.setattr(write, "make_plan", plan_and_lose)
    with pytest.raises(StoppedRun, match=r"out: stopped, for .*/a/\d.mp4 cannot be read .* run the same command again"):
        write_shards(source, out, **call)
    assert not (out / "manifest.json").exists()
    monkeypatch.undo()
    for path in away.iterdir():
        path.rename(source / "a" / path.name)
    write_shards(source, out, **call)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(("allowed", "stops"), [(3, False), (2, True), (0.25, False), (0.24, True), (0, True)])
def test_failures_are_allowed_by_number_or_by_share(mixed_folder, tmp_path, allowed, stops):
    call = {"split": "train", "workers": 1, "max_failures": allowed}
    if stops:
        with pytest.raises(StoppedRun, match="files failed, more than"):
            write_shards(mixed_folder, tmp_path, **call)
    else:
        assert write_shards(mixed_folder, tmp_path, **call).manifest.num_failures == 3


def test_no_shard_is_larger_than_the_limit(mixed_folder, tmp_path):
    limit = 150_000
    manifest = write_shards(mixed_folder, tmp_path, split="train", workers=2, shard_samples=8, shard_bytes=limit).manifest
    assert all(shard.tar_bytes <= limit for shard in manifest.shards if shard.num_samples > 1)
    assert len(manifest.shards) > 2
    assert [shard.name for shard in manifest.shards] == [f"train-{number:06d}" for number in range(len(manifest.shards))]
    assert sum(shard.num_samples for shard in manifest.shards) == len(ShardSet.open(tmp_path)) == 9
    begins = [shard.begin for shard in manifest.shards]
    assert begins == sorted(set(begins))


def test_a_single_sample_larger_than_the_limit_has_a_shard_of_its_own(mixed_folder, tmp_path):
    manifest = write_shards(mixed_folder, tmp_path, split="train", workers=1, shard_bytes=1).manifest
    assert [shard.num_samples for shard in manifest.shards] == [1] * 9


def test_another_seed_is_another_order_of_the_same_dataset(mixed_folder, tmp_path):
    shards = {}
    for seed in (None, 0, 1):
        write_shards(mixed_folder, tmp_path / str(seed), split="train", workers=1, shuffle=seed, shard_samples=4)
        shards[seed] = ShardSet.open(tmp_path / str(seed))
    keys = {seed: [found.sample(index).key for index in range(9)] for seed, found in shards.items()}
    assert sorted(keys[None]) == sorted(keys[0]) == sorted(keys[1])
    assert len({tuple(order) for order in keys.values()}) == 3
    assert len({found.manifest.identity for found in shards.values()}) == 1


def test_the_manifest_says_what_was_there_and_what_became_of_it(mixed_folder, tmp_path):
    manifest = write_shards(mixed_folder, tmp_path, split="train", workers=1, shard_samples=5).manifest
    found = manifest.completeness
    assert (found.official, found.listed, found.present, found.converted, found.failed) == (None, None, 12, 9, 3)
    assert (manifest.source.name, manifest.source.num_items) == (mixed_folder.name, 12)
    assert manifest.source.num_bytes == sum(path.stat().st_size for path in (mixed_folder / "train").rglob("*") if path.is_file())
    assert dict(zip(manifest.classes, manifest.class_samples, strict=True)) == {"a": 5, "b": 4, "c": 0}
    assert manifest.versions["av"] == av.__version__
    assert manifest.versions["machine"] == platform.machine()
    for shard in manifest.shards:
        for suffix, expected in ((".tar", shard.tar_sha256), (".idx", shard.index_sha256), (".safetensors", shard.sidecar_sha256)):
            assert sha256_of(tmp_path / f"{shard.name}{suffix}") == expected
        assert json.loads((tmp_path / f"{shard.name}.stats.json").read_text())["samples"] == shard.num_samples


def test_folds_are_stored_once_for_all_folds(mixed_folder, tmp_path, monkeypatch):
    def list_with_folds(tree, split):
        listing = list_folder(tree, split)
        items = [replace(item, roles=("test" if "/a/" in item.name else "train", "unused")) for item in listing.items]
        return replace(listing, items=items, num_folds=2)

    monkeypatch.setitem(DATASETS, "folded", Dataset(list_with_folds, streams="both", official={"train": 20}, official_classes=5))
    summary = write_shards(mixed_folder, tmp_path, dataset="folded", split="train", workers=1, shard_samples=5)
    shards = ShardSet.open(tmp_path)
    assert shards.manifest.num_folds == 2
    assert shards.column("fold_roles").shape == (9, 2)
    for index in range(9):
        sample = shards.sample(index)
        assert sample.roles == ("test" if sample.labels == (0,) else "train", "unused")
    assert "folded train: 20 published, 12 present (60.0%), 9 converted, 3 failed, 3 of 5 classes" in str(summary)


def test_a_missing_file_shows_in_the_summary_and_by_name(tmp_path):
    write_clip(tmp_path / "media" / "a" / "0.mp4", seconds=0.3)
    write_clip(tmp_path / "media" / "a" / "extra.mp4", seconds=0.3)
    (tmp_path / "media" / "train.txt").write_text("a/0.mp4\na/1.mp4\n")
    summary = write_shards(tmp_path / "media", tmp_path / "out", split="train", workers=1)
    found = summary.manifest.completeness
    assert (found.listed, found.present, found.unlisted, found.converted) == (2, 1, 1, 1)
    assert "2 listed, 1 present (50.0%), 1 missing, 1 in no list, 1 converted, 0 failed" in str(summary)
    assert json.loads((tmp_path / "out" / "source.json").read_text()) == {"missing": ["a/1.mp4"], "unlisted": ["a/extra.mp4"]}


@pytest.mark.parametrize(("codec", "audio"), [("mjpeg", None), (None, "flac")])
def test_a_codec_in_place_of_the_profiles_is_used_and_recorded(mixed_folder, tmp_path, codec, audio):
    manifest = write_shards(mixed_folder, tmp_path, split="test", workers=1, codec=codec, audio=audio).manifest
    assert (manifest.video.codec, manifest.audio.codec) == (codec or "vp9", audio or "pcm16")


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
        ({"dataset": "folders"}, "dataset: 'folders' is not one of kinetics400, .*, folder"),
        ({"profile": "small"}, "profile: 'small' is not one of pretrain, finetune"),
        ({"workers": 0}, "workers: 0 is not at least 1"),
        ({"limit": -1}, "limit: -1 is not at least 1"),
        ({"shard_samples": 0}, "shard_samples: 0 is not at least 1"),
        ({"shard_bytes": 0}, "shard_bytes: 0 is not at least 1"),
        ({"part": (0, 2)}, "part: 0/2 is not one of 1/2 to 2/2"),
        ({"part": (3, 2)}, "part: 3/2 is not one of 1/2 to 2/2"),
        ({"max_failures": 1.5}, "max_failures: 1.5 is neither a whole number nor a share"),
        ({"max_failures": -1}, "max_failures: -1 is neither a whole number nor a share"),
        ({"codec": "av1"}, "codec: 'av1' is not one of vp9"),
        ({"audio": "mp3"}, "audio: 'mp3' is not one of pcm16, flac"),
    ],
)
def test_wrong_arguments_are_errors_before_anything_is_written(media_folder, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_shards(**{"source": media_folder, "out": tmp_path / "out", "split": "train", **arguments})
    assert not (tmp_path / "out").exists()
