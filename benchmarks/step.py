"""The parts of one training step of XKD, on one process and real batches that are already loaded."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path

import torch.distributed as dist

from xkd.benchmarks import command
from xkd.benchmarks.harness import Lap, Round, measure
from xkd.benchmarks.shards import given_or_made
from xkd.config import load
from xkd.jobs import schemas
from xkd.pipelines.loader import Loader
from xkd.pipelines.store.opening import open_shards
from xkd.train.config import PretrainConfig
from xkd.train.distributed import claim_device, find_place
from xkd.train.engine import Engine, join_process_group
from xkd.train.trainer import Trainer

NUM_BATCHES = 4


@dataclass(frozen=True)
class Work:
    """What a round trains: `steps` steps of the configuration's global batch."""

    config: PretrainConfig
    steps: int


class LappedEngine:
    """The trainer's engine, calling `lap` where a part of the step ends."""

    def __init__(self, engine: Engine, lap: Lap):
        self._engine, self._lap = engine, lap

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def forward(self, *args, **kwargs):
        output = self._engine.forward(*args, **kwargs)
        self._lap("forward")
        return output

    def backward(self, loss):
        self._lap("average numbers")
        self._engine.backward(loss)
        self._lap("backward")

    def step(self):
        self._lap("clip")
        applied = self._engine.step()
        self._lap("optimizer")
        return applied


@contextmanager
def setup(work: Work, provider: str) -> Iterator[Round]:
    """A trainer with its engine and a few batches; each round goes on where the last one ended."""
    assert provider == "deepspeed", provider
    shards = open_shards(work.config.data.train, work.config.data)
    batch_size = work.config.train.global_batch
    place = find_place()
    settings = {"batch_size": batch_size, "seed": work.config.seed, "device": claim_device(place)}
    with Loader(shards, work.config.data, preset="pretrain", **settings) as loader:
        batches = cycle([batch for epoch in range(NUM_BATCHES) for batch in islice(loader.epoch(epoch), 1)])
    join_process_group()
    try:
        trainer = Trainer(work.config, place, steps_per_epoch=len(shards) // batch_size)
        yield partial(_train, trainer, trainer.engine, batches, count().__next__, work.steps)
    finally:
        dist.destroy_process_group()


def _train(trainer: Trainer, engine: Engine, batches: Iterator, next_step: Callable[[], int], steps: int, lap: Lap) -> int:
    trainer.engine = LappedEngine(engine, lap)
    clips = 0
    for batch in islice(batches, steps):
        trainer.step(batch, next_step())
        lap("teachers and centres")
        clips += len(batch.sample_ids)
    return clips


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("step", "Take training steps and time their parts.", rounds=5)
    parser.add_argument("--config", default="pretrain/demo.yaml", help="configuration to train (default %(default)s)")
    parser.add_argument("--shards", type=Path, help="shard folder to read (default: a temporary one of AV-Digits clips of 5 s)")
    parser.add_argument("--steps", type=int, default=5, help="steps a round (default 5)")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    recorder = command.recorder("step", arguments)
    config = load(options.config, [], schemas())
    with given_or_made(options.shards, NUM_BATCHES * config.train.global_batch) as shards:
        work = Work(config.model_copy(update={"data": config.data.model_copy(update={"train": shards})}), options.steps)
        measurements = measure(partial(setup, work), ["deepspeed"], rounds=options.rounds, warmup=1, memory=True)
    settings = f"config={options.config} batch={config.train.global_batch} zero_stage={config.deepspeed.zero_stage} ranks=1"
    command.finish(recorder.rows(settings, "clip", measurements), options.csv)
    return 0
