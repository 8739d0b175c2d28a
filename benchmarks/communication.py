"""What each rank sends in a training step at each ZeRO stage: measured on ranks of this machine, derived for any number of them.

DeepSpeed's communications logger has its own calls; torch's dispatcher sees those and ours; the kernel counts the bytes on TCP.
"""

import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from xkd.benchmarks import command
from xkd.benchmarks.noise import noise_batch
from xkd.benchmarks.ranks import on_ranks
from xkd.benchmarks.results import Row, as_text
from xkd.config import load
from xkd.jobs import schemas
from xkd.model.flops import Cost
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place
from xkd.train.engine import precision_of
from xkd.train.pretraining import Pretraining
from xkd.train.trainer import Trainer

DEEPSPEED, OURS, WIRE = "deepspeed", "xkd", "tcp"
STAGES = (0, 1, 2, 3)
WARMUP = 1  # in the first step of stage 3, DeepSpeed finds out in which order parameters are used
FLOAT_BYTES = 4
WEIGHT_BYTES = {"fp32": 4, "autocast": 4, "bf16": 2}
SHOWN = ("stage", "caller", "operation", "calls", "message_bytes", "sent_bytes")

# Of the operators of torch.distributed: what they do, and which argument is the whole that is summed, gathered or scattered.
OPERATORS = {
    "allreduce_": ("all_reduce", 0),
    "_allgather_base_": ("all_gather", 0),
    "allgather_": ("all_gather", 0),
    "_reduce_scatter_base_": ("reduce_scatter", 1),
    "broadcast_": ("broadcast", 0),
    "reduce_": ("reduce", 0),
}
# Of the calls that DeepSpeed logs: what they do, and whether the size that it gives is that of a rank's part of the whole.
LOGGED = {
    "all_reduce": ("all_reduce", False),
    "all_gather_into_tensor": ("all_gather", True),
    "all_gather": ("all_gather", True),
    "reduce_scatter_tensor": ("reduce_scatter", False),
    "broadcast": ("broadcast", False),
    "reduce": ("reduce", False),
}
# Bytes that a rank of a ring sends, on average, for each byte of the whole, as a multiple of (ranks - 1) / ranks.
ROUNDS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "broadcast": 1, "reduce": 1}
Calls = Counter[tuple[str, int]]  # how often, by (operation, bytes of the whole)


@dataclass(frozen=True)
class Traffic:
    """Calls of one operation in a step, and the bytes of what they sum, gather or scatter; measured on `ranks` ranks."""

    caller: str
    operation: str
    calls: float
    message_bytes: float
    ranks: int

    def sent(self, ranks: int) -> float:
        """Bytes that each of so many ranks sends in a step.

        What DeepSpeed gathers is weights, of which there are as many on any number of ranks (save for some padding); what the
        trainer gathers is rows of clips, of which every rank brings as many.
        """
        growth = ranks / self.ranks if (self.caller, self.operation) == (OURS, "all_gather") else 1
        return self.message_bytes * growth * ROUNDS[self.operation] * (ranks - 1) / ranks


def derived(network: Cost, stage: int, precision: str) -> dict[str, int]:
    """Bytes of what DeepSpeed sums and gathers in a step, by operation: gradients in float32, weights as the forward reads them.

    At stage 3 those are all weights, the teachers' too; once a step, as long as they are fewer than DeepSpeed keeps gathered
    (`stage3_max_live_parameters`, 10^9).
    """
    gathered = {0: 0, 1: network.trainable_parameters, 2: network.trainable_parameters, 3: network.parameters}[stage]
    summed_by = "reduce_scatter" if stage == 3 else "all_reduce"
    found = {summed_by: FLOAT_BYTES * network.trainable_parameters, "all_gather": WEIGHT_BYTES[precision] * gathered}
    return {operation: size for operation, size in found.items() if size}


class Collectives(TorchDispatchMode):
    """Counts, while it is entered, the collective operations that this thread starts."""

    def __init__(self):
        super().__init__()
        self.calls: Calls = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d" and not function._opname.startswith(("barrier", "monitored_barrier")):
            operation, whole = OPERATORS[function._opname]
            self.calls[operation, _bytes(args[whole])] += 1
        return function(*args, **(kwargs or {}))


def _bytes(tensors) -> int:
    return tensors.nbytes if isinstance(tensors, torch.Tensor) else sum(map(_bytes, tensors))


def logged_calls(ranks: int) -> Calls:
    """What DeepSpeed's logger holds."""
    from deepspeed.comm.comm import comms_logger

    found = Counter()
    for name, sizes in comms_logger.get_raw_data().items():
        operation, is_part = LOGGED[name]
        found.update({(operation, size * ranks if is_part else size): record[0] for size, record in sizes.items()})
    return found


def tcp_bytes() -> int | None:
    """Bytes that this process has sent on the TCP connections that it has open; None where the system does not count them."""
    total = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{entry}").startswith("socket:"):
                continue
            with closing(socket.socket(fileno=os.dup(int(entry)))) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.type == socket.SOCK_STREAM:
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    sent, again = struct.unpack_from("QQ", info, 200)  # tcpi_bytes_sent, _retrans of linux/tcp.h, since 4.19
                    total += sent - again
        except OSError:  # of the listing itself, or closed since
            continue
        except struct.error:
            return None
    return total


def step_traffic(place: Place, config: PretrainConfig, steps: int) -> tuple[list[Traffic], float | None]:
    """What this rank's collectives move in a step, and what it sends on TCP, averaged over `steps` steps after the first."""
    from deepspeed.comm import reset_log

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // place.world_size))
    trainer = Trainer(Pretraining(config, place, steps_per_epoch=WARMUP + steps))
    batch = noise_batch(config, config.train.global_batch // place.world_size, seed=place.rank)
    for step in range(WARMUP):
        trainer.step(batch, step)
    reset_log()
    dist.barrier()
    before = tcp_bytes()
    with Collectives() as seen:
        for step in range(WARMUP, WARMUP + steps):
            trainer.step(batch, step)
    sent = tcp_bytes()
    logged = logged_calls(place.world_size)
    assert logged <= seen.calls, f"DeepSpeed logged what torch did not see: {logged - seen.calls}"
    of = {DEEPSPEED: logged, OURS: seen.calls - logged}
    traffic = [found for caller, calls in of.items() for found in summed(caller, calls, steps, place.world_size)]
    return traffic, None if before is None or sent is None else (sent - before) / steps


def summed(caller: str, calls: Calls, steps: int, ranks: int) -> Iterator[Traffic]:
    """The calls of each operation together, a step."""
    for operation in sorted({operation for operation, _ in calls}):
        own = {size: count for (name, size), count in calls.items() if name == operation}
        volume = sum(size * count for size, count in own.items())
        yield Traffic(caller, operation, sum(own.values()) / steps, volume / steps, ranks)


def measure_stage(config: PretrainConfig, stage: int, ranks: int, steps: int) -> tuple[list[Traffic], float | None]:
    """The traffic of rank 0 at a ZeRO stage, and the bytes on TCP of a rank on average. Every rank must find the same traffic."""
    overrides = config.deepspeed.overrides | {"comms_logger": {"enabled": True, "prof_all": True}}
    deepspeed = config.deepspeed.model_copy(update={"zero_stage": stage, "overrides": overrides})
    found = on_ranks(step_traffic, config.model_copy(update={"deepspeed": deepspeed}), steps, ranks=ranks)
    assert all(traffic == found[0][0] for traffic, _ in found), found
    wires = [wire for _, wire in found]
    return found[0][0], None if None in wires else sum(wires) / ranks


def rows(shared: Mapping[str, object], traffic: Sequence[Traffic], wire: float | None, ranks: int) -> Iterator[Row]:
    """A row for each kind of traffic, then one of what went over TCP."""
    for found in traffic:
        facts = {"caller": found.caller, "operation": found.operation, "calls": found.calls}
        yield as_text({**shared, **facts, "message_bytes": round(found.message_bytes), "sent_bytes": round(found.sent(ranks))})
    none = dict.fromkeys(("operation", "calls", "message_bytes"))
    yield as_text({**shared, "caller": WIRE, **none, "sent_bytes": None if wire is None else round(wire)})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("communication", "Take training steps on noise and count what each rank sends.", rounds=2)
    parser.add_argument("--config", default="pretrain/xkd.yaml", help="configuration to train (default %(default)s)")
    parser.add_argument("--ranks", type=int, default=2, help="processes, which talk over gloo (default %(default)s)")
    parser.add_argument("--stages", type=int, nargs="+", choices=STAGES, default=STAGES, help="ZeRO stages (default: all)")
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="replaces a field of the configuration")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    recorder = command.recorder("communication", arguments)
    config = load(options.config, options.overrides, schemas())
    network = " ".join([options.config, *(override for override in options.overrides if override.startswith("model."))])
    found = []
    for stage in options.stages:
        traffic, wire = measure_stage(config, stage, options.ranks, options.rounds)
        case = {"case": network, "ranks": options.ranks, "stage": stage, "precision": precision_of(config)}
        batch = {"global_batch": config.train.global_batch, "accumulation": config.train.accumulation}
        found += [row | recorder.origin for row in rows({**case, **batch}, traffic, wire, options.ranks)]
    command.finish(found, options.csv, columns=tuple(found[0]), shown=SHOWN)
    return 0
