"""Maps a function over items in worker processes, in order, with bounded memory, past workers that die, leaving nothing behind."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any

# Items in work or done and waiting for their turn, for each worker.
AHEAD = 4

# What no healthy clip needs, even the largest one on a slow file system: an item still in work is in an endless loop.
ITEM_SECONDS = 900.0

# An item that loses its worker has this many tries in all, the later ones alone: the first may have failed for want of memory.
TRIES = 2


@dataclass
class _Task:
    item: Any
    tries: int = 0
    done: bool = False
    result: Any = None


@dataclass
class _Worker:
    """A process that does one task at a time."""

    process: multiprocessing.Process
    connection: Connection
    task: _Task | None = None


@dataclass
class _Crew:
    """The workers, started when they are needed, and the tasks that go to them."""

    function: Callable
    size: int
    item_seconds: float
    workers: list[_Worker] = field(default_factory=list)

    @property
    def busy(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.task is not None]

    @property
    def retrying(self) -> bool:
        return any(worker.task.tries > 1 for worker in self.busy)

    def start(self, task: _Task) -> None:
        worker = next((worker for worker in self.workers if worker.task is None), None) or self._hire()
        worker.task = task
        task.tries += 1
        with suppress(OSError):  # it is dead already, which `collect` finds out
            worker.connection.send(task.item)

    def collect(self) -> Iterator[tuple[_Task, str | None]]:
        """Wait until tasks have ended: each, done, or with the reason for which its worker died or had to."""
        ready = wait([worker.connection for worker in self.busy])
        for worker in [worker for worker in self.busy if worker.connection in ready]:
            task, worker.task = worker.task, None
            try:
                task.result, error = worker.connection.recv()
            except (EOFError, OSError):
                yield task, self._bury(worker)
                continue
            if isinstance(error, MemoryError):
                worker.process.kill()  # and with it goes what memory it holds
                self._bury(worker)
                yield task, "there was not enough memory for it"
                continue
            if error is not None:
                raise error
            task.done = True
            yield task, None

    def dismiss(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.connection.close()

    def _hire(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(self.function, theirs, self.item_seconds), daemon=True)
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours))
        return self.workers[-1]

    def _bury(self, worker: _Worker) -> str:
        worker.process.join()
        worker.connection.close()
        self.workers.remove(worker)
        code = worker.process.exitcode
        if code == -signal.SIGALRM:
            return f"it took more than {self.item_seconds:g} s"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"its worker process {how} (a crash in a library, or out of memory)"


def map_in_order(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int,
    *,
    lost: Callable[[Any, str], Any] | None = None,
    item_seconds: float = ITEM_SECONDS,
) -> Iterator[Any]:
    """The results of `function` in the order of `items`; workers are started afresh, so `function` must be importable.

    An item whose worker dies or has too little memory, or which is still in work after `item_seconds`, is tried again in a fresh
    worker while no other item is in work, and if that fails too its result is `lost(item, reason)`; RuntimeError where `lost` is
    not given.
    """
    assert workers >= 1, workers
    upcoming, waiting, again = iter(items), deque(), deque()
    crew = _Crew(function, workers, item_seconds)
    try:
        while True:
            while not again and not crew.retrying and len(crew.busy) < workers and len(waiting) < workers * AHEAD:
                new = [_Task(item) for item in islice(upcoming, 1)]
                if not new:
                    break
                waiting.append(new[0])
                crew.start(new[0])
            if again and not crew.busy:
                crew.start(again.popleft())
            if not waiting:
                return
            if waiting[0].done:
                yield waiting.popleft().result
                continue  # give its worker something to do first
            for task, reason in crew.collect() if crew.busy else ():
                if reason is not None and task.tries < TRIES:
                    again.append(task)
                elif reason is not None:
                    task.done, task.result = True, _give_up(task, reason, lost)
    finally:
        crew.dismiss()


def _give_up(task: _Task, reason: str, lost: Callable[[Any, str], Any] | None) -> Any:
    if lost is None:
        raise RuntimeError(f"{task.item}: {reason}, in {TRIES} tries")
    return lost(task.item, f"{reason}, in {TRIES} tries")


def _work(function: Callable, connection: Connection, item_seconds: float) -> None:
    """Do what comes, one item at a time.

    The limit is the kernel's alarm, whose default action ends the process: native code that never returns cannot keep it off.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            item = connection.recv()
        except EOFError:  # the main process is gone
            return
        signal.setitimer(signal.ITIMER_REAL, item_seconds)
        try:
            outcome = function(item), None
        except MemoryError:
            outcome = None, MemoryError()  # a plain one, for not all of a library's can be sent
        except Exception as error:  # noqa: BLE001 (it is raised again in the main process)
            outcome = None, error
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(outcome)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
