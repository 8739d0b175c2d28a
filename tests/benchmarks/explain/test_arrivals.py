import time

import pytest
import torch
import torch.distributed as dist

from xkd.benchmarks.explain.arrivals import COMMUNICATION, OPERATIONS, Call, recorded, waiting
from xkd.benchmarks.explain.clock import Clock
from xkd.benchmarks.ranks import on_ranks


def calls(begin, end, excused=None, crowded=None):
    none = [0.0] * len(begin)
    return [Call("all_reduce", *row) for row in zip(begin, end, excused or none, crowded or none, strict=True)]


def column(name, ranks, machines):
    return [getattr(found, name) for found in waiting(ranks, machines)]


def test_ranks_wait_until_the_last_arrives_and_the_last_is_late_by_what_the_last_but_one_waits():
    ranks = [calls([0, 2, 10], [1, 6, 11]), calls([0, 5, 10], [1, 6, 11]), calls([0, 3, 10], [1, 6, 11])]
    assert column("waited", ranks, ["a"] * 3) == [3, 0, 2]
    assert column("late", ranks, ["a"] * 3) == [0, 2, 0]


def test_what_a_rank_is_late_for_and_has_an_excuse_for_is_not_held_against_it():
    early = calls([0, 2, 12], [1, 6, 21], excused=[0, 0.5, 1])
    late = calls([0, 5, 20], [1, 6, 21], excused=[0, 3, 9])
    assert column("late", [early, late], ["a", "a"]) == [0, 0.5]  # 1 - 0.5 beside 4 - 3; then 5 beside 5


def test_a_call_is_excused_for_as_long_as_threads_of_any_rank_wanted_cores_but_not_for_waiting():
    ranks = [calls([1, 10], [5, 14], crowded=[0.2, 9.0]), calls([4, 10], [5, 14], crowded=[0.3, 0.0])]
    assert column("crowded", ranks, ["a", "a"]) == [0.5 + 4, 0.5 + 4]


def test_the_clock_of_another_machine_is_set_by_the_ends_of_calls():
    here, there = calls([1, 10, 20], [5, 11, 25]), calls([4, 10, 24], [5, 11, 25])
    elsewhere = [one._replace(begin=one.begin + 700, end=one.end + 700) for one in there]
    assert waiting([here, elsewhere], ["a", "b"]) == waiting([here, there], ["a", "a"])


def test_a_rank_alone_waits_for_nobody():
    assert column("waited", [calls([1], [2])], ["a"]) == [0]


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
    return found.found, clock.parts[COMMUNICATION].wall, restored


@pytest.mark.long
def test_real_ranks_wait_for_the_one_that_sleeps():
    ranks = on_ranks(_late_rank_1)
    assert all(restored for *_, restored in ranks)
    first, second = (found for found, *_ in ranks)
    assert [call.name for call in first] == ["all_reduce"] * 3 + ["all_gather_object"]
    found = waiting([first, second], ["a", "a"])
    assert found[1].late > found[0].late
    assert found[0].waited > found[1].waited
    assert ranks[0][1] >= found[0].waited  # async calls are waited for at once
