"""When each rank arrives at the calls in which ranks wait for each other, and what follows: who waits for whom, and how long."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps

import numpy as np
import torch.distributed as dist
from torch.distributed import distributed_c10d

from xkd.benchmarks.explain.clock import Clock

COMMUNICATION = "communication"
OPERATIONS = (
    *("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "broadcast", "reduce", "all_gather"),
    *("all_gather_object", "broadcast_object_list", "barrier"),
)


@dataclass
class Calls:
    """One rank's calls in order: what they were, and its clock (seconds) when it began and ended each.

    `excused` is what it spent since the call before in wanting a core or in waiting for data, each of which has rules of its own.
    """

    names: list[str] = field(default_factory=list)
    begin: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)
    excused: list[float] = field(default_factory=list)


@contextmanager
def recorded(clock: Clock, excused: Callable[[], float]) -> Iterator[Calls]:
    """Records, while it is open, the calls of OPERATIONS of torch.distributed; `excused` counts on from anywhere.

    Each is the part COMMUNICATION, and waited for at once, where it would otherwise go on beside other work. Open it before the
    process group: DeepSpeed looks some of the functions up when it joins.
    """
    calls, last = Calls(), [excused()]

    def timed(name: str, function: Callable) -> Callable:
        @wraps(function)
        def call(*arguments, **named):
            with clock.within(COMMUNICATION):
                calls.names.append(name)
                calls.excused.append(excused() - last[0])
                calls.begin.append(time.monotonic())
                work = function(*arguments, **named)
                if isinstance(work, dist.Work) and not isinstance(work, distributed_c10d._IllegalWork):  # that of a bundle
                    work.wait()
            calls.end.append(time.monotonic())
            last[0] = excused()
            return work

        return call

    originals = {name: getattr(dist, name) for name in OPERATIONS}
    try:
        for name, function in originals.items():
            setattr(dist, name, timed(name, function))
        yield calls
    finally:
        for name, function in originals.items():
            setattr(dist, name, function)


@dataclass(frozen=True)
class Waiting:
    """Seconds, one number a rank: spent in calls until the last rank arrived, and held up by this rank's arriving last.

    `late` is by how much a rank was later than the last but one, less what excuses it.
    """

    waited: tuple[float, ...]
    late: tuple[float, ...]


def waiting(ranks: Sequence[Calls], machines: Sequence[str]) -> Waiting:
    """Who waited, and for whom. All ranks must have made the same calls.

    Ranks of one machine have the same clock. Those of others are set by the ends of calls, which no rank can reach before all
    have begun: on average all reach them at the same moment.
    """
    assert all(calls.names == ranks[0].names for calls in ranks), "the ranks have not made the same calls"
    begin, end, excused = (np.array([getattr(calls, name) for calls in ranks]) for name in ("begin", "end", "excused"))
    if not begin.size or len(ranks) == 1:
        return Waiting((0.0,) * len(ranks), (0.0,) * len(ranks))
    ahead = np.array([0.0 if of == machines[0] else np.median(row - end[0]) for of, row in zip(machines, end, strict=True)])
    begin, end = begin - ahead[:, None], end - ahead[:, None]
    waited = np.clip(np.minimum(begin.max(0), end) - begin, 0, None).sum(1)
    last, gap = begin.argmax(0), np.diff(np.sort(begin, axis=0)[-2:], axis=0)[0]
    unexcused = np.clip(gap - excused[last, range(len(last))], 0, None)
    late = [unexcused[last == rank].sum() for rank in range(len(ranks))]
    return Waiting(tuple(map(float, waited)), tuple(map(float, late)))
