"""Benchmarks: a module of `xkd.benchmarks` each."""

from functools import partial
from importlib import import_module

from xkd.commands.row import Command

BENCHMARKS = {  # module of xkd.benchmarks: what it measures
    "all": "with each of the benchmarks, at sizes that this machine has room for",
    "checkpointing": "what checkpoints take from training",
    "communication": "bytes that each rank sends in a step at each ZeRO stage",
    "convert": "converting a clip to the form that shards store",
    "decode": "decoders on encoded clips",
    "features": "frozen features from shards, beside loading and the bare forward pass",
    "kernels": "the fused kernels, torch eager and torch.compile; what each kernel gains a step",
    "loader": "clips per second from shards to tensors",
    "memory": "peak memory of a training step at each ZeRO stage, beside the plan's",
    "model": "CPU time of a full step, beside one that is not optimised",
    "order": "block order against global: shards touched, shuffling, time",
    "scaling": "nothing: a model of efficiency on many GPUs, from what communication measured",
    "scale": "training steps on several ranks: ZeRO stages, DDP, and what sending takes",
    "source": "reading samples ahead of use, from fast and slow storage",
    "startup": "seconds from the launcher's start to the first step, with small and large shard sets",
    "step": "time and memory of a training step",
    "sweep": "settings of the loader or of a step, one after another: which are fastest",
}


def bench(name, args):
    return import_module(f"xkd.benchmarks.{name}").main(args.rest)


COMMANDS = (
    *(Command(f"bench {name}", f"measure {what}", partial(bench, name), passes_rest=True) for name, what in BENCHMARKS.items()),
    Command(
        "bench compare",
        "say what is slower in B than in A: results, or commits run in turns",
        partial(bench, "compare"),
        passes_rest=True,
    ),
    Command("bench report", "draw the history of results and their tables, as a page", partial(bench, "report"), passes_rest=True),
)
