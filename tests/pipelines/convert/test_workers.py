import errno
import os
import re
import signal
import subprocess
import sys
import time

import av
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


def test_the_death_of_a_worker_names_the_item():
    with pytest.raises(RuntimeError, match=r"^7: its worker process ended with exit code 7 .*, in 2 tries"):
        list(map_in_order(os._exit, [7], workers=1))


def square(item):
    """Items of 7 crash natively, those of 8 never end and never let go of the interpreter, and 9 kills the first time only."""
    number, folder = item
    if number == 7:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 8:
        re.match("(a+)+b", "a" * 60)
    if number == 9 and not (folder / "tried").exists():
        (folder / "tried").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


@pytest.mark.parametrize("workers", [1, 3])
def test_items_that_crash_or_never_end_are_lost_and_the_others_keep_their_order(tmp_path, workers):
    numbers = [0, 1, 2, 7, 3, 8, 9, 4, 5]
    reasons = {}
    items = [(number, tmp_path) for number in numbers]
    results = map_in_order(square, items, workers, lost=lambda item, reason: reasons.setdefault(item[0], reason), item_seconds=2)
    assert [result for result in results if isinstance(result, int)] == [0, 1, 4, 9, 81, 16, 25]
    assert reasons == {
        7: "its worker process was ended by SIGSEGV (a crash in a library, or out of memory), in 2 tries",
        8: "it took more than 2 s, in 2 tries",
    }


def alone(item):
    """Dies the first time; then says how many other items are in work. Others take a while."""
    name, folder = item
    if name != "heavy":
        (folder / name).touch()
        time.sleep(0.1)
        (folder / name).unlink()
        return 0
    if not (folder.parent / "tried").exists():
        (folder.parent / "tried").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    return len(list(folder.iterdir()))


def test_an_item_is_tried_again_while_no_other_is_in_work(tmp_path):
    folder = tmp_path / "in work"
    folder.mkdir()
    items = [(name, folder) for name in ("a", "heavy", "b", "c", "d", "e", "f")]
    assert list(map_in_order(alone, items, workers=3)) == [0] * 7


def hungry(item):
    """Has too little memory for the item the first time, or always, and says in which process it had enough."""
    name, folder = item
    if name == "always" or (name == "once" and not (folder / "tried").exists()):
        (folder / "tried").write_text(str(os.getpid()))
        raise av.MemoryError(errno.ENOMEM, "Cannot allocate memory")
    return os.getpid()


def test_an_item_without_enough_memory_is_tried_again_in_a_fresh_worker(tmp_path):
    items = [(name, tmp_path) for name in ("a", "once", "b")]
    results = list(map_in_order(hungry, items, workers=2))
    assert results[1] != int((tmp_path / "tried").read_text())
    results = list(map_in_order(hungry, [("a", tmp_path), ("always", tmp_path)], workers=2, lost=lambda item, reason: reason))
    assert results[1] == "there was not enough memory for it, in 2 tries"


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
