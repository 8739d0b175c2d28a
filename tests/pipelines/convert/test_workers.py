import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from xkd.pipelines.convert.workers import AHEAD, map_in_order

SLEEPER = """
import time
from xkd.pipelines.convert.workers import map_in_order

if __name__ == "__main__":
    for _ in map_in_order(time.sleep, [0.05] * 10_000, workers=2):
        print("working", flush=True)
"""


def test_results_come_in_the_order_of_the_items():
    assert list(map_in_order(abs, range(0, -40, -1), workers=2)) == list(range(40))


def test_items_are_taken_only_a_little_ahead_of_the_results():
    taken = []
    results = map_in_order(abs, (taken.append(item) or item for item in range(1000)), workers=1)
    for _ in range(3):
        next(results)
    results.close()
    assert len(taken) <= 3 + AHEAD


def test_an_exception_of_the_function_reaches_the_caller():
    with pytest.raises(ValueError, match="invalid literal"):
        list(map_in_order(int, ["1", "two"], workers=1))


def test_the_death_of_a_worker_names_the_items_in_work():
    with pytest.raises(RuntimeError, match=r"a worker process died .* on one of: 7"):
        list(map_in_order(os._exit, [7], workers=1))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_no_worker_outlives_its_run(tmp_path, how):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    run = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
    assert run.stdout.readline() == "working\n"
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) >= 2
    run.send_signal(how)
    run.wait(timeout=30)
    run.stdout.close()
    deadline = time.monotonic() + 30
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline, children
        time.sleep(0.05)
