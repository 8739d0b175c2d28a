"""The checks of `make gpu-check` that train: the base network through the deepspeed launcher, and the benchmarks of its step."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from xkd.benchmarks.findings import Context, Findings
from xkd.benchmarks.gpu_loader import shards_of
from xkd.benchmarks.results import read_csv

CONFIG = "pretrain/xkd.yaml"
STEPS, WARM_UP = 50, 10
BATCH = 64  # clips a rank: two of the method's groups of alignment
CLIPS = 512  # of an epoch, a rank
LOADING = ("data.pipelines=4", "data.prefetch=8", "data.num_threads=4")
LOGGING = ("train.log_every=1", "log.tensorboard=false", "data.test=null")
# Largest relative differences of a step's loss, in the first step and in all of them, between runs that differ in this alone.
# kernels: the first step has the same weights, views and masks, and a kernel may round as bfloat16 does (2^-8); what follows is
# that seen through 50 updates, for which docs/training.md allows 2e-2 in half precision. zero_stage: as allowed there between
# stages; again: no further than that. precision: each of the two is allowed 2e-2 from float32.
ALLOWED = {"kernels": (2**-8, 2e-2), "zero_stage": (5e-3, 5e-3), "again": (5e-3, 5e-3), "precision": (2e-2, 4e-2)}


@dataclass(frozen=True)
class Run:
    """What a run is told beside its configuration."""

    precision: str
    zero_stage: int
    kernels: str
    again: bool = False  # a run as before, which tells how far a GPU's unordered sums alone put losses apart

    def __str__(self) -> str:
        return f"{self.precision}, ZeRO {self.zero_stage}, {self.kernels}{', again' * self.again}"

    @property
    def overrides(self) -> tuple[str, ...]:
        return f"train.precision={self.precision}", f"deepspeed.zero_stage={self.zero_stage}"


# Should time run out, the last are missed least.
RUNS = (
    Run("bf16", 1, "triton"),
    Run("bf16", 1, "torch"),
    Run("bf16", 2, "triton"),
    Run("autocast", 1, "triton"),
    Run("bf16", 1, "triton", again=True),
)


def train(context: Context) -> Iterator[Findings]:
    """50 steps of the base network in each of RUNS, on all GPUs."""
    import torch

    ranks = torch.cuda.device_count()
    with shards_of(context.media, CLIPS * ranks) as shards:
        yield from runs_compared(context.in_time(RUNS), CONFIG, fields(shards, ranks), steps=STEPS, ranks=ranks)


def fields(shards: Path, ranks: int) -> tuple[str, ...]:
    """What all of RUNS are told: an epoch is CLIPS clips a rank, and the schedules are as long as the run."""
    batch = f"train.global_batch={BATCH * ranks}"
    return f"data.train={shards}", batch, *schedule(STEPS, CLIPS // BATCH), *LOADING


def schedule(steps: int, steps_per_epoch: int) -> tuple[str, ...]:
    """Fields that make the run's schedules as long as it is, a fifth of them warm-up."""
    epochs = steps / steps_per_epoch
    return f"train.epochs={epochs:g}", f"optim.warmup_epochs={epochs / 5:g}"


def runs_compared(runs: Iterable[Run], config: str, overrides: Sequence[str], *, steps: int, ranks: int) -> Iterator[Findings]:
    """What each run tells, and how far its losses lie from those of the runs before that differ from it in one thing."""
    losses: dict[Run, list[float]] = {}
    for run in runs:
        try:
            rows = take_steps(run, config, overrides, steps=steps, ranks=ranks)
        except RuntimeError as error:
            sys.stdout.write(f"{run}: {error}\n")
            yield Findings(wrong=[f"{run}: {str(error).splitlines()[0]}"])
            continue
        yield summary(run, rows)
        mine = [row["loss"] for row in rows]
        if None in mine:
            continue
        for other, theirs in losses.items():
            differing = [name for name, value in asdict(run).items() if value != getattr(other, name)]
            if len(differing) == 1:
                yield agreement(run, other, differing[0], mine, theirs)
        losses[run] = mine


def take_steps(run: Run, config: str, overrides: Sequence[str], *, steps: int, ranks: int) -> list[dict]:
    """The rows of metrics of a run through the deepspeed launcher, one a step. Raises RuntimeError where it is not done."""
    from xkd.benchmarks.launched import run_to_its_end
    from xkd.kernels.choice import VARIABLE

    logging = (f"train.max_steps={steps}", *LOGGING)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        told = run_to_its_end(
            config, (*overrides, *run.overrides, *logging), run_dir, ranks=ranks, variables={VARIABLE: run.kernels}
        )
        sys.stdout.write(told)
        return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def summary(run: Run, rows: Sequence[Mapping]) -> Findings:
    """Losses at both ends, medians of the rates after the steps that warm up, and what is wrong."""
    numbers = [row for row in rows if row["loss"] is None or row["grad_norm"] is None]
    wrong = [f"{run}: loss or gradients are not finite in step {numbers[0]['step']}"] if numbers else []
    if skipped := rows[-1]["skipped_steps"]:
        wrong.append(f"{run}: {skipped:g} of {len(rows)} steps were skipped: their loss or gradients were not finite")
    warm = rows[min(WARM_UP, len(rows) - 1) :]
    fact = {
        "run": str(run),
        "steps": len(rows),
        "first loss": rows[0]["loss"],
        "last loss": rows[-1]["loss"],
        "clips/s": round(_median(warm, "clips_per_second"), 1),
        "MFU": _rounded(warm, "mfu"),
        "share of waiting for data": _rounded(warm, "data_wait_share"),
        "peak GiB": _rounded(warm, "gpu_memory_peak_gib"),
    }
    return Findings(facts=[{name: "" if value is None else value for name, value in fact.items()}], wrong=wrong)


def agreement(run: Run, other: Run, differing: str, mine: Sequence[float], theirs: Sequence[float]) -> Findings:
    """How far apart the losses of two runs lie, relative to the other's, beside ALLOWED."""
    apart = np.abs(np.subtract(mine, theirs)) / np.abs(theirs)
    found, allowed = (float(apart[0]), float(apart.max())), ALLOWED[differing]
    fact = {
        "losses of": str(run),
        "beside": str(other),
        "apart in the first step": f"{found[0]:.1e}",
        "in any": f"{found[1]:.1e}",
        "allowed": "{:.1e}, {:.1e}".format(*allowed),
    }
    text = f"{found[0]:.1e} apart in the first step, {found[1]:.1e} in any"
    beyond = any(value > limit for value, limit in zip(found, allowed, strict=True))
    return Findings(facts=[fact], wrong=[f"{run} beside {other}: losses are {text}; allowed: {fact['allowed']}"] if beyond else [])


def bench_step(context: Context) -> Iterator[Findings]:
    """`xkd bench step` on the base network."""
    with shards_of(context.media, CLIPS) as shards:
        work = ("--config", CONFIG, "--shards", str(shards), "--rounds", "5", "--providers", "deepspeed", "ddp")
        yield benchmark("step", *work, overrides=(f"train.global_batch={BATCH}",))


def bench_scale(context: Context) -> Iterator[Findings]:
    """`xkd bench scale` on the base network, a rank on each GPU."""
    import torch

    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(torch.cuda.device_count()), "--module")
    work = ("--config", CONFIG, "--rounds", "3", "--clips", str(BATCH), "--providers", "ddp", "zero 1", "zero 2")
    yield benchmark("scale", *work, launcher=launcher)


def benchmark(name: str, *options: str, overrides: Sequence[str] = (), launcher: Sequence[str] = ()) -> Findings:
    """The rows of `xkd bench NAME`, started by python or by the module of a launcher with its options."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.csv"
        command = [sys.executable, "-m", *launcher, "xkd", "bench", name, *options, "--csv", str(rows), *overrides]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        sys.stdout.write(done.stdout)
        found = read_csv(rows) if rows.exists() else []
    last = (done.stdout.strip().splitlines() or ["it wrote nothing"])[-1]
    return Findings(rows=found, wrong=[f"xkd bench {name} ended with {done.returncode}: {last}"] if done.returncode else [])


def _median(rows: Sequence[Mapping], name: str) -> float:
    return float(np.median([row[name] for row in rows]))


def _rounded(rows: Sequence[Mapping], name: str) -> float | None:
    """None where rows do not have it: there is no MFU on CPUs, and on GPUs that are not known."""
    return round(_median(rows, name), 3) if name in rows[0] else None
