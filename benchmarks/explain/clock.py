"""Tells apart, for each part of a step, when the run's thread works, waits for a core, and stands still."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

NANO = 1e-9
READERS = ("read-ahead", "shard-cache")  # names of the threads that read shards


class Usage(NamedTuple):
    """Seconds gone by, and those of them in which a thread ran, or could have run but had no core.

    The rest it waited for something else: another thread, a device, a disk, the network, or to be continued after a SIGSTOP.
    """

    wall: float = 0.0
    ran: float = 0.0
    delayed: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*map(sum, zip(self, other, strict=True)))

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(*(mine - its for mine, its in zip(self, other, strict=True)))

    @property
    def own(self) -> float:
        """What it would have taken had a core been free whenever it was wanted."""
        return max(0.0, self.wall - self.delayed)

    @property
    def still(self) -> float:
        return max(0.0, self.wall - self.ran - self.delayed)

    def scaled(self, factor: float) -> "Usage":
        return Usage(*(value * factor for value in self))


def delay_seconds(schedstat: bytes) -> float:
    """Seconds that a thread was runnable without a core, as the kernel's schedstat has them (Documentation/scheduler)."""
    return int(schedstat.split()[1]) * NANO


class Clock:
    """Adds up the `parts` of what the thread that made it does; a part is named when it ends.

    `synchronize` waits for the device, so that each part has the work that it has begun.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None):
        self._synchronize = synchronize
        self._cpu = time.pthread_getcpuclockid(threading.get_ident())
        self._schedstat = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self.parts: dict[str, Usage] = {}
        self._pending, self._mark = Usage(), self.now()

    def close(self) -> None:
        os.close(self._schedstat)

    def now(self) -> Usage:
        """What has gone by since some moment; `wall` is the machine's monotonic clock."""
        delayed = self._delayed()
        while True:
            wall, ran, before = time.monotonic(), time.clock_gettime(self._cpu), delayed
            delayed = self._delayed()
            if delayed == before:  # else the core was lost between one reading and the next
                return Usage(wall, ran, delayed)

    def _delayed(self) -> float:
        return delay_seconds(os.pread(self._schedstat, 64, 0))

    def lap(self, part: str) -> None:
        """What went by since the last lap, without what lies `within` it, was `part`."""
        self._synchronize()
        self._add(part, self._pending + self._passed())
        self._pending = Usage()

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """What goes by in this context is `part`, and not of the part around it."""
        self._synchronize()
        around, self._pending = self._pending + self._passed(), Usage()
        try:
            yield
        finally:
            self._synchronize()
            self._add(part, self._pending + self._passed())
            self._pending = around

    def _passed(self) -> Usage:
        now = self.now()
        passed, self._mark = now - self._mark, now
        return passed

    def _add(self, part: str, usage: Usage) -> None:
        self.parts[part] = self.parts.get(part, Usage()) + usage


class Delays:
    """How long each of some threads of this process has wanted a core; made of those that communicate for torch, over gloo."""

    def __init__(self):
        self._files, self._seconds = [], []
        python = {str(thread.native_id) for thread in threading.enumerate()}
        own = _name("/proc/self")
        for thread in set(os.listdir("/proc/self/task")) - python:
            with suppress(OSError):  # it has ended since it was listed
                name = _name(f"/proc/self/task/{thread}")
                if name == own or name.startswith("pt_gloo"):  # gloo's own loop has no name, and so that of the process
                    self._files.append(os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY))
                    self._seconds.append(0.0)

    def read(self) -> list[float]:
        """Seconds of each so far; of one that has ended, those it had."""
        for index, file in enumerate(self._files):
            with suppress(ProcessLookupError):
                self._seconds[index] = delay_seconds(os.pread(file, 64, 0))
        return list(self._seconds)

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files = []


def _name(folder: str) -> str:
    with open(f"{folder}/comm") as file:
        return file.read().strip()


class Threads:
    """What the threads of this process have used since it was made: `readers` those that read shards, `all` of them.

    Sampled now and then, since what a thread has used is not to be had once it has ended.
    """

    def __init__(self):
        self._last = self._read()
        self.readers = self.all = Usage()

    def sample(self) -> None:
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        now = self._read()
        for thread, usage in now.items():
            used = usage - self._last.get(thread, Usage())
            self.all += used
            if names.get(thread) in READERS:
                self.readers += used
        self._last = now

    @staticmethod
    def _read() -> dict[int, Usage]:
        found = {}
        for thread in os.listdir("/proc/self/task"):
            try:
                with open(f"/proc/self/task/{thread}/schedstat", "rb") as file:
                    schedstat = file.read()
            except OSError:  # it has ended since it was listed
                continue
            found[int(thread)] = Usage(0.0, int(schedstat.split()[0]) * NANO, delay_seconds(schedstat))
        return found


def busy_seconds(cores: frozenset[int]) -> dict[int, float]:
    """Seconds in which each of these cores was used, by whomever, or kept back by the machine that this one is a guest of."""
    found = {}
    with open("/proc/stat") as file:
        for line in file:
            name, *fields = line.split()
            if name[:3] == "cpu" and name[3:].isdecimal() and int(name[3:]) in cores:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
                found[int(name[3:])] = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return found
