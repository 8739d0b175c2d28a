"""Runs of `xkd train` as a launcher starts them, a process a rank, but forked from one that has imported everything."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from xkd.benchmarks.ranks import CONTEXT
from xkd.cli import main
from xkd.train.distributed import free_port


@contextmanager
def started(arguments: Sequence[str], log: Path, ranks: int = 2) -> Iterator[list[BaseProcess]]:
    """The processes of `xkd train ARGUMENTS`, in rank order; what they write goes to `log`. None outlives the context."""
    port = free_port()
    processes = [CONTEXT.Process(target=_rank, args=(rank, ranks, port, arguments, log), daemon=True) for rank in range(ranks)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def exit_codes(processes: Sequence[BaseProcess]) -> list[int]:
    """Those of all ranks, once they have ended by themselves."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def wait_for(condition: Callable[[], object], processes: Sequence[BaseProcess]) -> None:
    """Returns when `condition` holds; the ranks must not end before."""
    while not condition():
        assert all(process.is_alive() for process in processes), [process.exitcode for process in processes]
        time.sleep(0.002)


def _rank(rank: int, ranks: int, port: int, arguments: Sequence[str], log: Path) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(handle, stream)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    sys.exit(main(["train", *arguments]))
