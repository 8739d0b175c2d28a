"""What a rank knows of the others: its place, and what they add up and gather."""

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

import torch
import torch.distributed as dist

from xkd.losses import Ranks
from xkd.pipelines.shards.shard_files import StorageError

T = TypeVar("T")
# That ranks wait for one that is still copying shards. Other operations have the limit of `engine.join_process_group`.
LONGEST_WAIT = timedelta(hours=12)
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """This process among the ranks of the run."""

    rank: int
    local_rank: int
    world_size: int


def find_place() -> Place:
    """This process's place, as the launcher's environment variables tell it.

    A plain `python` start has none of them: it becomes the only rank, and the variables are set for the process group.
    Raises ValueError where some are missing, or where this is one of several SLURM tasks that no launcher has numbered.
    """
    if "RANK" not in os.environ:
        tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
        if tasks > 1:
            raise ValueError(
                f"{tasks} SLURM tasks were started, but no launcher told them their ranks: "
                "start one task a node that runs `deepspeed` or `torchrun`"
            )
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise ValueError(f"RANK is set in the environment, but not {', '.join(missing)}: start with `deepspeed` or `torchrun`")
    return Place(*(int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")))


def claim_device(place: Place) -> Literal["cpu", "gpu"]:
    """Makes this rank's GPU the current one, and says whether there is one. Raises ValueError where there are too few."""
    if not torch.cuda.is_available():
        return "cpu"
    if place.local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"rank {place.rank} is number {place.local_rank} of its machine, which shows it {torch.cuda.device_count()} GPUs: "
            "start as many ranks as there are GPUs, and let each see all of them"
        )
    torch.cuda.set_device(place.local_rank)
    return "gpu"


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def from_rank_0(value: T) -> T:
    """Rank 0's `value`, on every rank."""
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def exchange(own: list) -> list[list]:
    """What each rank has, in rank order; all ranks must call it."""
    boxes = [None] * dist.get_world_size()
    dist.all_gather_object(boxes, own)
    return boxes


def together(function: Callable[[], T]) -> T:
    """The function's result on each rank, once all ranks have theirs, for which they wait up to LONGEST_WAIT; all must call it.

    Raises on every rank, if it raises ValueError on any, the error of the first that it does so on.
    """
    group = dist.new_group(timeout=LONGEST_WAIT)
    result = error = None
    try:
        result = function()
    except ValueError as raised:
        error = raised
        if dist.get_world_size() > 1:  # others may have long to go
            print(f"rank {dist.get_rank()}: {error}; waits for the other ranks to stop with it", file=sys.stderr, flush=True)
    errors = [None] * dist.get_world_size()
    dist.all_gather_object(errors, error and (type(error).__name__, str(error)), group)
    dist.destroy_process_group(group)
    if first := next(filter(None, errors), None):
        name, words = first
        raise (StorageError if name == StorageError.__name__ else ValueError)(words) from error
    return result


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Adds `values` over all ranks in place, and returns it."""
    dist.all_reduce(values)
    return values


def gather(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all ranks, in rank order: [N, ...] -> [world size, N, ...]. No gradient passes through."""
    size, *shape = rows.shape
    gathered = rows.new_empty(dist.get_world_size() * size, *shape)
    dist.all_gather_into_tensor(gathered, rows.detach().contiguous())
    return gathered.unflatten(0, (-1, size))


def ranks_of(place: Place) -> Ranks:
    """The ranks of the run, as the losses know them."""
    return Ranks(place.rank, place.world_size, gather, sum_over_ranks)
