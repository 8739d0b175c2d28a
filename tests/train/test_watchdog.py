"""A rank that stands still: for how long it may, how it ends, and what it leaves."""

import contextlib
import json
import os
import signal
import time

import pytest

from xkd.benchmarks.ranks import CONTEXT
from xkd.train import watchdog
from xkd.train.distributed import Place
from xkd.train.heartbeat import Heartbeat, Moment, Progress
from xkd.train.watchdog import Watchdog, patience

MINUTES = 0.01


@pytest.mark.parametrize(
    ("phase", "step", "times"),
    [
        ("data", 8, 1),
        ("reduce", 8, 1),
        ("data", 7, 3),
        ("checkpoint", 8, 3),
        ("checkpoint", 7, 3),
        ("probe", 8, 6),
        ("probe", 7, 6),
    ],
)
def test_the_first_step_saving_and_probing_may_take_longer(phase, step, times):
    assert patience(Moment(step, phase, since=0.0), start=7) == times


def stand_still(run_dir, rank, phase, ranks):
    """A rank that has done a step and then stays in `phase`."""
    os.dup2(os.open(run_dir / f"rank-{rank}.err", os.O_WRONLY | os.O_CREAT), 2)
    watchdog.STORAGE_SECONDS = 2
    place, progress = Place(rank, rank, ranks), Progress()
    with Heartbeat(run_dir, place, progress), Watchdog(run_dir, place, progress, MINUTES):
        progress.enter(phase, step=1)
        (run_dir / f"rank-{rank}.ready").touch()
        time.sleep(600)


def go_on(run_dir, steps):
    """A rank that is slow, but gets on; all in all it takes many times what a step may."""
    place, progress = Place(0, 0, 1), Progress()
    with Heartbeat(run_dir, place, progress), Watchdog(run_dir, place, progress, MINUTES):
        for step in range(steps):
            for phase in ("data", "forward_backward", "reduce", "optimizer"):
                progress.enter(phase, step)
                time.sleep(MINUTES * 60 / 8)


@contextlib.contextmanager
def processes(function, *arguments):
    """A process for each of the tuples of arguments."""
    started = [CONTEXT.Process(target=function, args=each, daemon=True) for each in arguments]
    for process in started:
        process.start()
    yield started
    for process in started:
        process.kill()
        process.join()


def wait_for_files(*paths):
    while not all(path.exists() for path in paths):
        time.sleep(0.01)


def outcome(run_dir):
    return json.loads((run_dir / "state.json").read_text())


@pytest.mark.long
@pytest.mark.timeout(120)
def test_ranks_that_wait_for_one_that_hangs_end_and_name_it(tmp_path):
    with processes(stand_still, (tmp_path, 0, "reduce", 2), (tmp_path, 1, "data", 2)) as ranks:
        for rank in ranks:
            rank.join()
        assert [rank.exitcode for rank in ranks] == [1, 1]
    assert outcome(tmp_path)["status"] == "failed"
    assert outcome(tmp_path)["reason"].startswith(f"hung: rank 1 (pid {ranks[1].pid} on ")
    for rank in (0, 1):
        said = (tmp_path / f"rank-{rank}.err").read_text()
        assert f"rank {rank} (pid {ranks[rank].pid}) has been in {'data' if rank else 'reduce'} after 1 steps" in said
        assert "in stand_still\n    time.sleep(600)" in said  # where it stands
        assert f"{tmp_path}: failed: hung: rank 1 (pid {ranks[1].pid} on " in said


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_rank_that_has_died_is_named_by_those_that_wait_for_it(tmp_path):
    with processes(stand_still, (tmp_path, 0, "reduce", 2), (tmp_path, 1, "reduce", 2)) as (waiting, dead):
        wait_for_files(*(tmp_path / f"rank-{rank}.ready" for rank in (0, 1)), tmp_path / "heartbeat" / "rank-1.json")
        dead.kill()
        waiting.join()
        assert waiting.exitcode == 1
    assert f"rank 1 (pid {dead.pid} on " in outcome(tmp_path)["reason"]
    assert "has not been heard of since" in outcome(tmp_path)["reason"]


@pytest.mark.long
@pytest.mark.timeout(120)
def test_storage_that_hangs_keeps_no_rank_from_ending(tmp_path):
    os.mkfifo(tmp_path / "state.json")  # opening it blocks, for want of somebody at the other end
    with processes(stand_still, (tmp_path, 0, "data", 1)) as (rank,):
        rank.join()
        assert rank.exitcode == 1
    said = (tmp_path / "rank-0.err").read_text()
    assert "has been in data after 1 steps" in said
    assert f"{tmp_path}: its file system does not answer" in said


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_slow_rank_is_left_alone(tmp_path):
    with processes(go_on, (tmp_path, 10)) as (rank,):
        rank.join()
        assert rank.exitcode == 0
    assert not (tmp_path / "state.json").exists()


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_rank_that_was_suspended_goes_on(tmp_path):
    with processes(go_on, (tmp_path, 16)) as (rank,):
        wait_for_files(tmp_path / "heartbeat" / "rank-0.json")
        os.kill(rank.pid, signal.SIGSTOP)
        time.sleep(MINUTES * 60 * 4)
        os.kill(rank.pid, signal.SIGCONT)
        rank.join()
        assert rank.exitcode == 0


def test_without_a_timeout_nothing_is_watched(tmp_path):
    with Watchdog(tmp_path, Place(0, 0, 1), Progress(), None) as dog:
        assert not dog._thread.is_alive()
