import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xkd.benchmarks import harness
from xkd.benchmarks.harness import MIB, Reading, cpu_seconds, measure, summarize

seconds = st.floats(1e-6, 1e6)


class Clock:
    """A clock that stands still unless the work moves it."""

    def __init__(self):
        self.now = 0.0

    def namespace(self):
        return SimpleNamespace(perf_counter=lambda: self.now, process_time=lambda: self.now / 2)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(harness, "time", clock.namespace())
    return clock


def working(work):
    """A setup whose round is `work(provider, lap)`."""

    @contextmanager
    def setup(provider):
        yield lambda lap: work(provider, lap)

    return setup


def readings(walls):
    return [Reading(4, {"total": wall}, {"total": wall / 2}) for wall in walls]


@given(st.lists(seconds, min_size=1, max_size=30), st.randoms())
def test_percentiles_are_ordered_within_the_range_and_independent_of_the_order(walls, random):
    (found,) = summarize("ours", readings(walls))
    shuffled = random.sample(walls, len(walls))
    assert list(summarize("ours", readings(shuffled))) == [found]
    assert min(walls) <= found.wall_p20_s <= found.wall_p50_s <= found.wall_p80_s <= max(walls)
    assert found.wall_p50_s == pytest.approx(np.median(walls))


@given(st.lists(seconds, min_size=1), seconds)
def test_rates_follow_from_the_medians(walls, wall):
    (found,) = summarize("ours", readings([wall] * len(walls)))
    assert found.items_per_s == pytest.approx(4 / wall)
    assert found.cpu_ms_per_item == pytest.approx(1000 * wall / 2 / 4)


def test_percentiles_of_known_rounds():
    (found,) = summarize("ours", readings([1.0, 2.0, 3.0, 4.0, 5.0, 100.0]))
    assert (found.wall_p20_s, found.wall_p50_s, found.wall_p80_s) == (2.0, 3.5, 5.0)


def test_providers_take_turns_and_each_goes_first_in_its_turn():
    calls = []
    measure(working(lambda provider, lap: calls.append(provider) or 1), ["a", "b", "c"], rounds=3, warmup=0)
    assert calls == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]


def test_warm_up_rounds_are_run_and_not_counted(clock):
    durations = {"slow start": iter([50.0, 60.0, 1.0, 1.0, 1.0])}

    def work(provider, lap):
        clock.now += next(durations[provider])
        return 1

    (found,) = measure(working(work), ["slow start"], rounds=3, warmup=2)
    assert (found.rounds, found.wall_p80_s) == (3, 1.0)


def test_parts_add_up_and_a_repeated_part_accumulates(clock):
    def work(provider, lap):
        for _ in range(2):
            clock.now += 1.0
            lap("forward")
            clock.now += 3.0
            lap("backward")
        clock.now += 0.5
        return 10

    total, forward, backward = measure(working(work), ["ours"], rounds=2, warmup=0)
    assert [part.part for part in (total, forward, backward)] == ["total", "forward", "backward"]
    assert (total.wall_p50_s, forward.wall_p50_s, backward.wall_p50_s) == (8.5, 2.0, 6.0)
    assert forward.cpu_s == 1.0


@pytest.mark.parametrize(("round_seconds", "expected"), [(100.0, 3), (1.0, 6), (0.1, 20)])
def test_a_spent_budget_ends_the_rounds_but_not_before_the_third(clock, round_seconds, expected):
    def work(provider, lap):
        clock.now += round_seconds
        return 1

    (found,) = measure(working(work), ["ours"], rounds=20, warmup=0, budget_seconds=5.5)
    assert found.rounds == expected


BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_cpu_seconds_count_children_that_ended():
    before = cpu_seconds()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert cpu_seconds() - before > 0.25


def test_cpu_seconds_count_children_that_live():
    before = cpu_seconds()
    with subprocess.Popen(
        [sys.executable, "-c", BURN + "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        assert cpu_seconds() - before > 0.25
        child.communicate(b"\n")


def test_cpu_seconds_count_threads():
    def burn():
        while time.thread_time() < 0.2:
            pass

    before = cpu_seconds()
    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
    assert cpu_seconds() - before > 0.19


@contextmanager
def holding(provider):
    """Holds that many MiB for ten samples of the watcher."""
    block = np.ones(int(provider) * MIB, np.uint8)
    yield lambda lap: time.sleep(10 * harness.MEMORY_INTERVAL_SECONDS) or len(block)


@contextmanager
def broken(provider):
    raise ValueError("cannot be set up")
    yield


def test_peak_memory_is_that_of_the_provider_alone():
    small, large, small_again = measure(holding, ["1", "301", "2"], rounds=1, warmup=0, memory=True)
    assert 280 < large.peak_mib - small.peak_mib < 320
    assert abs(small_again.peak_mib - small.peak_mib) < 20


def test_a_provider_that_fails_in_the_memory_run_is_named():
    with pytest.raises(RuntimeError, match="301: the process that measures memory ended"):
        measure(broken, ["301"], memory=True)
