"""The file in which a rank tells what it is at."""

import json
import os
import socket
import time

import pytest

from xkd.train.distributed import Place
from xkd.train.heartbeat import FILE_BYTES, PHASES, Heartbeat, Progress, interval, read_beats

ALONE = Place(rank=0, local_rank=0, world_size=1)
SECOND_OF_TWO = Place(rank=1, local_rank=0, world_size=2)


def wait_for(condition):
    while not condition():
        time.sleep(0.01)


def phase_of(run_dir, rank=0):
    beat = read_beats(run_dir, rank + 1)[rank]
    return beat and (beat.step, beat.phase)


@pytest.mark.timeout(60)
def test_the_file_follows_the_rank_and_says_in_the_end_that_it_has_ended(tmp_path):
    progress = Progress(step=7)
    with Heartbeat(tmp_path, SECOND_OF_TWO, progress):
        wait_for(lambda: phase_of(tmp_path, rank=1) == (7, "data"))
        progress.enter("forward_backward")
        wait_for(lambda: phase_of(tmp_path, rank=1) == (7, "forward_backward"))
        progress.enter("data", step=8)
        wait_for(lambda: phase_of(tmp_path, rank=1) == (8, "data"))
    other, beat = read_beats(tmp_path, 2)
    assert other is None
    assert (beat.rank, beat.step, beat.phase) == (1, 8, "ended")
    assert (beat.host, beat.pid) == (socket.gethostname(), os.getpid())


@pytest.mark.timeout(60)
def test_a_rank_that_stays_in_its_phase_is_still_heard_of(tmp_path):
    with Heartbeat(tmp_path, ALONE, Progress()):
        wait_for(lambda: phase_of(tmp_path))
        first = read_beats(tmp_path, 1)
        wait_for(lambda: read_beats(tmp_path, 1) != first)
        (beat,) = read_beats(tmp_path, 1)
        assert beat.phase_seconds > first[0].phase_seconds
        assert beat.time > first[0].time


@pytest.mark.timeout(60)
def test_the_file_is_replaced_in_place_and_stays_one_line_of_json(tmp_path):
    for step in (123456789, 0):
        with Heartbeat(tmp_path, ALONE, Progress(step)):
            wait_for(lambda step=step: phase_of(tmp_path) == (step, "data"))
        text = (tmp_path / "heartbeat" / "rank-0.json").read_text()
        assert len(text) == FILE_BYTES
        assert json.loads(text)["step"] == step
    assert [file.name for file in (tmp_path / "heartbeat").iterdir()] == ["rank-0.json"]


@pytest.mark.timeout(60)
def test_a_heartbeat_that_cannot_be_written_is_said_and_ends_nothing(tmp_path, capsys):
    (tmp_path / "heartbeat" / "rank-0.json").mkdir(parents=True)
    progress = Progress()
    with Heartbeat(tmp_path, ALONE, progress):
        progress.enter("reduce")
    assert capsys.readouterr().err.count("rank 0: its heartbeat cannot be written") == 1
    assert read_beats(tmp_path, 1) == [None]


def test_many_ranks_beat_no_more_often_together_than_some():
    assert interval(1) == interval(100) == 1.0
    assert 1000 / interval(1000) == 100


def test_a_spoilt_file_is_no_heartbeat(tmp_path):
    folder = tmp_path / "heartbeat"
    folder.mkdir()
    for rank, text in enumerate(("", "{", "[]", "{}", json.dumps({"rank": 4}))):
        (folder / f"rank-{rank}.json").write_text(text)
    assert read_beats(tmp_path, 5) == [None] * 5


def test_a_phase_is_one_of_those_that_have_an_order():
    with pytest.raises(AssertionError):
        Progress().enter("lunch")
    assert PHASES.index("data") < PHASES.index("forward_backward") < PHASES.index("optimizer")
