"""Do the processes reach each other, how fast, and do their clocks agree?"""

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from statistics import median

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore

from xkd.doctor.context import Context
from xkd.doctor.verdict import Verdict, judged
from xkd.train.distributed import exchange, gather, sum_over_ranks

BACKENDS = {"cpu": "gloo", "gpu": "nccl"}
SUMMED_BYTES = {"gloo": 16 << 20, "nccl": 256 << 20}
SLOW = {"gloo": 0.1, "nccl": 2.0}  # GB/s, under which a step of the base network waits for its gradients for most of its time
ROUNDS = 5
JOIN_SECONDS = 30
MOST_SKEW = 1.0  # seconds; heartbeats and logs of nodes are compared by their clocks
LAUNCH = "start it as the run will be: deepspeed [--hostfile F] --module xkd.doctor CONFIG"


def check(context: Context) -> Iterator[Verdict]:
    """All processes of the launch together; the first one tells what they have found."""
    if context.alone:
        yield Verdict("all-reduce", "not checked", "one process", LAUNCH)
        return
    if context.notes is None:
        return  # that they have not found each other is told already
    backend = BACKENDS[context.device]
    try:
        _join(context, backend)
        rate, right = _all_reduce_rate(backend, context.place.world_size)
        skews = _skews()
        hosts, local_ranks = zip(*exchange([context.host, context.place.local_rank]), strict=True)
    except RuntimeError as error:
        yield Verdict("all-reduce", "failed", f"{backend}: {str(error).splitlines()[0]}", _way_out(backend))
        return
    if context.place.rank == 0:
        yield judge_rate(backend, rate, right, context.place.world_size, local_ranks.count(0))
        yield judge_clocks(skews, hosts)


def judge_rate(backend: str, rate: float, right: bool, ranks: int, nodes: int) -> Verdict:
    """`rate` in GB/s, by the bytes that each link carries."""
    shown = f"{backend}, {ranks} ranks on {nodes} node{'s' * (nodes > 1)}: {rate:.3g} GB/s (bus)"
    if not right:
        fix = "run it on fewer nodes at a time to find the one that is broken"
        return Verdict("all-reduce", "failed", f"{shown}; a sum is wrong", fix)
    fix = {"nccl": "see with NCCL_DEBUG=INFO whether NVLink and InfiniBand are used; ", "gloo": ""}[backend] + _way_out(backend)
    return judged("all-reduce", rate < SLOW[backend], shown, fix, "warning")


def judge_clocks(skews: Sequence[float], hosts: Sequence[str]) -> Verdict:
    """`skews`: by how many seconds each rank's clock is ahead of rank 0's."""
    skew, host = max(zip(skews, hosts, strict=True), key=lambda pair: abs(pair[0]))
    apart = abs(skew) > MOST_SKEW
    found = f"{host} is {abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'} {hosts[0]}"
    shown = found if apart else f"apart by {abs(skew):.3f} s at most"
    return judged("clocks", apart, shown, "have the nodes' clocks set by NTP (chronyc tracking tells)", "warning")


def _join(context: Context, backend: str) -> None:
    place = context.place
    dist.init_process_group(
        backend,
        store=PrefixStore("group", context.notes),
        rank=place.rank,
        world_size=place.world_size,
        timeout=timedelta(seconds=JOIN_SECONDS),
        device_id=torch.device("cuda", place.local_rank) if backend == "nccl" else None,  # else a barrier has to guess it
    )
    context.ending.callback(dist.destroy_process_group)


def _all_reduce_rate(backend: str, ranks: int) -> tuple[float, bool]:
    """GB/s that each link carries in sums over all ranks (median of ROUNDS after one), and whether the sums are right."""
    device = "cuda" if backend == "nccl" else "cpu"
    values = torch.empty(SUMMED_BYTES[backend] // 4, device=device)
    seconds, right = [], True
    for _ in range(1 + ROUNDS):
        values.fill_(dist.get_rank() + 1)
        dist.barrier()
        began = time.perf_counter()
        sum_over_ranks(values)[0].item()  # waits for the GPU
        seconds.append(time.perf_counter() - began)
        low, high = values.aminmax()
        right &= low.item() == high.item() == ranks * (ranks + 1) / 2
    return 2 * (ranks - 1) / ranks * values.nbytes / median(seconds[1:]) / 1e9, right


def _skews() -> list[float]:
    """By how many seconds each rank's clock is ahead of rank 0's; exact to the time that a barrier takes to let all go."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    rounds = []
    for _ in range(ROUNDS):
        dist.barrier()
        stamps = gather(torch.tensor([time.time()], dtype=torch.float64, device=device))
        rounds.append([stamp - stamps[0, 0].item() for stamp in stamps[:, 0].tolist()])
    return [median(of_rank) for of_rank in zip(*rounds, strict=True)]


def _way_out(backend: str) -> str:
    return f"name the interface that joins the nodes in {backend.upper()}_SOCKET_IFNAME, and open the firewall between them"
