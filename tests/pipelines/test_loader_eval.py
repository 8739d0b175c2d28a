"""What the loader gives an evaluation."""

import pytest
import torch

from tests.pipelines.damage import copy_with_damage
from tests.pipelines.epochs import epoch, small
from xkd.pipelines.loader import Loader


def test_evaluation_gives_every_sample_once_in_stored_order(shards):
    batches = epoch(shards, preset="eval", batch_size=5)
    assert [batch.valid.tolist() for batch in batches] == [[True] * 5, [True] * 5, [True] * 2 + [False] * 3]
    assert torch.cat([batch.sample_ids[batch.valid] for batch in batches]).tolist() == list(range(12))
    assert all(batch.video_local is None and batch.audio_local is None for batch in batches)


def test_evaluation_does_not_depend_on_seed_or_epoch(shards):
    for first, second in zip(epoch(shards, preset="eval"), epoch(shards, preset="eval", seed=5, number=7), strict=True):
        assert torch.equal(first.video_global, second.video_global)
        assert torch.equal(first.audio_global, second.audio_global)


def test_evaluated_clips_and_crops_are_those_of_the_whole_sample(shards):
    local = {"local_view": {"count": 0}}
    config = small(clip_seconds=1.0, eval_clips=2, eval_crops=3, video={"fps": 4, "global_view": {"size": 32}} | local)
    several = epoch(shards, config, preset="eval", batch_size=5)
    assert [len(batch.video_global) for batch in several] == [30, 30, 30]
    assert [len(batch.audio_global) for batch in several] == [10, 10, 10]
    assert [int(batch.valid.sum()) for batch in several] == [5, 5, 2]
    wide = [shards.sample(k).video.width > shards.sample(k).video.height for k in range(5)]
    for pictures, is_wide in zip(several[0].video_global.unflatten(0, (5, 2, 3)), wide, strict=True):
        assert not torch.equal(pictures[0], pictures[1])
        assert torch.equal(pictures[0, 0], pictures[0, 2]) != is_wide


def test_counted_rows_keep_all_views_of_theirs(shards):
    local = {"local_view": {"count": 0}}
    config = small(clip_seconds=1.0, eval_clips=2, eval_crops=3, video={"fps": 4, "global_view": {"size": 32}} | local)
    last = epoch(shards, config, preset="eval", batch_size=5)[-1]
    counted = last.counted()
    assert (len(counted.keys), len(counted.video_global), len(counted.audio_global)) == (2, 12, 4)
    assert torch.equal(counted.video_global, last.video_global[:12])


@pytest.mark.filterwarnings("ignore:.*it is left out")
def test_evaluation_leaves_out_what_is_damaged_and_says_so(shards, tmp_path):
    damaged = copy_with_damage(shards, tmp_path / "copy", 0, 9)
    (whole,) = epoch(shards, preset="eval", batch_size=12)
    for world_size in (1, 2):
        counted, dropped = {}, []
        for rank in range(world_size):
            with Loader(damaged, small(), preset="eval", batch_size=5, rank=rank, world_size=world_size) as loader:
                batches = list(loader.epoch(0))
                dropped += loader.dropped
            assert all(len(batch.keys) == 5 for batch in batches)
            counted |= {
                int(batch.sample_ids[row]): batch.video_global[row] for batch in batches for row in batch.valid.nonzero().flatten()
            }
        assert sorted(counted) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11]
        assert [key for key, _ in dropped] == [damaged.sample(index).key for index in (0, 9)]
        for index, video in counted.items():
            assert torch.equal(video, whole.video_global[index])
