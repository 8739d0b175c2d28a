"""Streams of many small samples, and what they deliver as plain rows."""

from dataclasses import replace
from itertools import chain

from xkd.pipelines.config import DataConfig
from xkd.pipelines.samples.stream import ExampleStream
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.views.presets import PRESETS

DAMAGED = (3, 4, 17, 40, 41, 42)


def config(**changes) -> DataConfig:
    fields = {
        "train": "unused",
        "clip_seconds": 1.0,
        "min_seconds": 0,
        "block_shards": 2,
        "canonical_nodes": 4,
        "read_ahead": 4,
        "max_bad_share": 1.0,
        "video": {"fps": 4, "local_view": {"count": 0}},
        "audio": {"local_view": {"count": 0}},
    }
    return DataConfig(**(fields | changes))


def stream(shards, preset="pretrain", **arguments) -> ExampleStream:
    data = arguments.pop("config", None) or config()
    return ExampleStream(shards, data, PRESETS[preset], **({"batch_size": 6} | arguments))


class Damaged(ShardSet):
    """A set in which the videos of some samples are not what their checksums say, as if the tar had changed."""

    def __init__(self, shards: ShardSet, bad):
        super().__init__(shards.folder, shards.manifest, shards.files)
        self.bad = bad

    def sample(self, index):
        sample = super().sample(index)
        return replace(sample, video=replace(sample.video, crc=sample.video.crc ^ 1)) if index in self.bad else sample


def row(example) -> tuple:
    """All of an example that a test compares."""
    return example.sample.id, example.inputs["video"].tobytes(), example.inputs["pcm"].tobytes(), example.inputs["frames"].tobytes()


def rows(step) -> list[tuple]:
    return [
        (*row(example), bool(substituted), bool(valid))
        for example, substituted, valid in zip(step.examples, step.substituted, step.valid, strict=True)
    ]


def global_batches(shards, world_size, global_batch=24, epoch=0, start_step=0, **arguments) -> list[list[tuple]]:
    """The rows of each step, those of all ranks one after the other."""
    ranks = []
    for rank in range(world_size):
        split = {"batch_size": global_batch // world_size, "rank": rank, "world_size": world_size}
        with stream(shards, **split, **arguments) as one:
            ranks.append([rows(step) for step in one.epoch(epoch, start_step)])
    return [list(chain(*parts)) for parts in zip(*ranks, strict=True)]
