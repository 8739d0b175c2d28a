"""Peak memory of a training step at each ZeRO stage, beside what `xkd plan` computes for the same step."""

import os
from collections.abc import Iterator, Sequence

import psutil
import torch
import torch.distributed as dist

from xkd.benchmarks import command
from xkd.benchmarks.harness import MIB, peak_memory
from xkd.benchmarks.noise import noise_batch
from xkd.benchmarks.ranks import on_ranks
from xkd.benchmarks.results import Row, append_csv, as_text, markdown
from xkd.config import load
from xkd.jobs import schemas
from xkd.plan.memory import by_stage, total
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place, claim_device
from xkd.train.engine import precision_of
from xkd.train.pretraining import Pretraining
from xkd.train.trainer import Trainer

WARMUP = 1
CASE = ("case", "precision", "stage", "ranks", "batch")
RATIO = "planned_over_measured"
SHOWN = (*CASE, "measured_mib", "planned_mib", RATIO)
PARTS = ("weights", "optimizer", "averages", "gradients", "activations")
# Of glibc: memory that a tensor held goes back to the system at once, so that resident memory is what is held.
RETURN_FREED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def step_peak(place: Place, config: PretrainConfig, steps: int) -> float:
    """MiB that this rank holds at most in steps after the first, beyond what it held before: tensors on its GPU, or its process."""
    device = {"cpu": "cpu", "gpu": "cuda"}[claim_device(place)]
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // place.world_size))
    batch = noise_batch(config, config.train.global_batch // place.world_size, seed=place.rank, device=device)
    before = torch.cuda.memory_allocated() / MIB if device == "cuda" else psutil.Process().memory_info().rss / MIB
    trainer = Trainer(Pretraining(config, place, steps_per_epoch=WARMUP + steps))
    for step in range(WARMUP):
        trainer.step(batch, step)
    dist.barrier()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with peak_memory() as peak:
        for step in range(WARMUP, WARMUP + steps):
            trainer.step(batch, step)
    return (torch.cuda.max_memory_allocated() / MIB if device == "cuda" else peak[0]) - before


def rows(config: PretrainConfig, case: str, stages: Sequence[int], ranks: int, steps: int) -> Iterator[Row]:
    """A row for each stage: the rank that holds most, and the plan, part by part; a step on noise has no loader's views."""
    precision = precision_of(config)
    planned = by_stage(config, ranks, precision, whole_bucket=torch.cuda.is_available())
    for stage in sorted(set(stages) & set(planned)):
        of_stage = config.model_copy(update={"deepspeed": config.deepspeed.model_copy(update={"zero_stage": stage})})
        measured = max(on_ranks(step_peak, of_stage, steps, ranks=ranks))
        parts = {name: size / MIB for name, size in planned[stage].items() if name != "views"}
        facts = {"case": case, "precision": precision, "stage": stage, "ranks": ranks, "batch": config.train.global_batch}
        facts |= {"measured_mib": measured, "planned_mib": total(parts), RATIO: total(parts) / measured}
        yield as_text(facts | {f"{name}_mib": parts.get(name, 0.0) for name in PARTS})


def table(rows: Sequence[Row]) -> str:
    """The newest row of each case, for docs/planning.md, with the machine and commits they come from."""
    newest = {tuple(row[name] for name in CASE): row for row in rows}
    lines = [
        {name: row[name] for name in (*CASE, "measured_mib", "planned_mib")} | {"planned / measured": f"{float(row[RATIO]):.2f}"}
        for row in newest.values()
    ]
    origins = sorted({f"{row['cpu']}, {row['date'][:10]}, at {row['commit'][:7]}" for row in newest.values()})
    return f"{markdown(lines, tuple(lines[0]))}\nMiB of a rank; {'; '.join(origins)}.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("memory", "Take training steps on noise and compare their peak memory with the plan's.", rounds=2)
    parser.add_argument("--config", default="pretrain/xkd.yaml", help="configuration to train (default %(default)s)")
    parser.add_argument("--ranks", type=int, default=1, help="processes, which talk over gloo (default %(default)s)")
    parser.add_argument(
        "--stages", type=int, nargs="+", choices=(0, 1, 2, 3), default=(0, 1, 2, 3), help="ZeRO stages (default: all)"
    )
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="replaces a field of the configuration")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    os.environ.update(RETURN_FREED)  # of the ranks, which are started after this
    recorder = command.recorder("memory", arguments)
    config = load(options.config, options.overrides, schemas())
    case = " ".join([options.config, *(override for override in options.overrides if override.startswith(("model.", "data.")))])
    found = []
    for row in rows(config, case, options.stages, options.ranks, options.rounds):
        found.append(row | recorder.origin)
        append_csv(options.csv, found[-1:], columns=tuple(found[-1]))  # at once: a stage may not fit in memory
    print(markdown(found, SHOWN), end="")
    return 0
