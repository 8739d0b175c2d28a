"""Pre-training through the real deepspeed launcher, two ranks over gloo."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from xkd.train.distributed import free_port

ARGUMENTS = ("train.global_batch=4", "train.epochs=2", "train.log_every=1", "optim.warmup_epochs=0.5", "optim.base_batch=4")
TIMINGS = {"clips_per_second", "data_wait_share"}

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def launch(shards, run_dir, *overrides, ranks=2):
    options = ("--num_accelerators", str(ranks), "--master_port", str(free_port()), "--log_level", "error")
    launcher = (sys.executable, "-m", "deepspeed.launcher.runner", *options)
    data = (f"data.train={shards}", f"data.test={shards}", f"run_dir={run_dir}")
    command = (*launcher, "--module", "xkd.train", "configs/pretrain/demo.yaml", *data, *ARGUMENTS, *overrides)
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


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
    assert f"{2} of {6} steps done" in result.stdout
    assert metrics(tmp_path) == metrics(finished_run)
    resumed, straight = (load_file(run / "checkpoints" / "step-000006" / "weights.safetensors") for run in (tmp_path, finished_run))
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


def test_one_rank_trains_to_the_losses_of_two(finished_run, tiny_shards, tmp_path):
    result = launch(tiny_shards, tmp_path, ranks=1)
    assert result.returncode == 0, result.stderr
    for one, two in zip(metrics(tmp_path), metrics(finished_run), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)


def test_a_run_directory_of_another_configuration_is_refused(finished_run, tiny_shards):
    result = launch(tiny_shards, finished_run, "seed=1")
    assert result.returncode != 0
    assert "another configuration" in result.stderr
    assert "seed was 0 and is now 1" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_changed_number_of_ranks_is_refused_on_resume(tiny_shards, tmp_path):
    assert launch(tiny_shards, tmp_path, "train.max_steps=1").returncode == 0
    result = launch(tiny_shards, tmp_path, "train.max_steps=2", ranks=1)
    assert result.returncode != 0
    assert "written by 2 ranks" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_loss_that_is_not_finite_stops_all_ranks_with_a_reason(tiny_shards, tmp_path):
    result = launch(tiny_shards, tmp_path, "optim.lr=1e30", "optim.warmup_epochs=0", "clip.norm=1e30")
    assert result.returncode == 1
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["status"] == "failed"
    assert "the loss is" in state["reason"]
