"""What can be swept: loading and training steps, with the axes that make sense on this machine."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from pathlib import Path

import torch

from xkd.benchmarks.engines import DEEPSPEED, STEPPERS, process_group
from xkd.benchmarks.harness import Lap, Measurement, Round, measure, peak_memory
from xkd.benchmarks.linked_shards import repeat_shard
from xkd.benchmarks.noise import noise_batch
from xkd.benchmarks.shards import write_sources
from xkd.benchmarks.sweep.space import Axes, Point
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.loader import Loader
from xkd.pipelines.loading.trial import DECODES
from xkd.pipelines.shards.index import ShardSet
from xkd.train.config import PretrainConfig
from xkd.train.distributed import claim_device, find_place

OURS = "xkd"
FORM = {"codec": str, "short_side": int, "gop": int}  # of shards, not of a configuration
SHARD_CLIPS, DIFFERENT_CLIPS = 8, 2
STEPS_PER_EPOCH = 1000  # as the schedules see it


@dataclass(frozen=True)
class Task:
    """What a point measures: rounds of `size` batches (an epoch of them, or so many steps)."""

    config: PretrainConfig
    size: int
    rounds: int
    shards: Path | None = None


@dataclass(frozen=True)
class Target:
    """A kind of work; `measure` is called on every rank, in a fresh process."""

    provider: str
    axes: Callable[[PretrainConfig, int], Axes]
    measure: Callable[[Task], Measurement]


def loader_axes(config: PretrainConfig, ranks: int) -> Axes:
    """Codecs that are decoded here, sizes and groups of pictures about those of the profile, pipelines, threads."""
    gpu = torch.cuda.is_available()
    cores = max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", ranks)))
    return {
        "codec": DECODES["gpu" if gpu else "cpu"],
        "short_side": ("128", "256"),
        "gop": ("8", "40"),
        "data.pipelines": ("1", "2", "4", "7") if gpu else ("1", "2"),
        "data.num_threads": tuple(str(2**power) for power in range(cores.bit_length())),
    }


def step_axes(config: PretrainConfig, ranks: int) -> Axes:
    """Batches about the configuration's, ZeRO stages, activations computed twice, and on GPUs compiled blocks."""
    batch, own = config.train.global_batch, str(config.deepspeed.zero_stage)
    return {
        "train.global_batch": tuple(map(str, (batch, 2 * batch, 4 * batch, *([batch // 2] if batch % 2 == 0 else [])))),
        "deepspeed.zero_stage": (own, *(stage for stage in "0123" if stage != own)),
        "model.activation_checkpointing": ("false", "true"),
        **({"train.compile": ("false", "true")} if torch.cuda.is_available() else {}),
    }


def measure_loader(task: Task) -> Measurement:
    """Epochs of a loader, from an empty queue to the last batch."""
    return _measured(partial(_loading, task), task.rounds)


def measure_step(task: Task) -> Measurement:
    """Steps on noise, as the trainer takes them."""
    with process_group():
        return _measured(partial(_stepping, task), task.rounds)


TARGETS = {
    "loader": Target(OURS, loader_axes, measure_loader),
    "step": Target(DEEPSPEED, step_axes, measure_step),
}


def _measured(setup: Callable, rounds: int) -> Measurement:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with peak_memory() as peak:
        total, *_ = measure(setup, [OURS], rounds=rounds, warmup=1, device=device)
    return replace(total, peak_mib=peak[0])


@contextmanager
def _loading(task: Task, _provider: str) -> Iterator[Round]:
    place, config, epochs = find_place(), task.config, count()
    device, share = claim_device(place), {"rank": place.rank, "world_size": place.world_size}
    batch_size = config.train.global_batch // place.world_size
    torch.set_num_threads(config.data.pipeline_threads)
    with Loader(
        ShardSet.open(task.shards), config.data, preset="pretrain", batch_size=batch_size, seed=config.seed, device=device, **share
    ) as loader:
        yield lambda lap: place.world_size * sum(len(batch.keys) for batch in loader.epoch(next(epochs)))


@contextmanager
def _stepping(task: Task, _provider: str) -> Iterator[Round]:
    place, config, steps = find_place(), task.config, count()
    device = {"cpu": "cpu", "gpu": "cuda"}[claim_device(place)]
    trainer = STEPPERS[DEEPSPEED].open(config, place, STEPS_PER_EPOCH)
    batch = noise_batch(config, config.train.global_batch // place.world_size, seed=place.rank, device=device)

    def run_round(lap: Lap) -> int:
        for step in islice(steps, task.size):
            trainer.step(batch, step)
        return task.size * config.train.global_batch

    yield run_round


def make_shards(folder: Path, point: Point, clips: int, *, write: bool) -> Path:
    """Where shards of at least so many clips in the form of a point lie, below `folder`; with `write` they are made unless there.

    The clips are a few made ones of 10 s, like downloaded ones; most shards are links. Raises ValueError for a form that cannot be
    had, or not be decoded here.
    """
    form = {name: FORM[name](value) for name, value in point if name in FORM}
    device = "gpu" if torch.cuda.is_available() else "cpu"
    if "codec" in form and form["codec"] not in DECODES[device]:
        raise ValueError(f"codec: DALI decodes no {form['codec']} on a {device.upper()}, but {', '.join(DECODES[device])}")
    shards = folder / "-".join([*map(str, form.values()), str(clips)])
    if write and not shards.exists():
        one = folder / f"{shards.name}-one"
        write_shards(_source(folder), one, split="train", workers=1, shard_samples=SHARD_CLIPS, **form)
        repeat_shard(one, shards, SHARD_CLIPS * -(-clips // SHARD_CLIPS))
    return shards


def _source(folder: Path) -> Path:
    source = folder / "source"
    if source.exists():
        return source
    write_sources(source / "clips", SHARD_CLIPS, DIFFERENT_CLIPS)
    return source
