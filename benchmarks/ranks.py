"""Functions run on real ranks: processes that share a process group over gloo, as a launcher would start them.

They are forked from a process that has imported DeepSpeed once, so that a rank starts in a fraction of a second. Each call has new
ones, since a process may hold one engine only.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait

import torch.distributed as dist

from xkd.train.distributed import Place, find_place, free_port
from xkd.train.engine import join_process_group

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["deepspeed", "xkd.train.pretraining", "xkd.train.trainer"])


def on_ranks(function: Callable, *arguments, ranks: int = 2) -> list:
    """What `function(place, *arguments)` returns on each rank, in rank order; return arrays rather than tensors.

    Raises what the first rank to fail has raised.
    """
    port = free_port()
    with ProcessPoolExecutor(ranks, mp_context=CONTEXT) as processes:
        futures = [processes.submit(_run, Place(rank, rank, ranks), port, function, arguments) for rank in range(ranks)]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        return [future.result() for future in futures]


def _run(place: Place, port: int, function: Callable, arguments: tuple):
    values = {"RANK": place.rank, "LOCAL_RANK": place.local_rank, "WORLD_SIZE": place.world_size}
    os.environ.update({name: str(value) for name, value in values.items()} | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    assert find_place() == place
    join_process_group()
    try:
        return function(place, *arguments)
    finally:
        if dist.is_initialized():  # a whole run ends the group itself
            dist.destroy_process_group()  # the other ranks, which may wait for this one, fail with it
