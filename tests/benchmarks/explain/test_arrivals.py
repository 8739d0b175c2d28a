import time

import pytest
import torch
import torch.distributed as dist

from xkd.benchmarks.explain.arrivals import COMMUNICATION, OPERATIONS, Calls, recorded, waiting
from xkd.benchmarks.explain.clock import Clock
from xkd.benchmarks.ranks import on_ranks


def calls(begin, end, excused=None):
    return Calls(["all_reduce"] * len(begin), list(begin), list(end), list(excused or [0.0] * len(begin)))


def test_ranks_wait_until_the_last_arrives_and_the_last_is_late_by_what_the_last_but_one_waits():
    found = waiting([calls([1, 10], [5, 11]), calls([4, 10], [5, 11]), calls([2, 10], [5, 11])], ["a"] * 3)
    assert found.waited == (3, 0, 2)
    assert found.late == (0, 2, 0)


def test_what_a_rank_is_late_for_and_has_an_excuse_for_is_not_held_against_it():
    late = calls([4, 20], [5, 21], excused=[2.5, 9.0])
    assert waiting([calls([1, 12], [5, 21]), late], ["a", "a"]).late == (0, 0.5)


def test_the_clock_of_another_machine_is_set_by_the_ends_of_calls():
    here, there = calls([1, 10, 20], [5, 11, 25]), calls([4, 10, 24], [5, 11, 25])
    elsewhere = calls([one + 700 for one in there.begin], [one + 700 for one in there.end])
    assert waiting([here, elsewhere], ["a", "b"]) == waiting([here, there], ["a", "a"])


def test_a_rank_alone_waits_for_nobody():
    assert waiting([calls([1], [2])], ["a"]).waited == (0,)


def test_ranks_that_made_other_calls_are_not_compared():
    with pytest.raises(AssertionError, match="same calls"):
        waiting([calls([1], [2]), calls([1, 3], [2, 4])], ["a", "a"])


def _late_rank_1(place):
    clock, originals = Clock(), [getattr(dist, name) for name in OPERATIONS]
    with recorded(clock, lambda: 0.0) as found:
        for _ in range(3):
            time.sleep(0.1 * place.rank)
            dist.all_reduce(torch.ones(2), async_op=True)
        boxes = [None] * place.world_size
        dist.all_gather_object(boxes, place.rank)
    restored = [getattr(dist, name) for name in OPERATIONS] == originals
    return found, clock.parts[COMMUNICATION].wall, restored


@pytest.mark.long
def test_real_ranks_wait_for_the_one_that_sleeps():
    ranks = on_ranks(_late_rank_1)
    assert all(restored for *_, restored in ranks)
    first, second = (found for found, *_ in ranks)
    assert first.names == ["all_reduce"] * 3 + ["all_gather_object"]
    found = waiting([first, second], ["a", "a"])
    assert found.late[1] > found.late[0]
    assert found.waited[0] > found.waited[1]
    assert ranks[0][1] >= found.waited[0]  # async calls are waited for at once
