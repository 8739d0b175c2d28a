"""What the loader gives fine-tuning."""

from itertools import chain

import pytest
import torch

from tests.pipelines.epochs import epoch, small
from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Loader
from xkd.pipelines.views.presets import METHOD_VIEWS

FINETUNE = {
    "video": {"fps": 4, "global_view": {"size": 32, "rand_augment": {"ops": 3}, "erase": 0.5, "blur": 0.3}},
    "audio": {
        "hop": 400,
        "global_view": {"time_warp": 10, "freq_masks": 2, "time_masks": 2, "resize_crop": True},
    },
}


@pytest.fixture(scope="module")
def finetuned(shards):
    return epoch(shards, small(**FINETUNE), preset="finetune")


def test_finetuning_has_global_views_only(finetuned):
    for batch in finetuned:
        assert batch.video_global.shape == (4, *small(**FINETUNE).video_shape)
        assert batch.audio_global.shape == (4, *small(**FINETUNE).audio_shape)
        assert batch.video_local is batch.audio_local is None


@pytest.mark.parametrize(("batch_size", "changes"), [(1, {}), (12, {}), (4, {"num_threads": 3, "prefetch": 4})])
def test_batches_and_threads_change_no_finetuning_example(shards, finetuned, batch_size, changes):
    def by_sample(batches):
        views = [zip(batch.sample_ids.tolist(), batch.video_global, batch.audio_global, strict=True) for batch in batches]
        return {sample: tensors for sample, *tensors in chain.from_iterable(views)}

    found, expected = (
        by_sample(epoch(shards, small(**FINETUNE, **changes), preset="finetune", batch_size=batch_size)),
        by_sample(finetuned),
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(*pair) for sample in found for pair in zip(found[sample], expected[sample], strict=True))


def test_finetuning_keeps_short_samples(shards):
    with Loader(shards, small(min_seconds=3, **FINETUNE), preset="finetune", batch_size=4) as loader:
        assert (loader.too_short, len(loader)) == (0, 3)


def test_the_method_s_finetuning_views_are_delivered(shards):
    config = DataConfig(train="unused", **METHOD_VIEWS["finetune"])
    batch = epoch(shards, config, preset="finetune", batch_size=2)[0]
    assert batch.video_global.shape == (2, 3, 32, 224, 224)
    assert batch.audio_global.shape == (2, 1, 80, 448)
