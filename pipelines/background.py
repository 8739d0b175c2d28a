"""Daemon threads that work through names, and end with who started them: closed, collected, or at the interpreter's exit."""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from xkd.pipelines.store.download import POLL_SECONDS, Stop, pause

Item = TypeVar("Item")

JOIN_SECONDS = 2.0  # for threads that are in the middle of something when they are to end
RETRY_SECONDS = 0.1


class _Todo:
    """The names to come, shared by the threads; it refers to nobody."""

    def __init__(self, ended: threading.Event):
        self.ended = ended
        self._changed = threading.Condition()
        self._names: deque[str] = deque()
        self._version = 0

    def replace(self, names: Iterable[str]) -> None:
        with self._changed:
            self._names = deque(names)
            self._version += 1
            self._changed.notify_all()

    def take(self) -> tuple[str, int] | None:
        """The next name, once there is one; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._names or self.ended.is_set())
            return None if self.ended.is_set() else (self._names.popleft(), self._version)

    def put_back(self, name: str, version: int) -> None:
        """Try a name again, if it is still among those to come."""
        self.ended.wait(RETRY_SECONDS)
        with self._changed:
            if version == self._version:
                self._names.appendleft(name)

    def end(self) -> None:
        self.ended.set()
        with self._changed:
            self._changed.notify_all()


class Background:
    """Threads that call a method with one name after the other; where it returns False, again after a while.

    They start with the first names. They do not keep the method's object alive, and set `ended` when they are to end.
    """

    def __init__(self, method: Callable[[str], bool], num_threads: int, ended: threading.Event):
        self._todo = _Todo(ended)
        self._method = weakref.WeakMethod(method)
        self._num_threads = num_threads
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()  # entered again when a collected reader says in here that it is done
        self.close = weakref.finalize(self, _end, self._todo, self._threads)

    def replace(self, names: Iterable[str]) -> None:
        """Work on these names, in this order, and on none of those before that are not begun."""
        self._todo.replace(names)
        with self._lock:
            if not self._threads and not self._todo.ended.is_set():
                for _ in range(self._num_threads):
                    thread = threading.Thread(target=_work, args=(self._todo, self._method), name="shard-cache", daemon=True)
                    self._threads.append(thread)
                    thread.start()


def _work(todo: _Todo, method: weakref.WeakMethod) -> None:
    while taken := todo.take():
        bound = method()
        if bound is None:
            return
        done = bound(taken[0])
        del bound  # while it waits, a thread keeps nothing alive
        if not done:
            todo.put_back(*taken)


def _end(todo: _Todo, threads: list[threading.Thread]) -> None:
    todo.end()
    latest = time.monotonic() + JOIN_SECONDS
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(0.0, latest - time.monotonic()))


def call_for_all(
    function: Callable[[Item, Stop], object], items: Sequence[Item], num_threads: int, stopped: Stop = lambda: False
) -> None:
    """Call a function for all items, several at a time, with what tells it to stop. The first exception is raised.

    Raises Stopped soon after `stopped` says so, even if the function is stuck: then its threads are left to themselves.
    """
    todo, errors, given_up = deque(items), [], threading.Event()

    def must_stop() -> bool:
        return given_up.is_set() or stopped()

    def work() -> None:
        while not must_stop():
            try:
                item = todo.popleft()
            except IndexError:
                return
            try:
                function(item, must_stop)
            except Exception as error:  # noqa: BLE001 (raised again below)
                errors.append(error)
                given_up.set()

    threads = [threading.Thread(target=work, name="shard-cache", daemon=True) for _ in range(min(num_threads, len(items)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not errors:
                pause(0, stopped, "a shard")
                thread.join(POLL_SECONDS)
    finally:
        given_up.set()
    if errors:
        raise errors[0]
    pause(0, stopped, "a shard")
