"""What counts as a request to stop, and what it leaves as it was."""

import os
import signal
import subprocess
import sys

import pytest

from xkd.train import stopping
from xkd.train.stopping import REQUESTS, SIGNALS, STOP_FILE, StopRequests, reason

TWICE = """
import sys, time
from pathlib import Path
from xkd.train.stopping import StopRequests
with StopRequests(Path(), polls=True) as requests:
    print("ready", flush=True)
    while not any(requests.flags().values()):
        time.sleep(0.01)
    print("noted", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def looks_at_once(monkeypatch):
    monkeypatch.setattr(stopping, "POLL_SECONDS", 0.0)


def asked(requests):
    return [name for name, flag in requests.flags().items() if flag]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_is_noted_once_and_for_all_and_the_process_goes_on(tmp_path, number):
    before = {each: signal.getsignal(each) for each in SIGNALS}
    with StopRequests(tmp_path, polls=False) as requests:
        assert asked(requests) == []
        os.kill(os.getpid(), number)
        assert asked(requests) == asked(requests) == [number.name]
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


def test_a_signal_may_come_twice_and_others_after_it(tmp_path):
    with StopRequests(tmp_path, polls=False) as requests:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert asked(requests) == ["SIGTERM", "SIGUSR1"]


def test_the_second_interrupt_ends_the_process_at_once(tmp_path):
    command = (sys.executable, "-c", TWICE)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "noted\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT
        assert "once more ends at once" in process.stderr.read()


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored(tmp_path):
    handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with StopRequests(tmp_path, polls=False) as requests:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert asked(requests) == []
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, handler)


def test_the_file_is_seen_by_the_rank_that_looks_and_is_gone_when_the_run_has_saved(tmp_path, looks_at_once):
    with StopRequests(tmp_path, polls=True) as first, StopRequests(tmp_path, polls=False) as other:
        assert asked(first) == []
        (tmp_path / STOP_FILE).touch()
        assert asked(first) == ["the file STOP"]
        assert asked(other) == []
        other.fulfil()
        assert (tmp_path / STOP_FILE).exists()
        first.fulfil()
        assert not (tmp_path / STOP_FILE).exists()
        first.fulfil()
    with StopRequests(tmp_path, polls=True) as restarted:
        assert asked(restarted) == []


def test_storage_is_not_asked_for_the_file_at_every_step(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "POLL_SECONDS", 3600.0)
    with StopRequests(tmp_path, polls=True) as requests:
        assert asked(requests) == []
        (tmp_path / STOP_FILE).touch()
        assert asked(requests) == []


def test_the_reason_names_what_any_rank_was_asked_by():
    none = dict.fromkeys(REQUESTS, 0.0)
    assert reason(none) is None
    assert reason(none | {"SIGTERM": 0.125}) == "SIGTERM"
    assert reason(none | {"SIGTERM": 1.0, "the file STOP": 0.5}) == "SIGTERM, the file STOP"
