"""Adds up the seconds that a kind of work takes, in whichever threads."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps


class Stopwatch:
    """`seconds` is the sum over all stretches of work; what several threads do at a time counts for each."""

    def __init__(self):
        self.seconds = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time in this context."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            with self._lock:
                self.seconds += elapsed

    def timed(self, function: Callable) -> Callable:
        """The function, its time counted."""

        @wraps(function)
        def counted(*arguments, **named):
            with self.running():
                return function(*arguments, **named)

        return counted
