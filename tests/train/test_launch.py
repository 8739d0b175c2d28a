"""Pre-training through the real deepspeed launcher, two ranks over gloo."""

import itertools
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from tests import launcher
from tests.pipelines.damage import copy_with_damage
from tests.pipelines.shard_server import Fault, ShardServer
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.shards.index import ShardSet

ARGUMENTS = ("train.global_batch=4", "train.epochs=2", "train.log_every=1", "optim.warmup_epochs=0.5", "optim.base_batch=4")
TIMINGS = {
    "clips_per_second",
    "host_memory_gib",
    "checkpoint_stall_seconds",
    *(f"data_{stage}_share" for stage in ("read", "feed", "decode", "finish", "wait")),
}

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def launch(shards, run_dir, *overrides, ranks=2):
    data = (f"data.train={shards}", f"data.test={shards}", f"run_dir={run_dir}")
    return launcher.launch("configs/pretrain/demo.yaml", *data, *ARGUMENTS, *overrides, ranks=ranks)


def metrics(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]


@pytest.fixture(scope="module")
def finished_run(tiny_shards, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    result = launch(tiny_shards, run_dir)
    assert result.returncode == 0, result.stderr
    return run_dir


def test_a_run_leaves_a_done_state_metrics_and_a_whole_checkpoint(finished_run):
    assert json.loads((finished_run / "state.json").read_text()) == {"status": "done", "step": 6}
    assert [line["step"] for line in metrics(finished_run)] == [1, 2, 3, 4, 5, 6]
    norms = {f"grad_norm/{student}_student.{part}" for student in ("video", "audio") for part in ("encoder", "head", "decoder")}
    for line in map(json.loads, (finished_run / "metrics.jsonl").read_text().splitlines()):
        assert line.keys() >= TIMINGS | norms | {"grad_norm", "lr", "weight_decay", "skipped_steps", "collapse_alarms"}
        assert sum(line[name] ** 2 for name in norms) == pytest.approx(line["grad_norm"] ** 2, rel=1e-5)
    assert (finished_run / "checkpoints" / "latest").read_text().strip() == "step-000006"
    assert list((finished_run / "tensorboard").glob("events.*"))
    assert not list((finished_run / "checkpoints").glob("*.tmp"))
    weights = load_file(finished_run / "checkpoints" / "step-000006" / "weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    student = weights["video_student.encoder.tokenizer.projection.weight"]
    teacher = weights["video_teacher.encoder.tokenizer.projection.weight"]
    assert not torch.equal(student, teacher)
    torch.testing.assert_close(student, teacher, rtol=0, atol=0.1)


def test_a_run_stopped_half_way_goes_on_to_the_same_numbers_and_weights(finished_run, tiny_shards, tmp_path):
    for steps in (2, 6):
        result = launch(tiny_shards, tmp_path, f"train.max_steps={steps}")
        assert result.returncode == 0, result.stderr
    assert result.stdout.count("2 of 6 steps done, kernels: torch") == 1
    assert metrics(tmp_path) == metrics(finished_run)
    resumed, straight = (load_file(run / "checkpoints" / "step-000006" / "weights.safetensors") for run in (tmp_path, finished_run))
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


def test_one_rank_trains_to_the_losses_of_two(finished_run, tiny_shards, tmp_path):
    result = launch(tiny_shards, tmp_path, ranks=1)
    assert result.returncode == 0, result.stderr
    for one, two in zip(metrics(tmp_path), metrics(finished_run), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)


def test_a_probe_changes_no_number_of_a_run(finished_run, tiny_shards, tmp_path):
    result = launch(tiny_shards, tmp_path, "probe.every_epochs=1")
    assert result.returncode == 0, result.stderr
    untrained, *rows = metrics(tmp_path)
    probed = {row["step"]: {name for name in row if name.startswith("probe/")} for row in (untrained, *rows)}
    assert [step for step, names in probed.items() if names] == [0, 3, 6]
    assert set(untrained) == {"step", "collapse_alarms"} | probed[0]
    assert probed[3] == probed[6] == probed[0] >= {"probe/knn_both", "probe/video_to_audio_r1"}
    assert [{name: value for name, value in row.items() if name not in probed[0]} for row in rows] == metrics(finished_run)
    assert "probe at step 6  knn_video" in result.stdout


def test_a_run_directory_of_another_configuration_is_refused(finished_run, tiny_shards):
    result = launch(tiny_shards, finished_run, "seed=1")
    assert result.returncode != 0
    assert "another configuration" in result.stderr
    assert "seed: 0 -> 1" in result.stderr
    assert "Traceback" not in result.stderr


def test_another_number_of_ranks_goes_on_to_the_same_losses(finished_run, tiny_shards, tmp_path):
    assert launch(tiny_shards, tmp_path, "train.max_steps=1").returncode == 0
    result = launch(tiny_shards, tmp_path, "train.max_steps=2", ranks=1)
    assert result.returncode == 0, result.stderr
    for found, expected in zip(metrics(tmp_path), metrics(finished_run), strict=False):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert len(metrics(tmp_path)) == 2


def test_a_loss_that_is_not_finite_stops_all_ranks_with_a_reason(tiny_shards, tmp_path):
    overrides = ("optim.lr=1e30", "optim.warmup_epochs=0", "clip.norm=1e30", "train.max_skipped_steps=2")
    result = launch(tiny_shards, tmp_path, *overrides)
    assert result.returncode == 1
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["status"] == "failed"
    assert "not finite in 2 steps in a row" in state["reason"]
    (file,) = (tmp_path / "skipped").iterdir()
    ranks = json.loads(file.read_text())
    assert [entry["rank"] for entry in ranks] == [0, 1]
    assert all(entry["loss"] == "nan" and len(set(entry["keys"])) == 2 for entry in ranks)


def test_a_shard_that_cannot_be_staged_stops_all_ranks_with_a_reason(tiny_shards, tmp_path):
    with ShardServer(tiny_shards) as server:
        server.faults["train-000001.tar"] = itertools.repeat(Fault(status=403))
        result = launch(server.url, tmp_path / "run", f"data.stage_dir={tmp_path / 'stage'}")
    assert result.returncode == 1
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["status"] == "failed"
    assert "train-000001.tar: cannot be read (http status 403)" in state["reason"]
    assert state["reason"] in result.stdout
    assert "Traceback" not in result.stderr


def test_a_run_goes_on_with_its_shards_elsewhere_and_with_no_others(finished_run, tiny_shards, media_folder, tmp_path):
    run_dir = tmp_path / "run"
    assert launch(tiny_shards, run_dir, "train.max_steps=2").returncode == 0
    configuration = (run_dir / "config.yaml").read_text()
    write_shards(media_folder, tmp_path / "others", split="train", workers=1, shard_samples=6)
    result = launch(tmp_path / "others", run_dir)
    assert result.returncode != 0
    assert "shards_sha256 was" in result.stderr
    assert "Traceback" not in result.stderr
    assert (run_dir / "config.yaml").read_text() == configuration
    result = launch(shutil.copytree(tiny_shards, tmp_path / "moved"), run_dir)
    assert result.returncode == 0, result.stderr
    assert metrics(run_dir) == metrics(finished_run)


DAMAGED = (1, 6)
TOLERANT = ("train.epochs=3", "data.max_bad_share=0.5")


@pytest.fixture(scope="module")
def damaged_shards(tiny_shards, tmp_path_factory):
    return copy_with_damage(ShardSet.open(tiny_shards), tmp_path_factory.mktemp("damaged") / "copy", *DAMAGED)


@pytest.fixture(scope="module")
def run_with_damage(damaged_shards, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run with damage")
    result = launch(damaged_shards.folder, run_dir, *TOLERANT)
    assert result.returncode == 0, result.stderr
    return run_dir


def quarantine(run_dir):
    return [json.loads(line) for line in (run_dir / "quarantine.jsonl").read_text().splitlines()]


def test_damaged_samples_are_replaced_counted_and_listed(run_with_damage, damaged_shards):
    assert [line["substituted"] for line in metrics(run_with_damage)][2::3] == [2, 2, 2]  # at the end of each epoch
    for entry, index in zip(quarantine(run_with_damage), DAMAGED, strict=True):
        sample = damaged_shards.sample(index)
        assert entry.pop("reason") == f"its video (at byte {sample.video.offset}) is damaged"
        assert entry == {"sample_id": index, "key": sample.key, "shard": sample.shard.name, "epoch": 0}


def test_one_rank_replaces_as_two_do(run_with_damage, damaged_shards, tmp_path):
    result = launch(damaged_shards.folder, tmp_path, *TOLERANT, ranks=1)
    assert result.returncode == 0, result.stderr
    assert quarantine(tmp_path) == quarantine(run_with_damage)
    for one, two in zip(metrics(tmp_path), metrics(run_with_damage), strict=True):
        assert one["substituted"] == two["substituted"]
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)


def test_a_run_with_damage_goes_on_in_any_epoch_to_the_same_numbers(run_with_damage, damaged_shards, tmp_path):
    for steps in (2, 4, 9):
        result = launch(damaged_shards.folder, tmp_path, *TOLERANT, f"train.max_steps={steps}")
        assert result.returncode == 0, result.stderr
    assert metrics(tmp_path) == metrics(run_with_damage)
    assert quarantine(tmp_path) == quarantine(run_with_damage)


def test_too_many_damaged_samples_stop_all_ranks_and_are_named(damaged_shards, tmp_path):
    result = launch(damaged_shards.folder, tmp_path, "data.max_bad_share=0.1")
    assert result.returncode == 1
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["status"] == "failed"
    assert "2 clips of epoch 0 were replaced; data.max_bad_share 0.1 allows 1 of 12" in state["reason"]
    assert f"{tmp_path / 'quarantine.jsonl'} lists all" in state["reason"]
    assert all(entry["key"] in state["reason"] for entry in quarantine(tmp_path))
    assert [entry["sample_id"] for entry in quarantine(tmp_path)] == list(DAMAGED)
    assert "Traceback" not in result.stderr
    assert state["reason"] in result.stdout


def test_a_set_that_is_wholly_damaged_leaves_a_failed_state(tiny_shards, tmp_path):
    shards = copy_with_damage(ShardSet.open(tiny_shards), tmp_path / "copy", *range(12))
    result = launch(shards.folder, tmp_path / "run", "data.max_bad_share=1")
    assert result.returncode == 1
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["status"] == "failed"
    assert "12 samples in a row are damaged" in state["reason"]
