"""Runs a launcher to its end; on a signal, has the run save and stop, which no launcher can."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from xkd.train.stopping import STOP_FILE

DONE, FAILED, WRONG_USAGE = 0, 1, 2
EXIT_CODES = {"done": DONE, "failed": FAILED, "stopped": 75}  # by the status in state.json
ASK = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
SECONDS_TO_END = 10
SECONDS_BETWEEN_LOOKS = 0.2


def supervise(command: Sequence[str], variables: Mapping[str, str], run_dir: Path) -> int:
    """Runs `command` with `variables` added to the environment, and returns the exit code that the run's outcome stands for.

    At SIGTERM, SIGUSR1, SIGINT or SIGHUP (unless it is ignored, as under nohup) the run is asked to save and stop, and waited for;
    a second SIGINT ends it within SECONDS_TO_END seconds.
    """
    stop, received, asked = run_dir / STOP_FILE, [], False
    handlers = {number: signal.getsignal(number) for number in ASK if signal.getsignal(number) is not signal.SIG_IGN}
    before = _state(run_dir)
    try:
        for number in handlers:
            signal.signal(number, lambda number, _frame: received.append(number))
        # A session of its own: Ctrl-C reaches this process only.
        child = subprocess.Popen(command, env=os.environ | variables, start_new_session=True, preexec_fn=_outlive_signals)
        while child.poll() is None:
            if received and not asked:
                asked = True
                if not _is_over(before, _state(run_dir)):  # srun ends the last tasks so; a STOP now would be for the next start
                    _ask(stop, signal.Signals(received[0]).name)
            if received.count(signal.SIGINT) > 1:
                _end(child)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if asked:
            stop.unlink(missing_ok=True)  # the run has ended otherwise: a later start must go on
    return _outcome(before, _state(run_dir), child.returncode, run_dir)


def _outlive_signals() -> None:
    """SLURM signals every process of a step, and DeepSpeed's own would die before the ranks, which answer for themselves."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _ask(stop: Path, why: str) -> None:
    _say(f"{why}: {stop.parent} is asked to save and stop after its next step (a second Ctrl-C ends it at once)")
    try:
        stop.parent.mkdir(parents=True, exist_ok=True)
        stop.touch()
    except OSError as error:
        _say(f"{stop}: cannot be made ({error.strerror}), so the run goes on; signal its ranks instead")


def _end(child: subprocess.Popen) -> None:
    """Ends the launcher and, on this machine, its ranks; through pdsh DeepSpeed ends those on other machines."""
    os.killpg(child.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(SECONDS_TO_END)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _state(run_dir: Path) -> tuple[int, str] | None:
    """What state.json says and when it was written; runs replace it, never write into it."""
    path = run_dir / "state.json"
    try:
        return path.stat().st_mtime_ns, path.read_text()
    except FileNotFoundError:
        return None


def _status(state: tuple[int, str]) -> str:
    return json.loads(state[1])["status"]


def _is_over(before: tuple | None, after: tuple | None) -> bool:
    return after != before and _status(after) in EXIT_CODES


def _outcome(before: tuple | None, after: tuple | None, code: int, run_dir: Path) -> int:
    """The exit code. An unchanged state.json is that of an earlier start: this one has not come so far, and has said why."""
    if after == before:
        return code if code in (DONE, WRONG_USAGE) else FAILED
    status = _status(after)
    if status not in EXIT_CODES:
        _say(f"{run_dir}: ended while {status}, as if killed (its launcher's exit code: {code}); start again to go on")
    return EXIT_CODES.get(status, FAILED)


def _say(line: str) -> None:
    sys.stderr.write(f"xkd launch: {line}\n")
    sys.stderr.flush()
