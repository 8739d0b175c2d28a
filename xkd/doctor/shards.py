"""Are the shards there, and how fast do they answer on this node?"""

import random
import time
import warnings
from collections.abc import Iterator

import numpy as np

from xkd.doctor.context import Context
from xkd.doctor.folders import GIVE_CONFIG
from xkd.doctor.kept_shards import judge_kept
from xkd.doctor.verdict import Verdict, judged, ok
from xkd.pipelines.config import DataConfig
from xkd.pipelines.samples.source import Source, long_enough
from xkd.pipelines.samples.stream import ExampleStream
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.store.opening import is_remote, open_shards, plain_location
from xkd.pipelines.views.presets import PRESETS

READS = 32  # one after another
READ_SECONDS, STREAM_SECONDS = 3.0, 5.0  # that the measurements take at most
SLOW_SECONDS = 0.5  # for a read; 64 threads that wait so long have 128 clips a second


def check(context: Context) -> Iterator[Verdict]:
    """The shards of `data.train` and `data.test`; of the former, what a read takes and how many clips a second come.

    Each node reads other samples, drawn anew, so that no cache has them, unless it has the whole set.
    """
    if context.config is None:
        yield Verdict("shards", "not checked", "no configuration was given", GIVE_CONFIG)
        return
    data = context.config.data
    for field, location in (("data.train", data.train), ("data.test", data.test)):
        if location is not None:
            try:
                yield from _set(field, location, data)
            except ValueError as error:
                yield Verdict(field, "failed", str(error), f"have the shards on every node where {field} says, or change it")


def _set(field: str, location: str, data: DataConfig) -> Iterator[Verdict]:
    location = plain_location(location)
    if data.stage_dir or data.cache_dir or is_remote(location):
        yield from judge_kept(field, location, data)
        return
    began = time.perf_counter()
    shards = open_shards(location, data)
    yield ok(field, f"{len(shards)} samples in {len(shards.manifest.shards)} shards, opened in {time.perf_counter() - began:.1f} s")
    if field == "data.train":
        seed = random.randrange(2**31)
        yield judge_latency(read_seconds(shards, data, seed))
        yield from _rate(shards, data, seed)


def read_seconds(shards: ShardSet, data: DataConfig, seed: int) -> list[float]:
    """Seconds that each of some random clips takes to be read, one after another."""
    preset = PRESETS["pretrain"]
    source = Source(shards, preset.narrow(data), preset, seed)
    ids = np.random.default_rng(seed).permutation(long_enough(shards, data.min_seconds))
    seconds: list[float] = []
    for sample_id in ids[:READS].tolist():
        request = source.request(0, sample_id)
        began = time.perf_counter()
        source.fetch(request)
        seconds.append(time.perf_counter() - began)
        if sum(seconds) > READ_SECONDS:
            break
    return seconds


def judge_latency(seconds: list[float]) -> Verdict:
    middle, slow = np.quantile(seconds, (0.5, 0.95))
    found = f"{1000 * middle:.1f} ms a clip, 95 % within {1000 * slow:.1f} ms ({len(seconds)} reads, one after another)"
    fix = "raise data.read_ahead, or keep the shards on the node's own disk with data.stage_dir or data.cache_dir"
    return judged("read latency", middle > SLOW_SECONDS, found, fix, "warning")


def _rate(shards: ShardSet, data: DataConfig, seed: int) -> Iterator[Verdict]:
    """Clips a second of one process, as it reads in training."""
    count = read_bytes = 0
    with warnings.catch_warnings(), ExampleStream(shards, data, PRESETS["pretrain"], batch_size=1, seed=seed) as stream:
        warnings.simplefilter("ignore")  # damaged samples, of which the verdict tells
        began = time.perf_counter()
        for step in stream.epoch(0):
            count += 1
            read_bytes += sum(step.examples[0].inputs[name].nbytes for name in ("video", "pcm"))
            if time.perf_counter() - began > STREAM_SECONDS:
                break
        seconds = time.perf_counter() - began
        damaged = list(stream.quarantine)
    yield ok("read rate", f"{count / seconds:.0f} clips/s, {read_bytes / seconds / 1e6:.1f} MB/s in one process, {count} clips")
    if damaged:
        found = f"{len(damaged)} of {count} samples are damaged, such as {damaged[0]}"
        yield Verdict("samples", "warning", found, "look with `xkd shards check DIR --decode`, and copy these shards again")
