"""Runs that are asked to stop and runs that are killed, at any moment: the next start goes on to the same numbers."""

import json
import os
import random
import re
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.train.starts import exit_codes, started, wait_for
from xkd.train.heartbeat import PHASES
from xkd.train.stopping import STOP_FILE

STEPS, STOPPED, KILLED = 24, 75, -signal.SIGKILL
FIELDS = (
    *("train.global_batch=4", "train.epochs=8", "train.log_every=1", "train.checkpoint_every=2"),  # three steps an epoch
    *("optim.warmup_epochs=0.5", "optim.base_batch=4"),
)
TIMINGS = ("clips_per_second", "host_memory", "data_", "checkpoint_")
SEEDS = [pytest.param(seed, marks=(pytest.mark.soak, *([pytest.mark.long] if seed < 3 else []))) for seed in range(20)]

pytestmark = pytest.mark.timeout(600)


def arguments(config, run_dir, *overrides):
    return [str(config), f"run_dir={run_dir}", *FIELDS, *overrides]


def state(run_dir):
    return json.loads((run_dir / "state.json").read_text())


def rows(run_dir):
    """The lines of metrics.jsonl without what differs between two equal runs; none before there is a whole one."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return [{name: value for name, value in row.items() if not name.startswith(TIMINGS)} for row in whole]


def weights(run_dir):
    return load_file(run_dir / "checkpoints" / f"step-{STEPS:06d}" / "weights.safetensors")


def finish(config, run_dir, log):
    with started(arguments(config, run_dir), log) as ranks:
        assert exit_codes(ranks) == [0, 0], log.read_text()
    assert state(run_dir) == {"status": "done", "step": STEPS}


def assert_equal(run_dir, undisturbed):
    assert rows(run_dir) == rows(undisturbed)
    found, expected = weights(run_dir), weights(undisturbed)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.fixture(scope="module")
def undisturbed(pretrain_yaml, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(pretrain_yaml, folder / "run", folder / "log")
    return folder / "run"


def send(number, *ranks):
    """A way to ask: this signal to these ranks."""

    def ask(run_dir, processes):
        for rank in ranks:
            os.kill(processes[rank].pid, number)

    return ask


def touch(run_dir, processes):
    (run_dir / STOP_FILE).touch()


@pytest.mark.long
def test_a_run_that_is_stopped_in_every_way_goes_on_to_the_same_numbers(pretrain_yaml, undisturbed, tmp_path):
    run_dir, log, before = tmp_path / "run", tmp_path / "log", 0
    ways = [
        (send(signal.SIGTERM, 1), "SIGTERM"),
        (touch, f"the file {STOP_FILE}"),
        (send(signal.SIGUSR1, 0, 1), "SIGUSR1"),
        (send(signal.SIGINT, 0), "SIGINT"),
    ]
    for ask, reason in ways:
        with started(arguments(pretrain_yaml, run_dir), log) as ranks:
            wait_for(lambda before=before: len(rows(run_dir)) > before, ranks)
            ask(run_dir, ranks)
            assert exit_codes(ranks) == [STOPPED, STOPPED], log.read_text()
        step = len(rows(run_dir))
        assert before < step < STEPS
        assert state(run_dir) == {"status": "stopped", "step": step, "reason": reason}
        assert (run_dir / "checkpoints" / "latest").read_text() == f"step-{step:06d}\n"
        assert not (run_dir / STOP_FILE).exists()
        before = step
    finish(pretrain_yaml, run_dir, log)
    assert_equal(run_dir, undisturbed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_whose_ranks_were_killed_goes_on_to_the_same_numbers(pretrain_yaml, undisturbed, tmp_path, seed):
    draw, run_dir, log = random.Random(seed), tmp_path / "run", tmp_path / "log"
    everyone, while_saving, after = seed % 2 == 0, seed % 3 != 2, draw.randrange(1, STEPS // 2)
    with started(arguments(pretrain_yaml, run_dir), log) as ranks:
        wait_for(lambda: len(rows(run_dir)) >= after, ranks)
        if while_saving:
            wait_for(lambda: list((run_dir / "checkpoints").glob("*.tmp")), ranks)
        time.sleep(draw.uniform(0, 0.01 if while_saving else 0.2))
        victims = ranks if everyone else [draw.choice(ranks)]
        for victim in victims:
            victim.kill()
        assert exit_codes(ranks) == [KILLED if rank in victims else 1 for rank in ranks], log.read_text()
    if everyone:
        assert state(run_dir)["status"] == "running"
    else:
        assert state(run_dir)["status"] == "failed"
        assert f"(pid {victims[0].pid} on " in state(run_dir)["reason"]
    finish(pretrain_yaml, run_dir, log)
    assert_equal(run_dir, undisturbed)


@pytest.mark.long
def test_a_rank_that_hangs_ends_the_run_and_is_named_with_its_phase(pretrain_yaml, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    with started(arguments(pretrain_yaml, run_dir, "train.epochs=10000", "train.hang_timeout_minutes=0.1"), log) as ranks:
        wait_for(lambda: rows(run_dir), ranks)
        os.kill(ranks[1].pid, signal.SIGSTOP)
        ranks[0].join()
        assert ranks[0].exitcode == 1
    assert state(run_dir)["status"] == "failed"
    reason = rf"hung: rank 1 \(pid {ranks[1].pid} on .*\) has not been heard of since .*, in (\w+) after \d+ steps"
    assert re.fullmatch(reason, state(run_dir)["reason"])[1] in PHASES
    assert state(run_dir)["reason"] in log.read_text()
