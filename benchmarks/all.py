"""Runs the benchmarks on this machine, each in a process of its own, at the sizes that the machine has room for."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from xkd.benchmarks.results import markdown, read_csv
from xkd.env import commit, gpu_names

GIB, LARGE_GIB = 2**30, 32
RESULTS = Path("benchmarks/results")
DONE = "done"


@dataclass(frozen=True)
class Machine:
    """What sizes are chosen by."""

    gpus: int
    memory_gib: float

    @classmethod
    def here(cls) -> "Machine":
        return cls(len(gpu_names()), psutil.virtual_memory().total / GIB)


@dataclass(frozen=True)
class Run:
    """A benchmark with its arguments on a machine; `quick` follow them where it is to take a minute or two, None: not at all."""

    benchmark: str
    arguments: Callable[[Machine], Sequence[str]]
    quick: Sequence[str] | None = None
    memory_gib: float = 3
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, machine: Machine, out: Path, quick: bool) -> list[str]:
        csv = ["--csv", str(out / f"{self.benchmark}.csv")] if out != RESULTS else []
        return [self.benchmark, *self.arguments(machine), *(self.quick or () if quick else ()), *csv]


def as_it_is(machine: Machine) -> Sequence[str]:
    return ()


def trained(machine: Machine) -> Sequence[str]:
    """The base network at a GPU's part of the paper's batch; without a GPU the network of the demo."""
    return ("train.global_batch=32", "--config", "pretrain/xkd.yaml") if machine.gpus else ()


def scaled(machine: Machine) -> Sequence[str]:
    return ("--config", "pretrain/xkd.yaml", "--clips", "32") if machine.gpus else ()


def decoded(machine: Machine) -> Sequence[str]:
    """As many pipelines as GPUs have decoders to keep busy."""
    return ("--pipelines", "4", "--threads", "4", "--clips", "256") if machine.gpus else ()


def compiled(machine: Machine) -> Sequence[str]:
    """On a CPU each op and size takes half a minute to compile."""
    return () if machine.gpus else ("--batches", "4", "--providers", "eager", "compile", "fused", "--rounds", "20")


def stepped(machine: Machine) -> Sequence[str]:
    """The base network takes up to 20 GiB on the CPU; where there are fewer, the network of the demo."""
    config = "pretrain/xkd.yaml" if machine.memory_gib >= LARGE_GIB else "pretrain/demo.yaml"
    return "train.global_batch=4", "loss.align_group=2", "--config", config


RUNS = (
    Run("convert", lambda machine: ("--codec", "vp9", "h264", "hevc", "mjpeg"), ("--codec", "vp9", "--rounds", "3")),
    Run("decode", decoded, ("--sizes", "128", "--clips", "16", "--rounds", "3")),
    Run("loader", as_it_is, ("--clips", "16", "--rounds", "3", "--codec", "vp9")),
    Run("source", as_it_is, ("--samples", "1024", "--rounds", "3")),
    Run("kernels", compiled, ("--providers", "eager", "fused", "--step-batch", "0")),
    Run("step", trained, ("--rounds", "3", "--providers", "deepspeed", "ddp")),
    Run("scale", scaled, ("--rounds", "3", "--providers", "alone", "ddp", "zero 1")),
    Run("features", as_it_is, ("--clips", "16", "--rounds", "3", "--size", "tiny")),
    Run("model", as_it_is, memory_gib=11, variables={"OMP_WAIT_POLICY": "PASSIVE"}),
    Run("checkpointing", stepped),
    Run("communication", stepped),
    Run("startup", as_it_is),
    Run("memory", stepped),
    Run("order", as_it_is),
)


@dataclass(frozen=True)
class Outcome:
    """How a benchmark ended, and the rows that it has added."""

    benchmark: str
    outcome: str
    minutes: float
    rows: int


def run_one(run: Run, machine: Machine, out: Path, quick: bool, limit_minutes: float, source: str | None) -> Outcome:
    """Runs a benchmark of the commit `source` to its end, or to the limit, at which all of its processes are ended."""
    free = psutil.virtual_memory().available / GIB
    if free < run.memory_gib:
        return Outcome(run.benchmark, f"left out: needs {run.memory_gib:g} GiB of memory, {free:.1f} are free", 0.0, 0)
    csv, start = out / f"{run.benchmark}.csv", time.perf_counter()
    before = len(read_csv(csv)) if csv.exists() else 0
    command = [sys.executable, "-m", "xkd", "bench", *run.command(machine, out, quick)]
    # The commit as it was before: results that an earlier one has written would make it "-dirty".
    variables = {**os.environ, **run.variables, **({"XKD_COMMIT": source} if source else {})}
    process = subprocess.Popen(command, env=variables, start_new_session=True)
    try:
        code = process.wait(60 * limit_minutes)
        outcome = DONE if code == 0 else f"failed: exit code {code}, its error is above"
    except subprocess.TimeoutExpired:
        outcome = f"stopped after {limit_minutes:g} minutes, unfinished"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    rows = len(read_csv(csv)) - before if csv.exists() else 0
    return Outcome(run.benchmark, outcome, (time.perf_counter() - start) / 60, rows)


def summary(outcomes: Sequence[Outcome]) -> str:
    return markdown(
        [vars(one) | {"minutes": f"{one.minutes:.1f}"} for one in outcomes], ("benchmark", "outcome", "minutes", "rows")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    names = [run.benchmark for run in RUNS]
    parser = argparse.ArgumentParser(
        prog="xkd bench all", description="Run the benchmarks at sizes that this machine has room for."
    )
    parser.add_argument("--quick", action="store_true", help="few rounds of little work, and not all benchmarks: some minutes")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=f"some of: {' '.join(names)}")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="folder of NAME.csv (default %(default)s)")
    parser.add_argument("--limit-minutes", type=float, default=60, help="that one benchmark may take (default %(default)s)")
    options = parser.parse_args(list(arguments or []))
    if "RANK" in os.environ:
        raise ValueError("RANK is set in the environment: start `xkd bench all` without a launcher; step and scale know launchers")
    machine, source, outcomes = Machine.here(), commit(), []
    for run in RUNS:
        if run.benchmark in options.only and not (options.quick and run.quick is None):
            print(f"\n== {' '.join(('xkd', 'bench', *run.command(machine, options.out, options.quick)))}", flush=True)
            outcomes.append(run_one(run, machine, options.out, options.quick, options.limit_minutes, source))
    print(f"\n{summary(outcomes)}", end="")
    return int(any(one.outcome != DONE for one in outcomes))
