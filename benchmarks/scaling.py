"""A model, not a measurement: what share of a GPU's speed is left on many of them, from the bytes that ranks send to each other.

A step of a rank takes: computing; the calls of `communication`, of which each takes its bytes over the link and a latency; and
waiting for the slowest rank. Efficiency is computing over all of it.
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path

from matplotlib.figure import Figure

from xkd.benchmarks.communication import DEEPSPEED, STAGES, WIRE, Traffic, derived
from xkd.benchmarks.results import Row, markdown, read_csv
from xkd.config import load
from xkd.jobs import schemas
from xkd.model.flops import Cost
from xkd.train.utilisation import TERA, clip_cost

GIGA, MEGA = 10**9, 10**6
RANKS = (1, 8, 16, 64, 256, 1024)
STRONG_RANKS, PAPERS_BATCH = (1, 8, 16, 32, 64), 256
MEASURED = Path("benchmarks/results/communication.csv")
SMALL = "model.size=tiny"  # a network of which every stage is measured in minutes
MODELLED = {"stage 0": 0, "stages 1, 2": 1, "stage 3": 3}  # 1 and 2 send the same
REDUCING = ("all_reduce", "reduce_scatter")  # of gradients: it may go on beside the backward of earlier layers
BACKWARD = 2 / 3  # of what a network that is trained computes
BUCKET, GROUPS = 500_000_000, 3  # gradients that DeepSpeed sums at once; parameter groups, each gathered by itself
GATHERED_AT_ONCE = 50_000_000  # stage 3: weights


@dataclass(frozen=True)
class Cluster:
    """The assumptions; each is a number that a reader may have another one for."""

    clips: int = 32  # a GPU and step: the paper's 256 on 8 GPUs
    peak_tflops: float = 989  # H100 SXM, bfloat16, dense
    mfu: float = 0.35  # share of it that computing alone reaches
    gpus_per_node: int = 8
    node_gb_per_s: float = 360  # of rings within a node: 80 % of a GPU's 450 on NVLink
    network_gb_per_s: float = 320  # of rings over nodes: 80 % of all adapters of a node, eight of 400 Gbit/s
    latency_us: float = 15  # of a call, for each doubling of ranks
    jitter: float = 0.01  # standard deviation of a rank's step, as a share of computing


VARIED = {  # what else some of them could be
    "clips": (16, 64, 128, 256),
    "mfu": (0.2, 0.5),
    "network_gb_per_s": (10, 40, 160),
    "latency_us": (5, 50),
    "jitter": (0.0, 0.03),
}


@dataclass(frozen=True)
class Work:
    """What a rank does in a step: operations a clip, and what it sends."""

    flops_per_clip: int
    traffic: Sequence[Traffic]


@dataclass(frozen=True)
class Step:
    """Seconds of a rank in a step."""

    computing: float
    communicating: float  # that nothing else goes on beside
    waiting: float

    @property
    def efficiency(self) -> float:
        return self.computing / (self.computing + self.communicating + self.waiting)


def step(work: Work, ranks: int, cluster: Cluster, *, overlap: bool) -> Step:
    """A step on so many ranks; with `overlap` gradients are reduced beside the backward, as long as that lasts."""
    computing = cluster.clips * work.flops_per_clip / (cluster.mfu * cluster.peak_tflops * TERA)
    reducing = sum(seconds(of, ranks, cluster) for of in work.traffic if of.operation in REDUCING)
    others = sum(seconds(of, ranks, cluster) for of in work.traffic if of.operation not in REDUCING)
    hidden = min(reducing, BACKWARD * computing) if overlap else 0
    waiting = cluster.jitter * computing * math.sqrt(2 * math.log(ranks))  # how far the slowest of so many is from the middle
    return Step(computing, reducing - hidden + others, waiting)


def seconds(traffic: Traffic, ranks: int, cluster: Cluster) -> float:
    """Of the calls of one kind in a step.

    A ring leaves each node once. There are as many rings as adapters, each with its part of the bytes, so that the bytes of a rank
    go as fast as all adapters of a node together, and no faster than within a node.
    """
    bandwidth = cluster.node_gb_per_s
    if ranks > cluster.gpus_per_node:
        bandwidth = min(bandwidth, cluster.network_gb_per_s)
    return traffic.sent(ranks) / (bandwidth * GIGA) + traffic.calls * math.log2(ranks) * cluster.latency_us / 1e6


def traffic_of(network: Cost, stage: int, precision: str) -> list[Traffic]:
    """What DeepSpeed sends in a step; the trainer's own numbers and norms, 67 kB for the base network, are left out."""
    calls = {operation: math.ceil(network.trainable_parameters / BUCKET) for operation in REDUCING}
    calls["all_gather"] = math.ceil(network.parameters / GATHERED_AT_ONCE) if stage == 3 else GROUPS
    sizes = derived(network, stage, precision)
    return [Traffic(DEEPSPEED, operation, calls[operation], size, ranks=2) for operation, size in sizes.items()]


def works_of(network: Cost, precision: str = "autocast") -> dict[str, Work]:
    """The work of a rank at each stage."""
    return {name: Work(network.step_flops, traffic_of(network, stage, precision)) for name, stage in MODELLED.items()}


def volumes(config: str, rows: Iterable[Row]) -> Iterator[dict]:
    """MB that each rank sends in a step: seen on two ranks, where rows have it, and by formula."""
    seen = {}
    for row in rows:
        seen.setdefault((row["case"], row["precision"], row["stage"], row["ranks"]), {})[row["caller"], row["operation"]] = row
    for overrides, precision, stage in product(([], [SMALL]), ("fp32", "bf16"), STAGES):
        if (precision, stage) == ("bf16", 0):  # which the trainer refuses
            continue
        found = seen.get((" ".join([config, *overrides]), precision, str(stage), "2"), {})
        sent = {caller: float(row["sent_bytes"]) for caller, row in found.items()}
        wire = sent.pop((WIRE, ""), None)
        shares = traffic_of(clip_cost(load(config, overrides, schemas())), stage, precision)
        yield {
            "network": overrides[0] if overrides else config,
            "weights": precision,
            "stage": stage,
            "logged, N = 2": _megabytes(sum(sent.values())) if sent else "not measured",
            "on TCP, N = 2": _megabytes(wire) if wire else "not measured",
            **{f"formula, N = {ranks}": _megabytes(sum(of.sent(ranks) for of in shares)) for ranks in (2, 8, 64, 1024)},
        }


def _megabytes(size: float) -> str:
    return f"{size / MEGA:,.1f}"


def weak(works: Mapping[str, Work], cluster: Cluster) -> Iterator[dict]:
    """Efficiency with as many clips a GPU on any number of GPUs."""
    for ranks in RANKS:
        yield {"GPUs": ranks, "global batch": ranks * cluster.clips, **after_and_beside(works, ranks, cluster)}


def strong(works: Mapping[str, Work], cluster: Cluster) -> Iterator[dict]:
    """Efficiency with the paper's global batch on any number of GPUs."""
    for ranks in STRONG_RANKS:
        shared = replace(cluster, clips=PAPERS_BATCH // ranks)
        yield {"GPUs": ranks, "clips a GPU": shared.clips, **after_and_beside(works, ranks, shared)}


def after_and_beside(works: Mapping[str, Work], ranks: int, cluster: Cluster) -> dict[str, str]:
    """Efficiency of each work where gradients are reduced after the backward, and where beside it."""
    found = {}
    for name, work in works.items():
        after, beside = (step(work, ranks, cluster, overlap=overlap).efficiency for overlap in (False, True))
        found[name] = f"{after:.0%} / {beside:.0%}"
    return found


def sensitivity(works: Mapping[str, Work], cluster: Cluster) -> Iterator[dict]:
    """Efficiency on the most GPUs where one assumption is another."""
    for name, others in VARIED.items():
        for value in sorted((getattr(cluster, name), *others)):
            assumed = " (assumed)" if value == getattr(cluster, name) else ""
            varied = replace(cluster, **{name: value})
            yield {"assumption": f"`{name}`", "value": f"{value:g}{assumed}", **after_and_beside(works, RANKS[-1], varied)}


def tables(config: str, rows: Sequence[Row], cluster: Cluster) -> Iterator[str]:
    """The tables of docs/scaling.md."""
    works = works_of(clip_cost(load(config, [], schemas())))
    for found in (volumes(config, rows), weak(works, cluster), strong(works, cluster), sensitivity(works, cluster)):
        lines = list(found)
        yield markdown(lines, columns=tuple(lines[0]))


def plot(works: Mapping[str, Work], cluster: Cluster, path: Path) -> None:
    """Draws the efficiencies of `weak`: a line where gradients are reduced beside the backward, a broken one where after it."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.subplots()
    for number, (name, work) in enumerate(works.items()):
        for overlap, style in ((True, "-"), (False, "--")):
            heights = [100 * step(work, ranks, cluster, overlap=overlap).efficiency for ranks in RANKS]
            axis.plot(RANKS, heights, style, color=f"C{number}", marker=".", linewidth=1.2, label=name if overlap else None)
    axis.set_xscale("log", base=2)
    axis.set_xticks(RANKS, labels=map(str, RANKS))
    axis.set(xlabel=f"GPUs, {cluster.clips} clips each", ylabel="efficiency, %", ylim=(0, 103), title="A model, not a measurement")
    axis.grid(alpha=0.3)
    axis.legend(title="gradients reduced\nbeside the backward\n(broken: after it)", fontsize=8, title_fontsize=8)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="xkd bench scaling", description="Compute a model of efficiency on many GPUs.")
    parser.add_argument("--config", default="pretrain/xkd.yaml", help="configuration of the network (default %(default)s)")
    parser.add_argument("--csv", type=Path, default=MEASURED, help="rows of `xkd bench communication` (default %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the efficiencies")
    for field in fields(Cluster):
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=type(field.default), default=field.default, help="an assumption (default %(default)s)")
    options = vars(parser.parse_args(arguments))
    cluster = Cluster(**{field.name: options[field.name] for field in fields(Cluster)})
    print("\n".join(tables(options["config"], read_csv(options["csv"]), cluster)), end="")
    if options["plot"]:
        plot(works_of(clip_cost(load(options["config"], [], schemas()))), cluster, options["plot"])
    return 0
