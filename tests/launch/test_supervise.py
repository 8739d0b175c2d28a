"""`xkd launch` beside a running launcher: signals, the STOP file, and exit codes. Small scripts stand for the launcher."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xkd.launch.supervise import EXIT_CODES, supervise
from xkd.train.run_directory import write_state

ROOT = Path(__file__).parent.parent.parent
STATE = """
state() {{
    printf '{{"status": "%s", "step": %s}}\\n' "$1" $RANDOM > {0}/state.tmp
    mv {0}/state.tmp {0}/state.json
}}
"""
RUNS = """
state running
until [ -e {0}/STOP ] || [ -e {0}/end ]; do sleep 0.05; done
"""
SAVES = """
rm -f {0}/STOP
state stopped
"""
STAYS = """
sleep 600 &  # outlives SIGTERM, as this script does
echo $! > {0}/rank
wait
"""


def script(run_dir, *parts):
    """A launcher of bash."""
    return ["bash", "-c", "".join((STATE, *parts)).format(run_dir)]


@pytest.fixture
def supervised(tmp_path):
    """Starts `supervise` in a process of its own and waits until its launcher runs."""
    started = []

    def start(at_end=SAVES, ignored=()):
        call = "import signal, sys; from pathlib import Path; from xkd.launch import supervise\n"
        call += "".join(f"signal.signal(signal.{name}, signal.SIG_IGN)\n" for name in ignored)
        call += "supervise.SECONDS_TO_END = 1\n"
        call += f"sys.exit(supervise.supervise({script(tmp_path, RUNS, at_end)!r}, {{}}, Path({str(tmp_path)!r})))"
        process = subprocess.Popen([sys.executable, "-c", call], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        started.append(process)
        wait_for(lambda: (tmp_path / "state.json").exists())
        return process

    yield start
    (tmp_path / "end").touch()
    for process in started:
        process.communicate(timeout=30)


def wait_for(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP"])
def test_a_signal_has_the_run_save_and_stop(name, supervised, tmp_path):
    process = supervised()
    process.send_signal(signal.Signals[name])
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75
    assert told.count(f"xkd launch: {name}: {tmp_path} is asked to save and stop") == 1
    assert not (tmp_path / "STOP").exists()


def test_a_signal_that_is_ignored_is_not_taken_up(supervised, tmp_path):
    process = supervised(ignored=["SIGHUP"])
    process.send_signal(signal.SIGHUP)
    (tmp_path / "end").touch()
    _, told = process.communicate(timeout=60)
    assert "SIGHUP" not in told


def test_a_stop_that_came_too_late_does_not_stop_the_next_start(supervised, tmp_path):
    process = supervised(at_end="sleep 1; state done")
    process.send_signal(signal.SIGTERM)
    wait_for((tmp_path / "STOP").exists)
    assert process.wait(60) == 0
    assert not (tmp_path / "STOP").exists()


def test_no_stop_is_left_for_a_run_that_has_ended_already(supervised, tmp_path):
    process = supervised(at_end="state stopped; sleep 1")
    (tmp_path / "end").touch()
    wait_for(lambda: json.loads((tmp_path / "state.json").read_text())["status"] == "stopped")
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (75, "")


def test_a_second_interrupt_ends_the_launcher_and_what_it_has_started(supervised, tmp_path):
    process = supervised(at_end=STAYS)
    process.send_signal(signal.SIGINT)
    wait_for((tmp_path / "rank").exists)
    wait_for(lambda: (tmp_path / "rank").read_text())
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{tmp_path}: ended while running" in told
    wait_for(lambda: not is_running(int((tmp_path / "rank").read_text())))


def is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_launcher_outlives_a_signal_to_all_processes(supervised, tmp_path):
    process = supervised()
    (child,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    for number in (signal.SIGTERM, signal.SIGUSR1):
        os.kill(child, number)
    (tmp_path / "end").touch()
    process.communicate(timeout=60)
    assert process.returncode == 75


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("state done", 0),
        ("state stopped; exit 1", 75),
        ("state failed", 1),
        ("state running", 1),  # DeepSpeed's runner returns 0 where its launcher was killed
        ("", 0),  # a run that was done before
        ("exit 2", 2),
        ("exit 75", 1),
        ("kill -9 $$", 1),
    ],
)
def test_the_exit_code_is_that_of_the_outcome(ending, expected, tmp_path):
    write_state(tmp_path, "stopped", step=3)  # that of an earlier start says nothing of this one
    assert supervise(script(tmp_path, ending), {}, tmp_path) == expected


def test_variables_reach_the_launcher(tmp_path):
    ending = "if [ $OMP_NUM_THREADS = 7 ]; then state done; else state failed; fi"
    assert supervise(script(tmp_path, ending), {"OMP_NUM_THREADS": "7"}, tmp_path) == 0


def test_exit_codes_are_those_of_a_run():
    from xkd.train import run

    assert {"done": run.DONE, "failed": run.FAILED, "stopped": run.STOPPED} == EXIT_CODES
