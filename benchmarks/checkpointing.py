"""What checkpoints cost a run: the stall in which its state is copied, and the steps that go on beside the writing."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

from xkd.benchmarks import command
from xkd.benchmarks.noise import noise_batch
from xkd.benchmarks.ranks import on_ranks
from xkd.benchmarks.results import Row, as_text, percentiles
from xkd.config import load
from xkd.jobs import schemas
from xkd.train import checkpoint
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place
from xkd.train.engine import precision_of
from xkd.train.pretraining import Pretraining
from xkd.train.saving import Saver
from xkd.train.trainer import Trainer

STEPS = 3  # taken while nothing is written, and as many from the moment on that training goes on beside the writing
INTERVAL_SECONDS = 600
AIM = 0.01
ALONE, BESIDE, STALL, WRITING = "steps", "steps beside writing", "stall", "writing alone"
SHOWN = ("part", "rounds", "wall_p20_s", "wall_p50_s", "wall_p80_s", "checkpoint_bytes")


def save_again_and_again(place: Place, config: PretrainConfig, rounds: int) -> tuple[list[dict[str, float]], int]:
    """Steps on noise and two checkpoints a round: seconds of each part on this rank, and bytes of a checkpoint."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // place.world_size))
    trainer = Trainer(Pretraining(config, place, steps_per_epoch=1000))
    batch, saver = noise_batch(config, config.train.global_batch // place.world_size, seed=place.rank), Saver(config, place)
    done, found = count(), []

    def steps() -> None:
        for number in islice(done, STEPS):
            trainer.step(batch, number)

    def save() -> None:
        facts = {"step": next(done), "milestone": False, "counts": trainer.counts}
        saver.save(trainer, facts)

    def lap(function: Callable[[], None]) -> float:
        dist.barrier()
        began = time.perf_counter()
        function()
        return time.perf_counter() - began

    for work in (steps, save, saver.wait):
        work()
    for _ in range(rounds):
        row = {ALONE: lap(steps), STALL: lap(save), BESIDE: lap(steps)}
        saver.wait()
        save()
        found.append(row | {WRITING: lap(saver.wait)})
    if saver.failures:
        raise RuntimeError("; ".join(saver.failures.values()))
    saved, _ = checkpoint.newest(config.run_dir)
    return found, sum(saved.meta["files"].values())


def cost(found: Sequence[Mapping[str, float]]) -> float:
    """Seconds that a checkpoint takes from training: the stall, and what the steps beside its writing take longer."""
    middle = {part: median(row[part] for row in found) for part in (ALONE, BESIDE, STALL)}
    return middle[STALL] + max(0.0, middle[BESIDE] - middle[ALONE])


def rows(shared: Mapping[str, object], found: Sequence[Mapping[str, float]], size: int) -> Iterator[Row]:
    """A row for each part: percentiles of its seconds over the rounds."""
    for part in found[0]:
        times = percentiles([row[part] for row in found])
        yield as_text({**shared, "part": part, "rounds": len(found), **times, "checkpoint_bytes": size})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("checkpointing", "Save checkpoints between training steps on noise and time both.", rounds=5)
    parser.add_argument("--config", default="pretrain/xkd.yaml", help="configuration to train (default %(default)s)")
    parser.add_argument("--ranks", type=int, default=1, help="processes, which talk over gloo (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="file system to save to (default: that of temporary files)")
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="replaces a field of the configuration")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    recorder = command.recorder("checkpointing", arguments)
    config = load(options.config, options.overrides, schemas())
    with tempfile.TemporaryDirectory(dir=options.folder) as run_dir:
        config = config.model_copy(update={"run_dir": Path(run_dir)})
        found, size = on_ranks(save_again_and_again, config, options.rounds, ranks=options.ranks)[0]
    case = {"case": options.config, "ranks": options.ranks, "stage": config.deepspeed.zero_stage}
    case |= {"precision": precision_of(config), "global_batch": config.train.global_batch, "steps": STEPS}
    written = [row | recorder.origin for row in rows(case, found, size)]
    command.finish(written, options.csv, columns=tuple(written[0]), shown=SHOWN)
    taken = cost(found)
    print(
        f"A checkpoint takes {taken:.2f} s from training, {taken / INTERVAL_SECONDS:.2%} of it with one every "
        f"{INTERVAL_SECONDS} s (extrapolated); the aim is less than {AIM:.0%}."
    )
    return 0
