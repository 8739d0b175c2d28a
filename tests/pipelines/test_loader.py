import pytest
import torch

from xkd.pipelines.config import DataConfig
from xkd.pipelines.index import ShardSet
from xkd.pipelines.loader import Batch, Loader

TENSORS = ("video_global", "video_local", "audio_global", "audio_local", "labels", "sample_ids", "valid")


def small(**changes) -> DataConfig:
    """A small geometry in which every augmentation is at work."""
    fields = {
        "train": "unused",
        "clip_seconds": 2.0,
        "video": {"fps": 4, "global_view": {"size": 32}, "local_view": {"count": 2, "frames": 3, "size": 24}},
        "audio": {"hop": 400, "local_view": {"count": 2, "seconds": 0.5}},
    }
    return DataConfig(**(fields | changes))


@pytest.fixture(scope="module")
def shards(tiny_shards):
    return ShardSet.open(tiny_shards)


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


def test_shapes_are_those_the_configuration_promises(shards):
    config = small()
    for batch in epoch(shards, config):
        assert batch.video_global.shape == (4, *config.video_shape)
        assert batch.video_local.shape == (4, 2, *config.local_video_shape)
        assert batch.audio_global.shape == (4, *config.audio_shape)
        assert batch.audio_local.shape == (4, 2, *config.local_audio_shape)
        assert all(getattr(batch, name).dtype == torch.float32 for name in TENSORS[:4])
        assert batch.labels.dtype == batch.sample_ids.dtype == torch.int64


def test_the_default_geometry_is_delivered(shards):
    config = DataConfig(train="unused")
    batch = epoch(shards, config, batch_size=2)[0]
    assert batch.video_global.shape[1:] == (3, 32, 112, 112)
    assert batch.video_local.shape[1:] == (1, 3, 8, 96, 96)
    assert batch.audio_global.shape[1:] == (1, 80, 448)
    assert batch.audio_local.shape[1:] == (1, 1, 80, 112)
