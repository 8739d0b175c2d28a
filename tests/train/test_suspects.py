"""Whom the ranks that wait blame."""

import pytest

from xkd.train.heartbeat import Beat
from xkd.train.suspects import gone, verdict


def beat(rank, step=5, phase="reduce", time="2026-01-02T03:04:05.000+00:00", seconds=600.0):
    return Beat(rank, f"node-{rank // 8}", 1000 + rank, step, phase, seconds, time)


def later(beats):
    return [each and each._replace(time="2026-01-02T03:04:15.000+00:00") for each in beats]


@pytest.mark.parametrize(
    ("beats", "says"),
    [
        (
            [beat(0), beat(1, phase="data"), beat(2)],
            "rank 1 (pid 1001 on node-0) has been in data after 5 steps for 600 s; the others are waiting further on",
        ),
        ([beat(0), beat(1), beat(2, step=4, phase="optimizer")], "rank 2 (pid 1002 on node-0) has been in optimizer after 4 steps"),
        ([beat(0, phase="data"), beat(1, phase="checkpoint")], "rank 1 (pid 1001 on node-0) has been in checkpoint after 5 steps"),
        (
            [beat(0), beat(1)],
            "no rank is behind: rank 0 (pid 1000 on node-0) has been in reduce after 5 steps for 600 s, as all are",
        ),
        ([beat(0, phase="data")], "no rank is behind: rank 0 (pid 1000 on node-0) has been in data after 5 steps for 600 s"),
        ([beat(0), None], "rank 1 has left no heartbeat"),
        ([beat(0), beat(1, phase="ended")], "rank 1 (pid 1001 on node-0) has ended at 03:04:15 UTC after 5 steps"),
    ],
    ids=["waits for data", "a step behind", "saves", "all alike", "alone", "never came", "ended"],
)
def test_the_verdict_names_the_rank_that_the_others_wait_for(beats, says):
    assert verdict(beats, later(beats)).startswith(says)


def test_a_rank_that_is_silent_is_named_before_one_that_is_behind():
    before = [beat(0), beat(1, phase="data"), beat(9)]
    now = [*later(before[:2]), before[2]]
    says = "rank 9 (pid 1009 on node-1) has not been heard of since 03:04:05 UTC, in reduce after 5 steps"
    assert verdict(before, now) == says


def test_of_many_ranks_the_first_are_named_and_the_others_counted():
    beats = [beat(rank, phase="data" if rank % 2 else "reduce") for rank in range(1024)]
    says = verdict(beats, later(beats))
    assert says.count(" has been in data") == 8
    assert "; and 504 more; the others" in says


def test_ranks_that_are_all_there_are_not_gone():
    beats = [beat(0), beat(1, phase="data")]
    assert gone(beats, later(beats)) is None
