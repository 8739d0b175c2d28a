"""Loads views of a small geometry, and tells batches and examples apart."""

import torch

from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Batch, Loader

TENSORS = ("video_global", "video_local", "audio_global", "audio_local", "labels", "sample_ids", "substituted", "valid")


def small(**changes) -> DataConfig:
    """A small geometry in which every augmentation is at work."""
    fields = {
        "train": "unused",
        "clip_seconds": 2.0,
        "video": {"fps": 4, "global_view": {"size": 32}, "local_view": {"count": 2, "frames": 3, "size": 24}},
        "audio": {"hop": 400, "local_view": {"count": 2, "seconds": 0.5}},
    }
    return DataConfig(**(fields | changes))


def rows(batches: list[Batch]) -> dict[int, dict[str, torch.Tensor]]:
    """Every example by sample id, cut out of its batch."""
    return {
        int(batch.sample_ids[row]): {name: getattr(batch, name)[row] for name in TENSORS} | {"key": batch.keys[row]}
        for batch in batches
        for row in range(len(batch.keys))
    }


def assert_same(found, expected):
    for name, value in expected.items():
        equal = torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert equal, name


def epoch(shards, config=None, *, number=0, start_step=0, **arguments) -> list[Batch]:
    with Loader(shards, config or small(), **({"preset": "pretrain", "batch_size": 4} | arguments)) as loader:
        return list(loader.epoch(number, start_step))
