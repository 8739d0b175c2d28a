"""Clips a second and CPU time a clip of the pre-training loader, from shards to normalised views."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from xkd.benchmarks import command
from xkd.benchmarks.harness import Round, measure
from xkd.benchmarks.shards import given_or_made
from xkd.config import load
from xkd.jobs import schemas
from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Loader
from xkd.pipelines.storage import open_shards

# What one training example holds: that of the demo, or that of the method.
GEOMETRIES = {
    "demo": lambda: load("pretrain/demo.yaml", [], schemas()).data,
    "default": lambda: DataConfig(train=Path("none")),
}


@dataclass(frozen=True)
class Work:
    """What a round loads: one epoch of the shards."""

    shards: Path
    data: DataConfig
    batch_size: int


@contextmanager
def setup(work: Work, provider: str) -> Iterator[Round]:
    """The loader, one epoch a round: it begins with nothing read ahead and ends so."""
    assert provider == "xkd", provider
    epochs = count()
    with Loader(open_shards(work.shards, work.data), work.data, preset="pretrain", batch_size=work.batch_size) as loader:
        yield lambda lap: sum(len(batch.sample_ids) for batch in loader.epoch(next(epochs)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("loader", "Load clips from shards.", rounds=5)
    parser.add_argument("--shards", type=Path, help="shard folder to read (default: a temporary one of AV-Digits clips of 5 s)")
    parser.add_argument("--clips", type=int, default=64, help="clips of the temporary one, which is a round (default 64)")
    parser.add_argument("--geometry", nargs="+", choices=GEOMETRIES, default=list(GEOMETRIES), help="default: both")
    parser.add_argument("--batch-size", type=int, default=8, help="(default 8)")
    parser.add_argument("--threads", type=int, default=1, help="DALI threads (default 1)")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    recorder, rows = command.recorder("loader", arguments), []
    with given_or_made(options.shards, options.clips) as shards:
        for name in options.geometry:
            data = GEOMETRIES[name]().model_copy(update={"num_threads": options.threads})
            work = Work(shards, data, options.batch_size)
            measurements = measure(partial(setup, work), ["xkd"], rounds=options.rounds, warmup=1, memory=True)
            rows += recorder.rows(f"geometry={name} batch={options.batch_size} threads={options.threads}", "clip", measurements)
    command.finish(rows, options.csv)
    return 0
