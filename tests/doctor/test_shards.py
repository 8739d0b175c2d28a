"""Shards on this node: there or not, fast or slow, and room for those that are copied."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipelines.damage import copy_with_damage
from xkd.doctor import kept_shards, shards
from xkd.pipelines.shards.index import ShardSet


def with_data(context, **fields):
    config = context.config
    return replace(context, config=config.model_copy(update={"data": config.data.model_copy(update=fields)}))


def found(context):
    return {verdict.check: verdict for verdict in shards.check(context)}


def test_local_shards_are_opened_and_read(alone):
    verdicts = found(alone)
    assert {name: verdict.status for name, verdict in verdicts.items()} == {
        "data.train": "ok",
        "data.test": "ok",
        "read latency": "ok",
        "read rate": "ok",
    }
    assert "12 samples in 2 shards" in verdicts["data.train"].found


def test_shards_that_are_not_there_or_lack_a_tar_are_failures(alone, tiny_shards, tmp_path):
    shutil.copytree(tiny_shards, tmp_path / "partly")
    next((tmp_path / "partly").glob("*.tar")).unlink()
    verdicts = found(with_data(alone, train=str(tmp_path / "partly"), test=str(tmp_path / "none")))
    assert {name: verdict.status for name, verdict in verdicts.items()} == {"data.train": "failed", "data.test": "failed"}
    assert "is missing" in verdicts["data.train"].found


def test_damaged_samples_are_told(alone, tiny_shards, tmp_path):
    damaged = copy_with_damage(ShardSet.open(tiny_shards), tmp_path / "damaged", 3)
    verdict = found(with_data(alone, train=str(damaged.folder), max_bad_share=0.5))["samples"]
    assert verdict.status == "warning"
    assert damaged.sample(3).key in verdict.found


def test_too_many_damaged_samples_are_a_failure(alone, tiny_shards, tmp_path):
    damaged = copy_with_damage(ShardSet.open(tiny_shards), tmp_path / "damaged", 3, 5)
    verdict = found(with_data(alone, train=str(damaged.folder), test=None))["data.train"]
    assert verdict.status == "failed"


@pytest.mark.parametrize(("seconds", "status"), [([0.001] * 30 + [2.0] * 2, "ok"), ([0.6, 0.7, 0.6], "warning")])
def test_the_usual_read_decides_whether_storage_is_slow(seconds, status):
    assert shards.judge_latency(seconds).status == status


def test_a_set_that_is_staged_has_its_storage_and_its_place_checked_and_is_not_copied(alone, tmp_path):
    verdicts = found(with_data(alone, stage_dir=tmp_path / "stage", test=None))
    assert {name: verdict.status for name, verdict in verdicts.items()} == {
        "data.train": "ok",
        "copying data.train": "ok",
        "place of data.train": "ok",
    }
    assert not list(tmp_path.iterdir())


def test_a_place_without_room_or_that_cannot_be_written_is_a_failure(tmp_path):
    assert "needed" in kept_shards.judge_folder("place", tmp_path, 1 << 60).found
    assert kept_shards.judge_folder("place", tmp_path, 1 << 60).status == "failed"
    assert kept_shards.judge_folder("place", Path("/proc/stage"), 1).status == "failed"


def test_tars_that_are_there_need_no_more_room(tmp_path):
    (tmp_path / "set").mkdir()
    with (tmp_path / "set" / "a.tar").open("wb") as tar:
        tar.truncate(2 << 40)  # a hole, which takes none
    needed = shutil.disk_usage(tmp_path).free + (1 << 40)
    assert kept_shards.judge_folder("place", tmp_path, needed).status == "ok"
    assert kept_shards.judge_folder("place", tmp_path, needed + (2 << 40)).status == "failed"


def test_a_file_url_is_a_local_folder(alone, tiny_shards):
    assert found(with_data(alone, train=f"file://{tiny_shards}", test=None))["read rate"].status == "ok"


def test_a_remote_set_needs_a_place(alone, tiny_shards):
    location = f"pipe:cat {tiny_shards}/{{name}}"
    verdicts = found(with_data(alone, train=location, test=None, allow_pipe=True))
    assert verdicts["place of data.train"].status == "failed"
