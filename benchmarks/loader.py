"""Clips a second and CPU time a clip of loading, from shards to normalised views: ours, its stages, and other loaders."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Literal

import psutil
import torch

from xkd.benchmarks import command
from xkd.benchmarks.harness import MIB, Measurement, Round
from xkd.benchmarks.needs import GPU, NOTHING
from xkd.benchmarks.peers import PEERS, stages
from xkd.benchmarks.peers.stages import STAGES
from xkd.benchmarks.peers.work import SEED, Epoch, Work
from xkd.benchmarks.results import Recorder, Row
from xkd.benchmarks.shards import given_or_natural
from xkd.config import load
from xkd.jobs import schemas
from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Loader
from xkd.pipelines.loading.stages import profile
from xkd.pipelines.loading.trial import DECODES

# What one training example holds: that of the demo, that of the method, or little.
SMALL = {"clip_seconds": 1, "video": {"global_view": {"size": 32}, "local_view": {"size": 16, "frames": 4}}}
GEOMETRIES = {
    "demo": lambda: load("pretrain/demo.yaml", [], schemas()).data,
    "default": lambda: DataConfig(train="none"),
    "small": lambda: DataConfig(train="none", audio={"num_mels": 16, "local_view": {"seconds": 0.5}}, **SMALL),
}
OURS, OURS_ON_GPU = "xkd", "xkd gpu"
PROVIDERS = {OURS: NOTHING, OURS_ON_GPU: GPU} | {name: peer.needs for name, peer in PEERS.items()}
CODECS = ("vp9", "mjpeg")
STEADY = 10  # stretches of a soak, of which the memory is recorded


@contextmanager
def setup(work: Work, provider: str) -> Iterator[Round]:
    """A loader, one epoch a round: it begins with nothing read ahead and ends so."""
    torch.set_num_threads(work.data.pipeline_threads)
    epochs = count()
    own = {OURS: "cpu", OURS_ON_GPU: "gpu"}
    with ours(work, own[provider]) if provider in own else PEERS[provider].open(work) as epoch:
        yield lambda lap: sum(len(views["video_global"]) for views in epoch(next(epochs)))


@contextmanager
def ours(work: Work, device: Literal["cpu", "gpu"] = "cpu") -> Iterator[Epoch]:
    settings = {"batch_size": work.batch_size, "seed": SEED, "device": device}
    with Loader(work.shard_set, work.data, preset="pretrain", **settings) as loader:
        yield lambda number: map(vars, loader.epoch(number))


def own_stages(work: Work, rounds: int) -> list[Measurement]:
    """What each stage of our loader takes."""
    batches = min(4, len(work.samples) // work.batch_size)
    settings = {"batch_size": work.batch_size, "batches": batches, "rounds": rounds}
    items = batches * work.batch_size
    return [
        Measurement(OURS, stage, rounds, items, *[items * cost.wall_seconds] * 3, items * cost.cpu_seconds)
        for stage, cost in profile(work.shard_set, work.data, **settings).items()
        if stage != "loader"  # measured above, and longer
    ]


def soak(work: Work, batches: int) -> Iterator[Measurement]:
    """Loads so many batches, epoch after epoch: the highest memory of this process in each tenth of them."""
    size = max(1, batches // STEADY)
    process, peak, start, cpu_start = psutil.Process(), 0.0, time.perf_counter(), time.process_time()
    with ours(work) as epoch:
        endless = chain.from_iterable(map(epoch, count()))
        for number, _ in enumerate(islice(endless, size * STEADY), 1):
            peak = max(peak, process.memory_info().rss / MIB)
            if number % size == 0:
                wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
                part = f"batches {number - size + 1}-{number}"
                yield Measurement(OURS, part, 1, size * work.batch_size, wall, wall, wall, cpu, peak_mib=peak)
                peak, start, cpu_start = 0.0, time.perf_counter(), time.process_time()


def measured(work: Work, case: str, providers: Collection[str], rounds: int, recorder: Recorder) -> Iterator[Row]:
    """The rows of one piece of work: loaders, our stages, the same stages by others."""
    codec = work.shard_set.manifest.video.codec
    wanted = {name: PROVIDERS[name] for name in providers if name != OURS_ON_GPU or codec in DECODES["gpu"]}
    measured_by = partial(command.measured, recorder, case, "clip", rounds=rounds, warmup=1)
    device = "cuda" if OURS_ON_GPU in wanted and GPU.missing() is None else "cpu"
    yield from measured_by(partial(setup, work), wanted, memory=True, device=device)
    if OURS in wanted and len(work.samples) >= stages.CLIPS:
        yield from recorder.rows(case, "clip", own_stages(work, rounds))
    if len(wanted) > 1 and len(work.samples) >= stages.CLIPS:
        yield from measured_by(partial(stages.setup, work), {name: stage.needs for name, stage in STAGES.items()})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("loader", "Load clips from shards, with this project's loader and with others.", rounds=5)
    parser.add_argument("--shards", type=Path, help="shard folder to read (default: temporary ones of made clips of 10 s)")
    parser.add_argument("--clips", type=int, default=64, help="clips of a temporary one, which is a round (default 64)")
    parser.add_argument("--codec", nargs="+", choices=CODECS, default=list(CODECS), help="of temporary ones (default: both)")
    parser.add_argument("--providers", nargs="+", choices=PROVIDERS, default=list(PROVIDERS), help="(default: all)")
    parser.add_argument("--geometry", nargs="+", choices=GEOMETRIES, default=["default"], help="(default: default)")
    parser.add_argument("--batch-size", type=int, default=8, help="(default 8)")
    parser.add_argument("--threads", type=int, default=1, help="DALI's threads, and torch's in a process (default 1)")
    parser.add_argument("--workers", type=int, default=0, help="processes of loaders of torch or webdataset (default: none)")
    parser.add_argument("--soak", type=int, metavar="N", help="instead, load N batches with ours and record its memory")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    recorder, found = command.recorder("loader", arguments), []
    for codec in ["given"] if options.shards else options.codec:
        with given_or_natural(options.shards, options.clips, codec) as shards:
            for name in options.geometry:
                data = GEOMETRIES[name]().model_copy(update={"num_threads": options.threads})
                work = Work(shards, data, options.batch_size, options.workers)
                case = (
                    f"geometry={name} {work.stored} batch={options.batch_size} threads={options.threads} workers={options.workers}"
                )
                if options.soak:
                    found += recorder.rows(case, "clip", soak(work, options.soak))
                else:
                    found += measured(work, case, options.providers, options.rounds, recorder)
    command.finish(found, options.csv)
    return 0
