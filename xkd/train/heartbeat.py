"""What each rank is at, for the others and for people to read: run_dir/heartbeat/rank-N.json."""

import json
import os
import socket
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from xkd.train.distributed import Place

FOLDER = "heartbeat"
# In order, between two counts of steps.
PHASES = ("log", "probe", "pictures", "checkpoint", "data", "forward_backward", "reduce", "optimizer", "ended")
FILE_BYTES = 512
LAST_SECONDS = 5.0  # for the last writing: a file system that hangs must not keep the process
BEATS_PER_SECOND = 100  # of all ranks together: a shared file system has other work


class Moment(NamedTuple):
    """Steps that are done, the phase that a rank is in, and when it began (`time.monotonic`)."""

    step: int
    phase: str
    since: float


class Progress:
    """Where a rank is in its run, told by its main thread; other threads read `now`, which is replaced as a whole."""

    def __init__(self, step: int = 0):
        self.start = step
        self.now = Moment(step, "data", time.monotonic())

    def begin(self, step: int) -> None:
        """Goes on from `step`, the first of this start."""
        self.start = step
        self.enter("data", step)

    def enter(self, phase: str, step: int | None = None) -> None:
        """Begins one of PHASES; with `step`, after so many steps."""
        assert phase in PHASES
        self.now = Moment(self.now.step if step is None else step, phase, time.monotonic())


class Beat(NamedTuple):
    """One rank's file: when it was written, and how long the rank had been in its phase then."""

    rank: int
    host: str
    pid: int
    step: int
    phase: str
    phase_seconds: float
    time: str


class Heartbeat:
    """Writes this rank's file once a second, less often where there are many ranks; a context manager."""

    def __init__(self, run_dir: Path, place: Place, progress: Progress):
        self._folder, self._rank, self._progress = run_dir / FOLDER, place.rank, progress
        self._interval = interval(place.world_size)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def _beat(self) -> None:
        last_fault, ended = None, False
        while True:
            try:
                self._write()
            except OSError as error:  # the run does not depend on it
                if error.errno != last_fault:
                    print(f"rank {self._rank}: its heartbeat cannot be written: {error}", file=sys.stderr, flush=True)
                last_fault = error.errno
            if ended:
                return
            ended = self._ending.wait(self._interval)

    def _write(self) -> None:
        """In place and of one length, rather than by a new name: that is one small write, also on a shared file system."""
        now = self._progress.now
        seconds, written = round(time.monotonic() - now.since, 1), datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        beat = Beat(self._rank, socket.gethostname(), os.getpid(), now.step, now.phase, seconds, written)
        handle = os.open(_path(self._folder, self._rank), os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.pwrite(handle, f"{json.dumps(beat._asdict()):{FILE_BYTES - 1}}\n".encode(), 0)
        finally:
            os.close(handle)

    def __enter__(self) -> "Heartbeat":
        self._folder.mkdir(exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._progress.enter("ended")
        self._ending.set()
        self._thread.join(timeout=LAST_SECONDS)


def interval(world_size: int) -> float:
    """Seconds between two heartbeats of a rank."""
    return max(1.0, world_size / BEATS_PER_SECOND)


def read_beats(run_dir: Path, world_size: int) -> list[Beat | None]:
    """What each rank has told last; None of a rank whose file cannot be read."""
    return [_read(_path(run_dir / FOLDER, rank)) for rank in range(world_size)]


def _path(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.json"


def _read(path: Path) -> Beat | None:
    try:
        return Beat(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
