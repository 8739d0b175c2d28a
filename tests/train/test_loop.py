"""Whole runs that are stopped and go on, with damaged samples, broken checkpoints and disks that are full."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.pipelines.damage import copy_with_damage
from tests.train.starts import exit_codes, started
from tests.train.test_launch import TIMINGS
from xkd.pipelines.shards.index import ShardSet

ARGUMENTS = (
    "configs/pretrain/demo.yaml",
    *("train.global_batch=4", "train.epochs=3", "train.log_every=1", "optim.warmup_epochs=0.5", "optim.base_batch=4"),
    *("log.tensorboard=false", "data.max_bad_share=0.5"),
)
STEPS, SEED = 9, 20261122

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def arguments(shards, run_dir, *overrides):
    return [*ARGUMENTS, f"data.train={shards}", f"data.test={shards}", f"run_dir={run_dir}", *overrides]


def run(shards, run_dir, *overrides, ranks=2):
    """Exit code, and what was written to the screen."""
    log = run_dir.with_name(f"{run_dir.name}.log")
    with started(arguments(shards, run_dir, *overrides), log, ranks) as processes:
        codes = exit_codes(processes)
    assert len(set(codes)) == 1, log.read_text()
    return codes[0], log.read_text()


def rows(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]


def weights(run_dir, step=STEPS):
    return load_file(run_dir / "checkpoints" / f"step-{step:06d}" / "weights.safetensors")


def pictures(run_dir):
    """Steps at which TensorBoard has a picture of reconstruction."""
    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    return [event.step for event in events.Images("pictures/reconstruction")]


def assert_same(run_dir, expected):
    assert rows(run_dir) == rows(expected)
    assert (run_dir / "quarantine.jsonl").read_text() == (expected / "quarantine.jsonl").read_text()
    for name, values in weights(expected).items():
        np.testing.assert_array_equal(weights(run_dir)[name], values, err_msg=name)


@pytest.fixture(scope="module")
def shards(tiny_shards, tmp_path_factory):
    """Of the 12 samples one is damaged that comes early in the first epoch, and one that comes late."""
    return copy_with_damage(ShardSet.open(tiny_shards), tmp_path_factory.mktemp("damaged") / "copy", 1, 6).folder


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory):
    """Run directories of undisturbed runs, by ZeRO stage."""
    made = {}

    def of(stage):
        if stage not in made:
            made[stage] = tmp_path_factory.mktemp("straight") / f"stage {stage}"
            code, log = run(shards, made[stage], *settings(stage))
            assert code == 0, log
        return made[stage]

    return of


def settings(stage):
    return (f"deepspeed.zero_stage={stage}", "train.accumulation=2", "loss.align_group=1")


@pytest.mark.parametrize("stage", [1, 2])
def test_a_run_that_is_stopped_at_random_goes_on_to_the_same_numbers_and_weights(stage, shards, straight, tmp_path):
    stops = sorted(random.Random(SEED + stage).sample(range(1, STEPS), 2))
    for steps in (*stops, STEPS):
        keep = ("train.keep_checkpoints=1", "train.milestone_every_epochs=1")
        draw = ("log.tensorboard=true", "log.pictures_every_epochs=1")  # which the undisturbed run does not
        code, log = run(shards, tmp_path / "run", *settings(stage), *keep, *draw, f"train.max_steps={steps}")
        assert code == 0, (stops, log)
        assert "pictures could not be drawn" not in log
    assert pictures(tmp_path / "run") == [3, 6, 9]
    assert_same(tmp_path / "run", straight(stage))
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert saved == ["step-000003", "step-000006", "step-000009"]  # of each epoch's end


def test_a_run_whose_newest_checkpoint_is_truncated_goes_on_from_the_one_before(shards, straight, tmp_path):
    run(shards, tmp_path / "run", *settings(1), "train.max_steps=6", "train.checkpoint_every=2")
    newest = tmp_path / "run" / "checkpoints" / "step-000006"
    with (newest / "weights.safetensors").open("r+b") as file:
        file.truncate(1000)
    code, log = run(shards, tmp_path / "run", *settings(1), "train.max_steps=9")
    assert code == 0, log
    assert f"WARNING: {newest}: weights.safetensors has 1000 bytes instead of" in log
    assert "the run goes on from step-000004 instead" in log
    assert "4 of 9 steps done" in log
    assert "train.checkpoint_every: 2 -> 1000" in log
    assert_same(tmp_path / "run", straight(1))


def test_a_finished_run_says_so_and_changes_nothing(shards, straight):
    run_dir = straight(1)
    files = [run_dir / "metrics.jsonl", *(run_dir / "checkpoints").rglob("*.*")]
    before = {path: path.stat().st_mtime_ns for path in files}
    code, log = run(shards, run_dir, *settings(1))
    assert code == 0
    assert f"{run_dir}: done: {STEPS} steps are done" in log
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((run_dir / "state.json").read_text())["status"] == "done"


def test_a_run_that_cannot_save_what_it_ends_with_fails_and_keeps_what_it_has(shards, straight, tmp_path):
    run_dir = tmp_path / "run"
    code, log = run(shards, run_dir, *settings(1), "train.max_steps=2", ranks=1)
    assert code == 0, log
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "bash", sys.executable, "-m", "xkd.train"]
    command = [*limited, *arguments(shards, run_dir, *settings(1), "train.max_steps=5", "train.checkpoint_every=3")]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert result.returncode == 1, result.stderr
    assert "WARNING: the checkpoint of step 3 could not be written: rank 0: " in result.stdout
    state = json.loads((run_dir / "state.json").read_text())
    assert state["status"] == "failed"
    assert "the checkpoint of step 5 could not be written: rank 0: " in state["reason"]
    assert "File too large" in state["reason"]
    assert [path.name for path in sorted((run_dir / "checkpoints").iterdir())] == ["latest", "step-000002"]
