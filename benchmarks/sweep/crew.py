"""The drivers of a sweep, one a rank: under a launcher each starts its rank of every point, and all go on to the same next one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import psutil
import torch.distributed as dist

from xkd.benchmarks.sweep.fresh import Outcome, call
from xkd.train.distributed import Place, exchange, free_port, from_rank_0

T = TypeVar("T")
SHARE_OF_MEMORY = 0.9  # of what is free, for the ranks of a machine together
PATIENCE = timedelta(hours=12)  # for a driver whose point takes long


class Crew:
    """This driver among those of all ranks; alone where there is one rank."""

    def __init__(self, place: Place, store: dist.TCPStore | None):
        self.place, self._store = place, store
        self._calls = 0

    def agree(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        return value if self._store is None else from_rank_0(value)

    def each(self, value: T) -> list[T]:
        """What each rank has, in rank order."""
        return [value] if self._store is None else exchange(value)

    def call(self, function: Callable, *arguments, seconds: float) -> tuple[list[Any], str | None]:
        """Calls the function in a fresh process of each rank, where it finds its process group's variables.

        Returns what it returned on each rank, or why the first rank to fail has failed; the processes of the others end then.
        """
        self._calls += 1
        key = f"failed-{self._calls}"
        environment = {"MASTER_PORT": str(self.agree(free_port())), "TORCHELASTIC_USE_AGENT_STORE": None}
        outcome = call(
            function,
            *arguments,
            seconds=seconds,
            environment=environment,
            memory_bytes=self._memory(),
            stop=lambda: "another rank failed" if self._store and self._store.check([key]) else None,
        )
        if self._store and outcome.reason:
            self._store.compare_set(key, "", outcome.reason)  # the first stays
        outcomes: list[Outcome] = self.each(outcome)
        if all(one.reason is None for one in outcomes):
            return [one.value for one in outcomes], None
        return [], self._store.get(key).decode() if self._store else outcome.reason

    def _memory(self) -> int:
        on_machine = int(os.environ.get("LOCAL_WORLD_SIZE", self.place.world_size))
        return int(SHARE_OF_MEMORY * psutil.virtual_memory().available / on_machine)


@contextmanager
def crew(place: Place) -> Iterator[Crew]:
    """The drivers, once all of them are there."""
    if place.world_size == 1:
        yield Crew(place, None)
        return
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        port = from_rank_0(free_port())
        yield Crew(
            place, dist.TCPStore(os.environ["MASTER_ADDR"], port, place.world_size, is_master=place.rank == 0, timeout=PATIENCE)
        )
        dist.barrier()  # rank 0 has the store that the others ask
    finally:
        dist.destroy_process_group()
