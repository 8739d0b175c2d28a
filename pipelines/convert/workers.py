"""Maps a function over items in worker processes, in order, with bounded memory and nothing left behind."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Items in work or done and waiting for their turn, for each worker.
AHEAD = 4


def map_in_order(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """The results of `function` in the order of `items`; workers are started afresh, so `function` must be importable.

    RuntimeError if a worker dies (out of memory, or a crash in native code); it names the items that were in work.
    """
    items = iter(items)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        pending = deque((item, pool.submit(function, item)) for item in islice(items, workers * AHEAD))
        while pending:
            yield pending[0][1].result()
            pending.popleft()
            pending.extend((item, pool.submit(function, item)) for item in islice(items, 1))
    except BrokenProcessPool:
        suspects = ", ".join(str(item) for item, future in pending if future.exception() is not None)
        raise RuntimeError(f"a worker process died (out of memory, or crashed by a file) on one of: {suspects}") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the main process, and end when it ends in whatever way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
