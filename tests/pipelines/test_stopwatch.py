import threading
import time

import pytest

from xkd.pipelines.stopwatch import Stopwatch


def test_stretches_add_up():
    watch = Stopwatch()
    assert watch.seconds == 0
    for expected in (0.02, 0.04):
        with watch.running():
            time.sleep(0.02)
        assert watch.seconds >= expected


def test_each_thread_counts():
    watch, together = Stopwatch(), threading.Barrier(8)
    start = time.perf_counter()

    def work():
        with watch.running():
            together.wait(timeout=60)
            time.sleep(0.02)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 8 * 0.02 <= watch.seconds <= 8 * (time.perf_counter() - start)


def test_work_that_fails_counts():
    watch = Stopwatch()
    failing = watch.timed(lambda number: time.sleep(0.01) or 1 / number)
    with pytest.raises(ZeroDivisionError):
        failing(0)
    assert failing(2) == 0.5
    assert watch.seconds >= 0.02
