"""When each rank arrives at the calls in which ranks wait for each other, and what follows: who waits for whom, and how long."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import wraps
from typing import NamedTuple

import numpy as np
import torch.distributed as dist
from torch.distributed import distributed_c10d

from xkd.benchmarks.explain.clock import Clock, Delays

COMMUNICATION = "communication"
OPERATIONS = (
    *("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "broadcast", "reduce", "all_gather"),
    *("all_gather_object", "broadcast_object_list", "barrier"),
)


class Call(NamedTuple):
    """One rank's part in a call: its clock (seconds) when it began and ended.

    `excused` is what it spent since the call before in wanting a core or in waiting for data, each of which has rules of its own.
    `crowded` is how long a thread that communicates wanted a core meanwhile.
    """

    name: str
    begin: float
    end: float
    excused: float = 0.0
    crowded: float = 0.0


class Calls:
    """This rank's calls, in order, since the last `restart`; `excused` counts on from anywhere."""

    def __init__(self, clock: Clock, excused: Callable[[], float]):
        self._clock, self._excused, self._last = clock, excused, excused()
        self._delays = Delays()
        self.found: list[Call] = []

    def restart(self) -> None:
        """Forgets all calls, and looks again which threads communicate."""
        self._delays.close()
        self._delays = Delays()
        self.found = []

    def close(self) -> None:
        self._delays.close()

    def timed(self, name: str, function: Callable) -> Callable:
        """The function, waited for at once, with each call of it noted."""

        @wraps(function)
        def call(*arguments, **named):
            with self._clock.within(COMMUNICATION):
                excused, delays, begin = self._excused() - self._last, self._delays.read(), time.monotonic()
                work = function(*arguments, **named)
                if isinstance(work, dist.Work) and not isinstance(work, distributed_c10d._IllegalWork):  # that of a bundle
                    work.wait()
                crowded = max((now - before for now, before in zip(self._delays.read(), delays, strict=True)), default=0.0)
                self.found.append(Call(name, begin, time.monotonic(), excused, crowded))
            self._last = self._excused()
            return work

        return call


@contextmanager
def recorded(clock: Clock, excused: Callable[[], float]) -> Iterator[Calls]:
    """Notes, while it is open, the calls of OPERATIONS of torch.distributed; each is the clock's part COMMUNICATION.

    Open it before the process group: DeepSpeed looks some of the functions up when it joins.
    """
    originals = {name: getattr(dist, name) for name in OPERATIONS}
    with closing(Calls(clock, excused)) as calls:
        try:
            for name, function in originals.items():
                setattr(dist, name, calls.timed(name, function))
            yield calls
        finally:
            for name, function in originals.items():
                setattr(dist, name, function)


class Waiting(NamedTuple):
    """Seconds of one rank: spent in calls until the last rank arrived; held up by its own arriving last; for want of a core.

    `late` is by how much it was later than the last but one, as far as what it did since the call before took it longer than any
    other, what is excused left out. `crowded` is how much longer calls may have taken, once all were there, because some rank's
    thread that communicates wanted a core.
    """

    waited: float
    late: float
    crowded: float


def waiting(ranks: Sequence[Sequence[Call]], machines: Sequence[str]) -> list[Waiting]:
    """Who waited, and for whom, in rank order. All ranks must have made the same calls.

    Ranks of one machine have the same clock. Those of others are set by the ends of calls, which no rank can reach before all
    have begun: on average all reach them at the same moment.
    """
    names = [[call.name for call in calls] for calls in ranks]
    assert all(own == names[0] for own in names), "the ranks have not made the same calls"
    if not names[0] or len(ranks) == 1:
        return [Waiting(0.0, 0.0, sum(call.crowded for call in calls)) for calls in ranks]
    begin, end, excused, crowded = np.array([[call[1:] for call in calls] for calls in ranks]).transpose(2, 0, 1)
    ahead = np.array([0.0 if of == machines[0] else np.median(row - end[0]) for of, row in zip(machines, end, strict=True)])
    begin, end = begin - ahead[:, None], end - ahead[:, None]
    waited = np.clip(np.minimum(begin.max(0), end) - begin, 0, None)
    together = np.clip(end - begin - waited, 0, None)
    columns = waited.sum(1), _late(begin, end, excused), np.minimum(together, crowded.sum(0)).sum(1)
    return [Waiting(*map(float, row)) for row in zip(*columns, strict=True)]


def _late(begin: np.ndarray, end: np.ndarray, excused: np.ndarray) -> np.ndarray:
    """Seconds by which each rank held the others up, of arrays [rank, call]; the first call has none before it."""
    longer = _lead(begin[:, 1:] - end[:, :-1] - excused[:, 1:])
    return np.minimum(_lead(begin[:, 1:]), longer).sum(1)


def _lead(values: np.ndarray) -> np.ndarray:
    """By how much the greatest value of each column is greater than the next, where it stands; 0 elsewhere."""
    first, column = values.argmax(0), np.arange(values.shape[1])
    lead = np.zeros_like(values)
    lead[first, column] = np.diff(np.sort(values, axis=0)[-2:], axis=0)[0]
    return lead
