"""Requests to stop a run, by a signal or by a file; with the numbers of each step the ranks tell each other of them."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

STOP_FILE = "STOP"
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
REQUESTS = (*(number.name for number in SIGNALS), f"the file {STOP_FILE}")
POLL_SECONDS = 1.0  # between two looks for the file, which may lie on a file system that all nodes share


class StopRequests:
    """What this rank has been asked: a context manager, within which signals are noted and the run goes on.

    Signals that the process was started to ignore stay ignored. The first SIGINT leaves the second to end the process at once.
    Only the rank that `polls` looks for the file run_dir/STOP.
    """

    def __init__(self, run_dir: Path, *, polls: bool):
        self._file, self._polls, self._next_look = run_dir / STOP_FILE, polls, 0.0
        self._noted = dict.fromkeys(REQUESTS, 0.0)
        self._handlers = {}

    def flags(self) -> dict[str, float]:
        """For each of REQUESTS 1 if this rank has had it, else 0: what the ranks add up with the numbers of a step."""
        if self._polls and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + POLL_SECONDS
            if self._file.exists():
                self._noted[REQUESTS[-1]] = 1.0
        return dict(self._noted)

    def fulfil(self) -> None:
        """Removes the file, so that the next start goes on; on the rank that `polls`."""
        if self._polls:
            self._file.unlink(missing_ok=True)

    def _note(self, number: int, frame) -> None:
        self._noted[signal.Signals(number).name] = 1.0
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if self._polls:  # a handler may interrupt a write of the same stream, so past it
                os.write(2, b"\nSIGINT: saves after this step and stops; once more ends at once, without saving\n")

    def __enter__(self) -> "StopRequests":
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def reason(flags: Mapping[str, float]) -> str | None:
    """What asked the run to stop, from the `flags` of all ranks added up or averaged; None where nothing did."""
    return ", ".join(request for request, flag in flags.items() if flag) or None
