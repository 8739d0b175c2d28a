import json

import pytest
import yaml

from tests.pipelines.damage import copy_with_damage
from tests.pipelines.shard_server import ShardServer
from xkd.eval.config import EvalConfig
from xkd.eval.results import report
from xkd.eval.run import PROTOCOLS, run
from xkd.pipelines.shards.index import ShardSet
from xkd.release.files import save_backbones

SEEN = {"leaks": "report"}  # here nets are fitted and scored on the same clips


def config(**fields) -> EvalConfig:
    protocol = {"name": "svm", "folds": 3}
    return EvalConfig(**{"job": "eval", "protocol": protocol, "dataset": SEEN, "backbone": "student", "batch_size": 5} | fields)


def test_an_evaluation_records_scores_and_what_they_rest_on(run_dir):
    found = run(config(checkpoint=str(run_dir)))
    assert json.loads((run_dir / "eval/svm-folder-student/results.json").read_text()) == json.loads(json.dumps(found))
    assert set(found["scores"]) == {"video", "audio", "both"}
    assert found["evaluated"]["backbone"] == "student"
    assert found["evaluated"]["weights"].endswith("step-000003/weights.safetensors")
    assert found["data"]["test"]["samples"] == 12
    assert found["scores"]["audio"]["top1"]["mean"] > 0.9  # two classes of tones
    assert len(found["folds"][0]["leaks"]) == 12


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_gives_its_measure_from_the_same_features(run_dir, name):
    found = run(config(checkpoint=str(run_dir), protocol={"name": "svm", "folds": 2}))
    kept = {path: path.stat().st_mtime_ns for path in (run_dir / "features").rglob("*.safetensors")}
    assert len(kept) == 1
    found = run(config(checkpoint=str(run_dir), protocol={"name": name}))
    assert found["protocol"] == name
    assert all(0 <= measures[found["metric"]]["mean"] <= 1 for measures in found["scores"].values())
    assert {path: path.stat().st_mtime_ns for path in (run_dir / "features").rglob("*.safetensors")} == kept


def test_training_samples_may_be_seen_as_augmented_clips(run_dir):
    protocol = {"name": "svm", "folds": 2, "train_views": "svm", "scaling": "unit"}
    found = run(config(checkpoint=str(run_dir), protocol=protocol, data={"train_clips": 3, "eval_clips": 2, "eval_crops": 3}))
    assert found["views"]["train_clips"] == 3
    assert found["folds"][0]["train"]["samples"] == 12
    assert len(list((run_dir / "features").rglob("*.safetensors"))) == 2


def test_the_report_says_what_was_evaluated_and_on_what(run_dir):
    text = report(run(config(checkpoint=str(run_dir))))
    assert text == (run_dir / "eval/svm-folder-student/results.md").read_text()
    for fact in ("folder, svm: per cent", "backbone: student", "step-000003", "12 clips of ", "cross-validation"):
        assert fact in text


@pytest.mark.filterwarnings("ignore:.*it is left out")
def test_damaged_clips_are_left_out_and_reported(run_dir, tiny_shards, tmp_path):
    damaged = copy_with_damage(ShardSet.open(tiny_shards), tmp_path / "copy", 0, 7)
    found = run(config(checkpoint=str(run_dir), data={"train": str(damaged.folder), "test": str(damaged.folder)}))
    keys = [damaged.sample(index).key for index in (0, 7)]
    (fold,) = found["folds"]
    assert list(fold["test"]["dropped"]) == keys
    assert fold["test"]["samples"] == 10
    assert all("video" in reason and "is damaged" in reason for reason in fold["test"]["dropped"].values())
    assert fold["train"] == fold["test"]
    assert f"left out of test, for they are damaged or lack a stream: {keys[0]}, {keys[1]}" in report(found)


def test_an_untrained_net_needs_no_run(pretrain_yaml, tmp_path):
    found = run(config(checkpoint="untrained", architecture=pretrain_yaml, out=tmp_path / "out", seed=3))
    assert found["evaluated"]["checkpoint"] == "untrained"
    assert found["evaluated"]["seed"] == 3
    assert list((tmp_path / "out" / "features").iterdir())


def test_results_of_a_file_need_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"out: is missing, and .*video\.pth\.tar is no run directory"):
        run(config(checkpoint=str(tmp_path / "video.pth.tar")))


def test_a_protocol_that_does_not_suit_the_data_set_or_the_checkpoint_is_refused(run_dir, architecture, pretrain_yaml, tmp_path):
    with pytest.raises(ValueError, match="svm is for one label a clip, and clips of fsd50k have several: use `job: linear`"):
        run(config(checkpoint=str(run_dir), dataset={"name": "fsd50k"}))
    with pytest.raises(ValueError, match="retrieval needs video and sound"):
        run(config(checkpoint=str(run_dir), dataset={"name": "ucf101"}, protocol={"name": "retrieval"}))
    save_backbones(architecture.build(seed=0), tmp_path / "my_")
    fields = {"checkpoint": str(tmp_path / "my_"), "architecture": pretrain_yaml, "out": tmp_path / "out"}
    with pytest.raises(ValueError, match=r"retrieval compares outputs of heads, and .*my_ holds encoders only"):
        run(config(**fields, protocol={"name": "retrieval"}))


def test_several_processes_are_told_to_compute_features_first(run_dir, monkeypatch):
    launcher = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"2 processes were started, .*: compute the features by `xkd features` with them"):
        run(config(checkpoint=str(run_dir)))


def test_a_missing_shard_folder_is_named(run_dir, tmp_path):
    with pytest.raises(ValueError, match=r"data\.test: .*nowhere: no such shard folder"):
        run(config(checkpoint=str(run_dir), data={"test": str(tmp_path / "nowhere")}))


@pytest.mark.parametrize("kept", ["stage_dir", "cache_dir"])
def test_shards_of_a_server_are_kept_where_the_evaluation_says(run_dir, pretrain_settings, tiny_shards, tmp_path, kept):
    """Also where the run, of another machine, kept them elsewhere."""
    data = pretrain_settings["data"] | {"cache_dir": str(tmp_path / "the run's"), "cache_bytes": 1}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(pretrain_settings | {"data": data}))
    with ShardServer(tiny_shards) as server:
        found = run(config(checkpoint=str(run_dir), data={"train": server.url, "test": server.url, kept: tmp_path / "kept"}))
    assert found["data"]["test"]["folder"] == server.url
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
        ({"cache_bytes": 5}, "data: cache_bytes 5 limits cache_dir"),
    ],
)
def test_folders_that_do_not_fit_each_other_are_refused(run_dir, chosen, says):
    with pytest.raises(ValueError, match=says):
        run(config(checkpoint=str(run_dir), data=chosen))


def test_a_run_without_a_test_split_asks_for_one(run_dir, pretrain_settings):
    data = {name: value for name, value in pretrain_settings["data"].items() if name != "test"}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(pretrain_settings | {"data": data}))
    with pytest.raises(ValueError, match=r"data\.test: no shard folder is given, and the checkpoint names none"):
        run(config(checkpoint=str(run_dir)))
