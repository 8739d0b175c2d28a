"""Ends a rank that has stood still for too long, and says which rank of the run is the cause."""

import os
import sys
import threading
import time
import traceback
from pathlib import Path

from xkd.train.distributed import Place
from xkd.train.heartbeat import Moment, Progress, interval
from xkd.train.run_directory import write_failure
from xkd.train.suspects import SILENT_BEATS, listen, verdict

# How many times longer than `train.hang_timeout_minutes` may be taken, where that is no sign of a rank that hangs.
FIRST_STEP = 3  # of a start: it fills the pipelines and compiles
PATIENCE = {"checkpoint": 3, "probe": 6}
STORAGE_SECONDS = 30  # to wait for a file system that may be what hangs


def patience(moment: Moment, start: int) -> int:
    """How many times `train.hang_timeout_minutes` a rank may be in its phase, in a run that has gone on from step `start`."""
    return max(PATIENCE.get(moment.phase, 1), FIRST_STEP if moment.step == start else 1)


class Watchdog:
    """Watches this rank's progress in a thread; a context manager. Without `minutes` it watches nothing.

    Time in which the process itself was suspended does not count.
    """

    def __init__(self, run_dir: Path, place: Place, progress: Progress, minutes: float | None):
        self._run_dir, self._place, self._progress, self._minutes = run_dir, place, progress, minutes
        self._listening_seconds = SILENT_BEATS * interval(place.world_size)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def _watch(self) -> None:
        between = min(1.0, self._minutes * 60 / 10)
        moment, stood, looked = self._progress.now, 0.0, time.monotonic()
        while not self._ending.wait(between):
            now = time.monotonic()
            passed, looked = min(now - looked, 2 * between), now
            if self._progress.now is not moment:
                moment, stood = self._progress.now, 0.0
            else:
                stood += passed
            if stood > self._minutes * 60 * patience(moment, self._progress.start):
                self._end(moment, stood)

    def _end(self, moment: Moment, stood: float) -> None:
        """Says what is known, the sure before what storage has to be asked for, and ends the process with exit code 1."""
        stack = "".join(traceback.format_stack(sys._current_frames()[threading.main_thread().ident]))
        _say(
            f"rank {self._place.rank} (pid {os.getpid()}) has been in {moment.phase} after {moment.step} steps for {stood:.0f} s "
            f"and ends (train.hang_timeout_minutes is {self._minutes:g}):\n{stack}"
        )
        told = threading.Thread(target=self._tell, daemon=True)
        told.start()
        told.join(STORAGE_SECONDS + self._listening_seconds)
        if told.is_alive():
            _say(f"{self._run_dir}: its file system does not answer")
        time.sleep(self._listening_seconds)  # other ranks are listening too, and should not take this one for gone
        os._exit(1)

    def _tell(self) -> None:
        reason = f"hung: {verdict(*listen(self._run_dir, self._place.world_size))}"
        _say(f"{self._run_dir}: failed: {reason}")
        write_failure(self._run_dir, reason)

    def __enter__(self) -> "Watchdog":
        if self._minutes:
            self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()


def _say(text: str) -> None:
    """To the standard error, whoever holds Python's lock of it."""
    os.write(2, f"{text}\n".encode())
