"""What a rank knows of the others: its place, sums over ranks, and a gather that gradients pass through."""

import os
import socket
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Place:
    """This process among the ranks of the run."""

    rank: int
    local_rank: int
    world_size: int


def find_place() -> Place:
    """This process's place, as the launcher's environment variables tell it.

    A plain `python` start has none of them: it becomes the only rank, and the variables are set for the process group.
    """
    if "RANK" not in os.environ:
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
    return Place(*(int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")))


def claim_device(place: Place) -> Literal["cpu", "gpu"]:
    """Makes this rank's GPU the current one, and says whether there is one."""
    if not torch.cuda.is_available():
        return "cpu"
    torch.cuda.set_device(place.local_rank)
    return "gpu"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Adds `values` over all ranks in place, and returns it."""
    dist.all_reduce(values)
    return values


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows):
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad):
        return grad.chunk(dist.get_world_size())[dist.get_rank()] * dist.get_world_size()


def gather(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all ranks, in rank order: [B, ...] -> [world size * B, ...].

    Every rank computes the same loss from the gathered rows. Data parallelism then averages the ranks' gradients, so each rank's
    own rows receive their gradient times the world size: the average is the gradient of that one loss.
    """
    return _Gather.apply(rows)
