"""Samples a second of the source alone: reading, checking and drawing, without a graph, from fast storage and from slow."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from xkd.benchmarks import command
from xkd.benchmarks.harness import Measurement, Round, measure
from xkd.benchmarks.random_shards import write_random_shards
from xkd.pipelines.config import DataConfig
from xkd.pipelines.samples.stream import ExampleStream
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.open_files import OpenFiles
from xkd.pipelines.views.presets import PRESETS

SECONDS = 4.0  # of sound, all of which is read: 128,000 bytes
VIDEO_BYTES = 72_000
SHARD_SAMPLES = 256
BATCH_SIZE = 32
SLOW_SAMPLES = 64  # of a round of the provider that waits for each


@dataclass(frozen=True)
class Reader:
    """Samples read ahead of use, and milliseconds added to every pread."""

    read_ahead: int
    delay_ms: int = 0


READERS = {
    "in thread": Reader(0),
    "read_ahead=64": Reader(64),
    "read_ahead=256": Reader(256),
    "in thread, 20 ms": Reader(0, 20),
    "read_ahead=64, 20 ms": Reader(64, 20),
    "read_ahead=256, 20 ms": Reader(256, 20),
}


class SlowFiles(OpenFiles):
    """Files that answer each read so much later."""

    def __init__(self, files, delay_ms: int):
        super().__init__(files)
        self._delay_s = delay_ms / 1000

    def pread(self, path: Path, offset: int, size: int) -> bytes:
        time.sleep(self._delay_s)
        return super().pread(path, offset, size)


@contextmanager
def setup(folder: Path, provider: str) -> Iterator[Round]:
    """The stream, one epoch a round, or its beginning for the provider that takes minutes for one."""
    reader, epochs, shards = READERS[provider], count(), ShardSet.open(folder)
    files = SlowFiles(shards.files, reader.delay_ms) if reader.delay_ms else OpenFiles(shards.files)
    data = DataConfig(train=folder, read_ahead=reader.read_ahead)
    steps = SLOW_SAMPLES // BATCH_SIZE if reader.delay_ms and not reader.read_ahead else None

    def run_round(lap) -> int:
        return sum(len(step.examples) for step in islice(stream.epoch(next(epochs)), steps))

    with ExampleStream(shards, data, PRESETS["pretrain"], batch_size=BATCH_SIZE, files=files) as stream:
        yield run_round


def share_kept(measurements: Sequence[Measurement], read_ahead: int = 256, delay_ms: int = 20) -> float:
    """Throughput with the delay over that without it."""
    speed = {READERS[measurement.provider]: measurement.items_per_s for measurement in measurements}
    return speed[Reader(read_ahead, delay_ms)] / speed[Reader(read_ahead)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("source", "Read samples from shards, without decoding.", rounds=7)
    parser.add_argument("--samples", type=int, default=4096, help="samples of 200 KB, which are a round (default 4096)")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    recorder = command.recorder("source", arguments)
    with TemporaryDirectory() as made:
        folder = Path(made) / "shards"
        sizes = {"video_bytes": VIDEO_BYTES, "seconds": SECONDS}
        write_random_shards(folder, samples=options.samples, shard_samples=SHARD_SAMPLES, **sizes)
        measurements = measure(partial(setup, folder), list(READERS), rounds=options.rounds, warmup=1, memory=True)
    command.finish(recorder.rows(f"samples={options.samples} bytes=200000", "sample", measurements), options.csv)
    print(f"with 20 ms added to every pread, read_ahead=256 keeps {share_kept(measurements):.0%} of its samples a second")
    return 0
