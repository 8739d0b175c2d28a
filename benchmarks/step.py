"""The parts of a training step of XKD on real batches that are already loaded: by DeepSpeed, and by torch alone."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import torch

from xkd.benchmarks import command
from xkd.benchmarks.engines import DEEPSPEED, STEPPERS, measure_on_ranks, process_group
from xkd.benchmarks.harness import TOTAL, Lap, Measurement, Round, measure
from xkd.benchmarks.shards import given_or_made
from xkd.config import load
from xkd.jobs import schemas
from xkd.pipelines.loader import Loader
from xkd.pipelines.store.opening import open_shards
from xkd.train.config import PretrainConfig
from xkd.train.distributed import claim_device, find_place
from xkd.train.engine import precision_of
from xkd.train.meter import Meter, memory
from xkd.train.metrics import MetricsWriter
from xkd.train.pretraining import PretrainJob
from xkd.train.trainer import Trainer

NUM_BATCHES = 4
# What a call of the engine, or of its `zero`, is the end of: the part before it, and the part that it is.
MARKS = {
    "forward": (None, "forward"),
    "backward": (None, "backward"),
    "gradients": ("average numbers", None),
    "step": ("clip", "optimizer"),
}
OVERHEADS = ("average numbers", "clip", "teachers and centres", "logging")  # what is not forward, backward, optimizer
AIM = 0.04


@dataclass(frozen=True)
class Work:
    """What a round trains: `steps` steps of the configuration's global batch, the last of them logged; `total` is of all rounds."""

    config: PretrainConfig
    steps: int
    total: int


class Lapped:
    """The trainer's engine, calling `lap` where a part of the step ends (MARKS)."""

    def __init__(self, inner, lap: Lap):
        self._inner, self._lap = inner, lap

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        if name == "zero":
            return Lapped(found, self._lap)
        return partial(self._call, found, *MARKS[name]) if name in MARKS else found

    def _call(self, function, before, after, *args, **kwargs):
        if before:
            self._lap(before)
        result = function(*args, **kwargs)
        if after:
            self._lap(after)
        return result


class Training:
    """A trainer that goes on in every round where it stopped in the last, and logs as a run does."""

    def __init__(self, work: Work, trainer: Trainer, batches: Iterator, meter: Meter, metrics: MetricsWriter):
        self._work, self._trainer, self._batches, self._meter, self._metrics = work, trainer, batches, meter, metrics
        self._engine, self._step = trainer.engine, 0

    def __call__(self, lap: Lap) -> int:
        """One round; returns its clips."""
        self._trainer.engine = Lapped(self._engine, lap)
        first = self._step
        while self._step < first + self._work.steps:
            numbers = self._trainer.step(next(self._batches), self._step)
            lap("teachers and centres")
            self._step += 1
            self._metrics.advance()
            if self._step == first + self._work.steps:
                self._metrics.write(self._step, numbers | self._meter.rates(self._step) | memory())
            lap("logging")
        return self._work.steps * self._work.config.train.global_batch


@contextmanager
def setup(work: Work, provider: str) -> Iterator[Round]:
    """A trainer with its engine and a few batches."""
    place, config = find_place(), work.config
    shards, batch_size = open_shards(config.data.train, config.data), config.train.global_batch
    device, share = claim_device(place), {"rank": place.rank, "world_size": place.world_size}
    loader_settings = {"batch_size": batch_size // place.world_size, "seed": config.seed, "device": device, **share}
    with process_group(), Loader(shards, config.data, preset="pretrain", **loader_settings) as loader:
        batches = cycle([batch for epoch in range(NUM_BATCHES) for batch in islice(loader.epoch(epoch), 1)])
        trainer = STEPPERS[provider].open(config, place, len(shards) // batch_size)
        job = PretrainJob(config, place)
        meter = Meter(loader, job.utilisation(), clips_per_step=batch_size, step=0)
        with tempfile.TemporaryDirectory() as run_dir:
            logged = config.model_copy(update={"run_dir": Path(run_dir)})
            facts = {"total_steps": work.total, "start_step": 0, "enabled": place.rank == 0}
            with MetricsWriter(logged, alarm=job.open_alarm(), **facts) as metrics:
                yield Training(work, trainer, batches, meter, metrics)


def shares(measurements: Sequence[Measurement], device: str) -> dict[str, float]:
    """What share of a step each of OVERHEADS takes: of its time on a GPU, on CPUs of its CPU time, which others disturb less."""
    own = [found for found in measurements if found.provider == DEEPSPEED]
    seconds = {found.part: found.wall_p50_s if device == "cuda" else found.cpu_s for found in own}
    return {part: seconds[part] / seconds[TOTAL] for part in OVERHEADS}


def main(arguments: Sequence[str] | None = None) -> int:
    if arguments and "--explain" in arguments:
        from xkd.benchmarks.explain.command import main as explain

        return explain([word for word in arguments if word != "--explain"])
    parser = command.parser("step", "Take training steps and time their parts.", rounds=5)
    parser.add_argument("--explain", action="store_true", help="say what limits a run, and what to set: `--explain --help`")
    parser.add_argument("--config", default="pretrain/demo.yaml", help="configuration to train (default %(default)s)")
    parser.add_argument("--shards", type=Path, help="shard folder to read (default: a temporary one of AV-Digits clips of 5 s)")
    parser.add_argument("--steps", type=int, default=5, help="steps a round, at whose end metrics are logged (default 5)")
    parser.add_argument("--providers", nargs="+", choices=STEPPERS, default=list(STEPPERS), help="(default: all)")
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="replaces a field of the configuration")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    recorder, place = command.recorder("step", arguments), find_place()
    config = load(options.config, options.overrides, schemas())
    if place.world_size > 1 and not options.shards:
        raise ValueError("--shards: is needed on several ranks, which would otherwise make one each: name a folder that all see")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reasons = {name: STEPPERS[name].missing(config) for name in options.providers}
    able = [name for name, reason in reasons.items() if reason is None]
    with given_or_made(options.shards, NUM_BATCHES * config.train.global_batch) as shards:
        config = config.model_copy(update={"data": config.data.model_copy(update={"train": str(shards)})})
        work = Work(config, options.steps, total=options.steps * (1 + options.rounds))
        settings = {"rounds": options.rounds, "warmup": 1, "device": device}
        if place.world_size == 1:
            found = measure(partial(setup, work), able, memory=device == "cpu", **settings)
        else:
            found = measure_on_ranks(partial(setup, work), able, **settings)
    if place.rank > 0:
        return 0
    facts = {"batch": config.train.global_batch, "zero_stage": config.deepspeed.zero_stage, "precision": precision_of(config)}
    facts = {"config": options.config, **facts, "ranks": place.world_size}
    case = " ".join(f"{name}={value}" for name, value in facts.items())
    absent = [recorder.absent(case, "clip", name, reason) for name, reason in reasons.items() if reason]
    command.finish(recorder.rows(case, "clip", found) + absent, options.csv)
    if DEEPSPEED in able:
        told_shares(shares(found, device))
    return 0


def told_shares(of_step: Mapping[str, float]) -> None:
    parts, whole = ", ".join(f"{part} {share:.1%}" for part, share in of_step.items()), sum(of_step.values())
    print(f"Overheads: {parts}; together {whole:.1%} of a step; the aim for the base network is less than {AIM:.0%}.")
