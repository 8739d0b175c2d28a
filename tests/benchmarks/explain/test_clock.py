import os
import subprocess
import sys
import threading
import time

import pytest

from xkd.benchmarks.explain.clock import Clock, Threads, Usage, busy_seconds


@pytest.fixture
def clock():
    clock = Clock()
    yield clock
    clock.close()


def work(seconds):
    """Runs, rather than goes by, for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_parts_add_up_to_all_that_went_by_and_inner_ones_are_left_out_of_those_around_them(clock):
    before = clock.now()
    clock.lap("start")
    with clock.within("inner"):
        work(0.01)
        with clock.within("innermost"):
            time.sleep(0.01)
    clock.lap("first")
    work(0.02)
    clock.lap("second")
    passed = clock.now() - before
    assert clock.parts.pop("start").wall > 0
    assert set(clock.parts) == {"inner", "innermost", "first", "second"}
    assert clock.parts["inner"].ran >= 0.01
    assert clock.parts["innermost"].wall >= 0.01
    assert clock.parts["second"].ran >= 0.02
    summed = sum(clock.parts.values(), Usage())
    assert summed.wall <= passed.wall
    assert summed.ran <= passed.ran
    assert clock.parts["first"].wall < summed.wall - clock.parts["inner"].wall - clock.parts["innermost"].wall


def test_what_waits_for_nothing_but_time_stands_still(clock):
    time.sleep(0.05)
    clock.lap("asleep")
    assert clock.parts["asleep"].still > clock.parts["asleep"].ran


def test_wanting_a_core_that_another_process_has_is_neither_running_nor_standing_still(clock):
    (core, *_), allowed = sorted(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    spin = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as other:
        try:
            other.stdout.readline()
            os.sched_setaffinity(0, {core})
            work(0.2)
            clock.lap("crowded")
        finally:
            os.sched_setaffinity(0, allowed)
            other.kill()
    crowded = clock.parts["crowded"]
    assert crowded.delayed > 0.02  # half of the core is 0.2, but the scheduler's weights may differ
    assert crowded.own < crowded.wall


def test_threads_that_read_are_counted_among_all_and_by_themselves():
    threads, done = Threads(), threading.Event()

    def run():
        work(0.05)
        done.wait()

    reader = threading.Thread(target=run, name="read-ahead")
    reader.start()
    while threads.readers.ran < 0.04:
        threads.sample()
    done.set()
    reader.join()
    assert threads.all.ran >= threads.readers.ran


def test_a_core_that_works_is_busy():
    cores = frozenset(os.sched_getaffinity(0))
    before = busy_seconds(cores)
    work(0.2)
    after = busy_seconds(cores)
    assert set(after) == cores
    assert sum(after.values()) > sum(before.values())
