import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count, islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipelines.interrupted import threads_after_ctrl_c
from xkd.pipelines.read_ahead import read_ahead

DEPTHS = (0, 1, 3, 64)


def threads() -> int:
    return sum(thread.name == "read-ahead" for thread in threading.enumerate())


@given(items=st.lists(st.integers(), max_size=30), depth=st.integers(0, 40))
def test_results_come_in_order_whatever_the_depth(items, depth):
    assert list(read_ahead(lambda item: item + 1, items, depth)) == [(item, item + 1) for item in items]
    assert threads() == 0


@pytest.mark.parametrize("depth", DEPTHS)
def test_no_more_items_are_begun_than_asked_for_and_ahead(depth):
    taken = count()
    with closing(read_ahead(str, (next(taken) for _ in range(1000)), depth)) as results:
        assert list(islice(results, 5)) == [(item, str(item)) for item in range(5)]
    assert 5 + depth - depth // 4 <= next(taken) <= 5 + depth


def test_items_that_wait_are_worked_on_at_the_same_time():
    together = threading.Barrier(8)  # nobody passes before 8 have come
    assert [result for _, result in read_ahead(lambda item: together.wait(60) >= 0, range(16), 8)] == [True] * 16


def test_items_that_do_not_wait_need_one_thread():
    used = set()
    results = read_ahead(lambda item: used.add(threading.get_ident()), range(200), 64)
    for _ in results:
        time.sleep(0.002)  # a slow consumer never waits
    assert len(used) < 5


@pytest.mark.parametrize("depth", DEPTHS)
def test_an_exception_is_raised_at_its_turn_and_ends_the_threads(depth):
    results = read_ahead(lambda item: 1 / (item - 5), range(100), depth)
    assert len(list(islice(results, 5))) == 5
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threads() == 0
    assert list(results) == []


def begun(depth) -> tuple[Iterator, list]:
    """An iterator of which a result was taken, and the items begun so far."""
    started = []
    results = read_ahead(lambda item: (started.append(item), time.sleep(0.005)), count(), depth)
    next(results)
    assert threads() > 0
    return results, started


def test_closing_ends_the_threads_and_nothing_is_begun_afterwards():
    results, started = begun(64)
    results.close()
    assert threads() == 0
    number = len(started)
    time.sleep(0.05)
    assert len(started) == number


def test_closing_does_not_wait_for_an_item_that_a_thread_took_meanwhile():
    """Threads that change places all the time, and are all waiting when it is closed; such a race shows after about 50 times."""
    code = """
import faulthandler, sys, threading, time
from itertools import count
from xkd.pipelines.read_ahead import read_ahead
faulthandler.dump_traceback_later(280, exit=True)
sys.setswitchinterval(1e-6)
for _ in range(200):
    closed = threading.Event()
    def function(item):
        if item >= 6:
            closed.wait()
        elif item < 4:
            time.sleep(0.0012)
    results = read_ahead(function, count(), 40, closed.set)
    for _ in range(5):
        next(results)
    results.close()
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True, timeout=300)


def test_losing_the_iterator_ends_the_threads():
    results, _ = begun(64)
    del results
    gc.collect()
    assert threads() == 0


@pytest.mark.parametrize("ending", ["raises", "closes"])
def test_calls_that_wait_are_interrupted_before_their_threads_are_waited_for(ending):
    interrupted = threading.Event()

    def function(item):
        if item == 2:
            raise KeyError
        return item < 2 or interrupted.wait()

    results = read_ahead(function, count(), 8, interrupted.set)
    assert list(islice(results, 2)) == [(0, True), (1, True)]
    if ending == "raises":
        with pytest.raises(KeyError):
            next(results)
    else:
        results.close()
    assert threads() == 0


def test_an_exception_of_the_consumer_ends_the_threads():
    with suppress(KeyError), closing(begun(64)[0]) as results:
        for _ in results:
            raise KeyError
    assert threads() == 0


@pytest.mark.parametrize("longest", [0.01, 2.0])
def test_ctrl_c_leaves_no_thread(longest):
    code = f"""
import time
from contextlib import closing
from itertools import count
from xkd.pipelines.read_ahead import read_ahead
def function(item):
    time.sleep({longest} if item == 50 else 0.01)
with closing(read_ahead(function, count(), 64)) as results:
    for item, _ in results:
        if item == 20:
            print("going", flush=True)
"""
    assert threads_after_ctrl_c(code) == ["MainThread"]
