import json

import pytest
import yaml

from tests.pipelines.damage import copy_with_damage
from tests.pipelines.shard_server import ShardServer
from xkd.config import load
from xkd.eval.config import EvalConfig
from xkd.eval.run import report, run
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.shards.index import ShardSet

PACKAGED = "eval/svm/avdigits.yaml"


def config(**fields) -> EvalConfig:
    return EvalConfig(**{"job": "eval", "protocol": {"folds": 3}, "backbone": "student", "batch_size": 5} | fields)


def test_an_evaluation_records_scores_and_what_they_rest_on(run_dir):
    results = run(config(checkpoint=str(run_dir)))
    assert json.loads((run_dir / "eval/svm-folder-student/results.json").read_text()) == json.loads(json.dumps(results))
    assert set(results["scores"]) == {"video", "audio", "both"}
    assert results["evaluated"]["backbone"] == "student"
    assert results["evaluated"]["weights"].endswith("step-000003/weights.safetensors")
    assert results["data"]["test"]["samples"] == 12
    assert results["scores"]["audio"]["mean"] > 0.9  # two classes of tones, fitted and scored on the same clips


def test_the_report_says_what_was_evaluated_and_on_what(run_dir):
    text = report(run(config(checkpoint=str(run_dir))))
    assert text == (run_dir / "eval/svm-folder-student/results.md").read_text()
    for fact in ("| svm | ", "backbone: student", "step-000003", "12 clips of ", "cross-validation"):
        assert fact in text


@pytest.mark.filterwarnings("ignore:.*it is left out")
def test_damaged_clips_are_left_out_and_reported(run_dir, tiny_shards, tmp_path):
    damaged = copy_with_damage(ShardSet.open(tiny_shards), tmp_path / "copy", 0, 7)
    results = run(config(checkpoint=str(run_dir), data={"test": damaged.folder}))
    keys = [damaged.sample(index).key for index in (0, 7)]
    assert list(results["data"]["test"]["dropped"]) == keys
    assert all("video" in reason and "is damaged" in reason for reason in results["data"]["test"]["dropped"].values())
    assert results["data"]["train"]["dropped"] == {}
    assert f"left out, for they are damaged: {keys[0]}, {keys[1]}" in report(results)
    assert json.loads((run_dir / "eval/svm-folder-student/results.json").read_text())["data"]["test"]["dropped"].keys() == set(keys)


def test_an_untrained_net_needs_no_run(pretrain_yaml, tmp_path):
    results = run(config(checkpoint="untrained", architecture=pretrain_yaml, out=tmp_path, seed=3))
    assert results["evaluated"] == {
        "checkpoint": "untrained",
        "backbone": "student",
        "architecture": str(pretrain_yaml),
        "seed": 3,
    }


def test_an_untrained_net_needs_an_architecture_and_a_folder():
    with pytest.raises(ValueError, match="set architecture and out as well"):
        config(checkpoint="untrained")


def test_a_missing_shard_folder_is_named(run_dir, tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such shard folder"):
        run(config(checkpoint=str(run_dir), data={"test": tmp_path / "nowhere"}))


@pytest.mark.parametrize("kept", ["stage_dir", "cache_dir"])
def test_shards_of_a_server_are_kept_where_the_evaluation_says(run_dir, pretrain_settings, tiny_shards, tmp_path, kept):
    """Also where the run, of another machine, kept them elsewhere."""
    data = pretrain_settings["data"] | {"cache_dir": str(tmp_path / "the run's"), "cache_bytes": 1}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(pretrain_settings | {"data": data}))
    with ShardServer(tiny_shards) as server:
        results = run(config(checkpoint=str(run_dir), data={"train": server.url, "test": server.url, kept: tmp_path / "kept"}))
    assert results["data"]["test"]["folder"] == server.url
    assert len(list((tmp_path / "kept").rglob("*.tar"))) == 2
    assert not (tmp_path / "the run's").exists()


def test_a_pipe_can_be_allowed_for_an_evaluation(run_dir, tiny_shards, tmp_path):
    chosen = {"test": f"pipe:cat {tiny_shards}/{{name}}", "stage_dir": tmp_path / "kept"}
    with pytest.raises(ValueError, match="would run a shell command"):
        run(config(checkpoint=str(run_dir), data=chosen))
    assert run(config(checkpoint=str(run_dir), data=chosen | {"allow_pipe": True}))["scores"]


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"stage_dir": "a", "cache_dir": "b"}, "set one of them"),
        ({"cache_bytes": 5}, r"data\.cache_bytes: 5 limits data\.cache_dir"),
    ],
)
def test_folders_that_do_not_fit_each_other_are_refused(run_dir, chosen, says):
    with pytest.raises(ValueError, match=says):
        run(config(checkpoint=str(run_dir), data=chosen))


def test_splits_of_different_classes_are_refused(run_dir, media_folder, tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "elsewhere").symlink_to(media_folder / "low")
    write_shards(tmp_path / "media", tmp_path / "other", split="test", workers=1)
    with pytest.raises(ValueError, match=r"has the classes \['high', 'low'\].*\['elsewhere'\]"):
        run(config(checkpoint=str(run_dir), data={"test": tmp_path / "other"}))


def test_a_run_without_a_test_split_asks_for_one(run_dir, pretrain_settings):
    data = {name: value for name, value in pretrain_settings["data"].items() if name != "test"}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(pretrain_settings | {"data": data}))
    with pytest.raises(ValueError, match=r"data\.test: no shard folder is given, and .*run names none"):
        run(config(checkpoint=str(run_dir)))


def test_the_packaged_evaluation_loads():
    assert load(PACKAGED, ["checkpoint=elsewhere"], {"eval": EvalConfig}).checkpoint == "elsewhere"
