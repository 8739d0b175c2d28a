"""What the loader gives protocols that take several augmented clips a sample."""

import pytest
import torch

from tests.pipelines.damage import copy_with_damage
from tests.pipelines.epochs import epoch, small
from xkd.pipelines.loader import Loader

CLIPS = {"clip_seconds": 1.0, "train_clips": 3}


def by_key(batches, clips=3):
    """The valid examples: pictures [clips, 3, T, H, W] and sounds by key."""
    found = {}
    for batch in (batch.counted() for batch in batches if batch.valid.any()):
        views = [views.unflatten(0, (-1, clips)) for views in (batch.video_global, batch.audio_global)]
        for key, pictures, sounds in zip(batch.keys, *views, strict=True):
            assert key not in found
            found[key] = pictures, sounds
    return found


@pytest.mark.parametrize("preset", ["linear", "finetune", "svm"])
def test_the_clips_of_an_example_follow_each_other_and_differ(shards, preset):
    found = by_key(epoch(shards, small(**CLIPS), preset=preset))
    assert len(found) == 12
    for pictures, sounds in found.values():
        assert (len(pictures), len(sounds)) == (3, 3)
        for views in (pictures, sounds):
            assert not any(torch.equal(views[k], views[k - 1]) for k in range(3))


@pytest.mark.parametrize("preset", ["linear", "finetune", "svm"])
def test_more_clips_leave_the_first_as_it_was(shards, preset):
    more = by_key(epoch(shards, small(**CLIPS), preset=preset))
    one = by_key(epoch(shards, small(clip_seconds=1.0), preset=preset), clips=1)
    assert more.keys() == one.keys()
    for key, views in one.items():
        assert all(torch.equal(few[0], many[0]) for few, many in zip(views, more[key], strict=True))


def test_pretraining_takes_one_clip_whatever_the_others_take(shards):
    (batch,) = epoch(shards, small(train_clips=3, eval_clips=2), preset="pretrain", batch_size=12)
    assert len(batch.video_global) == len(batch.audio_global) == 12


def test_svm_gives_every_sample_once_in_stored_order_and_other_clips_in_another_epoch(shards):
    batches = epoch(shards, small(**CLIPS), preset="svm", batch_size=5)
    assert [batch.valid.tolist() for batch in batches] == [[True] * 5, [True] * 5, [True] * 2 + [False] * 3]
    assert torch.cat([batch.sample_ids[batch.valid] for batch in batches]).tolist() == list(range(12))
    assert all(batch.video_local is None and batch.audio_local is None for batch in batches)
    again, later = (by_key(epoch(shards, small(**CLIPS), preset="svm", number=number)) for number in (0, 1))
    for key, (pictures, sounds) in by_key(batches).items():
        assert torch.equal(pictures, again[key][0])
        assert torch.equal(sounds, again[key][1])
        assert not any(torch.equal(*pair) for pair in zip(pictures, later[key][0], strict=True))


@pytest.mark.filterwarnings("ignore:.*it is left out")
@pytest.mark.parametrize("preset", ["svm", "eval"])
@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 12), (2, 3), (3, 5), (5, 1), (4, 4)])
def test_ranks_share_the_samples_so_that_each_is_seen_once(shards, tmp_path, preset, world_size, batch_size):
    damaged = copy_with_damage(shards, tmp_path / "copy", 4)
    config = small(clip_seconds=1.0, train_clips=2, eval_clips=2)
    expected = by_key(epoch(damaged, config, preset=preset, batch_size=12), clips=2)
    found, steps, dropped = {}, set(), []
    for rank in range(world_size):
        with Loader(damaged, config, preset=preset, batch_size=batch_size, rank=rank, world_size=world_size) as loader:
            own = by_key(loader.epoch(0), clips=2)
            steps.add(len(loader))
            dropped += loader.dropped
        assert not own.keys() & found.keys()
        found |= own
    assert len(steps) == 1
    assert [key for key, _ in dropped] == [shards.sample(4).key]
    assert found.keys() == expected.keys() == {shards.sample(k).key for k in range(12) if k != 4}
    for key, views in found.items():
        assert all(torch.equal(*pair) for pair in zip(views, expected[key], strict=True))
