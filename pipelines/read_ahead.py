"""Maps a function over items in order, with threads that work on the items to come."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")

# A result that is not there after this time is worth another thread; reading from memory takes less.
PATIENCE_SECONDS = 0.001


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], depth: int, interrupt: Callable[[], None] = lambda: None
) -> Iterator[tuple[Item, Result]]:
    """Each item and its result, in the order of the items, of which up to `depth` are begun before they are asked for; 0: none.

    An item is taken from `items` when it is begun, a quarter of `depth` together: a thread that finds the next one need not be
    woken. What the function raises is raised at its item's turn. There is one thread, and twice as many, up to `depth`, after each
    millisecond that a result is waited for: a function that waits gets many, one that works few, since more would only wait for
    Python's global lock. Once the iterator is at its end, has raised, is closed or no longer referred to, no item is begun any more
    and every thread has ended; `interrupt` is called before they are waited for, to have calls that wait give up.
    """
    if not depth:
        yield from ((item, function(item)) for item in items)
        return
    items, batch = iter(items), max(1, depth // 4)
    threads = _Threads(function, depth)
    try:
        begun = deque(threads.begin(item) for item in islice(items, depth))
        while begun:
            job = begun.popleft()
            threads.wait_for(job)
            if len(begun) <= depth - batch:
                begun.extend(threads.begin(item) for item in islice(items, depth - len(begun)))
            yield job.item, job.result
    finally:
        interrupt()
        threads.end()


class _Job(Generic[Item, Result]):
    """An item under way; the lock is released when it is done."""

    __slots__ = ("error", "item", "result", "under_way")

    def __init__(self, item: Item):
        self.item, self.result, self.error = item, None, None
        self.under_way = threading.Lock()
        self.under_way.acquire()


class _Threads:
    """Threads that do jobs in the order in which they were begun."""

    def __init__(self, function: Callable, limit: int):
        self._function, self._limit = function, limit
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def begin(self, item) -> _Job:
        job = _Job(item)
        self._jobs.put(job)
        if not self._threads:
            self._start(1)
        return job

    def wait_for(self, job: _Job) -> None:
        """Wait until a job is done. Raises what it raised."""
        while not job.under_way.acquire(timeout=PATIENCE_SECONDS if len(self._threads) < self._limit else -1):
            self._start(min(len(self._threads), self._limit - len(self._threads), self._jobs.qsize()))
        if job.error is not None:
            raise job.error

    def end(self) -> None:
        """Begin no other job, and wait for the threads."""
        with suppress(Empty):  # a thread may take the last one meanwhile
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self, count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=_work, args=(self._function, self._jobs), name="read-ahead", daemon=True)
            thread.start()
            self._threads.append(thread)


def _work(function: Callable, jobs: SimpleQueue) -> None:
    while (job := jobs.get()) is not None:
        try:
            job.result = function(job.item)
        except BaseException as error:  # noqa: BLE001 (raised again where the result is taken)
            job.error = error
        job.under_way.release()
