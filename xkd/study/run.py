"""Runs the cells of a study that have no record yet, several at once, each in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from xkd.study import media
from xkd.study.plan import Cell
from xkd.train.run import DONE, FAILED, STOPPED

POLL_SECONDS = 0.5


class Workers:
    """Up to `count` cells at once; a context manager, within which a signal ends the study once the cells at work have saved."""

    def __init__(self, count: int, command: Sequence[str], logs: Path, say: Callable[[str], None]):
        self._count, self._command, self._logs, self._say = count, command, logs, say
        self._at_work: list[tuple[Cell, subprocess.Popen]] = []
        self._failed: list[Cell] = []
        self._asked = False
        self._handlers = {}

    def run(self, cells: Sequence[Cell]) -> int:
        """Exit code: done, failed where a cell has failed, stopped where a signal came."""
        waiting = list(cells)
        while self._at_work or (waiting and not self._asked):
            while waiting and not self._asked and len(self._at_work) < self._count:
                self._start(waiting.pop(0))
            time.sleep(POLL_SECONDS)
            self._collect()
        return STOPPED if self._asked else FAILED if self._failed else DONE

    def _start(self, cell: Cell) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{cell.name}.log"
        self._say(f"{cell.label}: begins, {log}")
        with log.open("a") as file:
            process = subprocess.Popen(
                [*self._command, "--cell", cell.label],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the study alone, which asks the cell to save
                env=os.environ | {"OMP_NUM_THREADS": "1"},  # one core a cell
            )
        self._at_work.append((cell, process))

    def _collect(self) -> None:
        over = [(cell, process) for cell, process in self._at_work if process.poll() is not None]
        self._at_work = [pair for pair in self._at_work if pair not in over]
        for cell, process in over:
            code = process.returncode
            if code == DONE:
                self._say(f"{cell.label}: done, {cell.record}")
            elif self._asked:
                self._say(f"{cell.label}: stopped; goes on when the study is started again")
            else:
                self._failed.append(cell)
                self._say(f"{cell.label}: failed with exit code {code}, see {self._logs / cell.name}.log")

    def _stop(self, number: int, frame) -> None:
        self._asked = True
        for _, process in self._at_work:
            process.send_signal(signal.SIGTERM)

    def __enter__(self) -> "Workers":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            self._handlers[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def run_study(cells: Sequence[Cell], arguments: Sequence[str], workers: int, say: Callable[[str], None]) -> int:
    """Runs what is not finished; returns the exit code. `arguments` are those of `xkd study` that name the study."""
    left = [cell for cell in cells if not cell.record.is_file()]
    say(f"{len(cells) - len(left)} of {len(cells)} cells are finished")
    if not left:
        return DONE
    study = left[0].study
    for name in dict.fromkeys(cell.media for cell in left):
        media.prepare(study, name, workers)
    command = [sys.executable, "-m", "xkd", "study", *arguments]
    with Workers(workers, command, study.work_dir / "logs", say) as at_work:
        return at_work.run(left)
