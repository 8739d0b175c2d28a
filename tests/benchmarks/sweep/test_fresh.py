"""Every way in which a process can fail is an answer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from xkd.benchmarks.sweep.fresh import OUT_OF_MEMORY, call


def double(number):
    return 2 * number


def variables():
    return os.environ.get("XKD_TEST_SET"), os.environ.get("XKD_TEST_GONE")


def refuse():
    raise ValueError("data.prefetch: 2\nkeeps only 2")


def fail():
    raise RuntimeError("broken")


def ask_for_too_much():
    np.zeros(2**50, np.uint8)


def grow():
    held = []
    while True:
        held.append(np.ones(2**24, np.uint8))
        time.sleep(0.02)


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def leave():
    os._exit(3)


def sleep_with_a_child(file):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(file).write_text(str(child.pid))
    time.sleep(600)


def test_the_answer_comes_back_from_another_environment(monkeypatch):
    monkeypatch.setenv("XKD_TEST_GONE", "there")
    assert call(double, 21, seconds=60).value == 42
    found = call(variables, seconds=60, environment={"XKD_TEST_SET": "set", "XKD_TEST_GONE": None})
    assert found.value == ("set", None)
    assert os.environ["XKD_TEST_GONE"] == "there"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (refuse, "data.prefetch: 2 keeps only 2"),
        (fail, "RuntimeError: broken"),
        (ask_for_too_much, OUT_OF_MEMORY),
        (kill_itself, f"{OUT_OF_MEMORY}, or killed otherwise: the process got SIGKILL"),
        (leave, "the process ended with exit code 3 and said nothing"),
    ],
)
def test_a_failure_is_a_reason(function, reason):
    found = call(function, seconds=60)
    assert (found.value, found.reason) == (None, reason)


def test_a_process_that_takes_more_memory_than_it_may_is_ended():
    assert call(grow, seconds=60, memory_bytes=2**29).reason.startswith(f"{OUT_OF_MEMORY}: more than the 0.5 GiB")


def test_a_process_that_takes_too_long_is_ended():
    assert call(grow, seconds=0.5).reason == "took more than 0.5 s"


def test_a_process_is_ended_when_there_is_a_reason_to_with_what_it_has_started(tmp_path):
    file = tmp_path / "pid"
    found = call(
        sleep_with_a_child,
        str(file),
        seconds=60,
        stop=lambda: "another rank failed" if file.exists() and file.read_text() else None,
    )
    assert found.reason == "another rank failed"
    pid = int(file.read_text())
    end = time.monotonic() + 30  # killed it is at once, gone when the machine comes to it
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
