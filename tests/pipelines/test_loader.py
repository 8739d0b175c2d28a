"""The batches of a loader: the same examples whatever its settings, from any step on."""

import json
from dataclasses import replace
from itertools import chain, islice

import numpy as np
import pytest
import torch

from tests.pipelines.damage import copy_with_damage
from tests.pipelines.epochs import TENSORS, assert_same, epoch, rows, small
from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Loader
from xkd.pipelines.samples.quarantine import TooManyDamaged
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.shard_files import LocalFiles, StorageError


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


@pytest.fixture(scope="module")
def reference(shards):
    """The examples of epoch 0, three batches of 4."""
    return epoch(shards)


@pytest.mark.parametrize("arguments", [{"batch_size": 1}, {"batch_size": 3}, {"batch_size": 12}])
def test_batch_size_changes_no_example(shards, reference, arguments):
    found = rows(epoch(shards, **arguments))
    assert found.keys() == rows(reference).keys()
    for sample, expected in rows(reference).items():
        assert_same(found[sample], expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_threads": 3},
        {"prefetch": 1},
        {"prefetch": 5},
        {"pipelines": 2},
        {"pipelines": 3, "prefetch": 3, "num_threads": 2},
        {"pipelines": 4, "prefetch": 7},  # more than there are batches
        {"read_ahead": 0},
        {"read_ahead": 3},
    ],
)
def test_threads_prefetching_pipelines_and_reading_ahead_change_no_batch(shards, reference, changes):
    for found, expected in zip(epoch(shards, small(**changes)), reference, strict=True):
        assert_same(vars(found), vars(expected))


def test_ranks_take_contiguous_parts_of_the_same_global_batches(shards, reference):
    ranks = [epoch(shards, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    for first, second, expected in zip(*ranks, reference, strict=True):
        joined = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in TENSORS}
        assert_same(joined, {name: getattr(expected, name) for name in TENSORS})


@pytest.mark.parametrize("changes", [{}, {"pipelines": 2, "prefetch": 3}])
@pytest.mark.parametrize("start_step", [1, 2, 3])
def test_resuming_gives_the_remaining_batches(shards, reference, start_step, changes):
    remaining = epoch(shards, small(**changes), start_step=start_step)
    assert len(remaining) == 3 - start_step
    for found, expected in zip(remaining, reference[start_step:], strict=True):
        assert_same(vars(found), vars(expected))


def test_epochs_and_seeds_bring_other_orders_and_other_views(shards, reference):
    for other in (epoch(shards, number=1), epoch(shards, seed=1)):
        assert [batch.keys for batch in other] != [batch.keys for batch in reference]
        for sample, expected in rows(reference).items():
            assert not torch.equal(rows(other)[sample]["video_global"], expected["video_global"])


def test_an_abandoned_epoch_leaves_nothing_behind(shards, reference):
    with Loader(shards, small(), preset="pretrain", batch_size=4) as loader:
        held = loader.epoch(1)
        next(held)
        for found, expected in zip(loader.epoch(0), reference, strict=True):
            assert_same(vars(found), vars(expected))
        assert list(held) == []


def test_batches_stay_as_they_are_after_the_loader_is_closed(shards, reference):
    copies = [{name: getattr(batch, name).clone() for name in TENSORS} for batch in epoch(shards)]
    for found, expected in zip(copies, reference, strict=True):
        assert_same(found, {name: getattr(expected, name) for name in TENSORS})


def test_labels_and_keys_belong_to_the_samples(shards, reference):
    labels = shards.labels()
    for batch in reference:
        assert batch.labels.tolist() == labels[batch.sample_ids.numpy()].tolist()
        assert batch.keys == [shards.sample(int(sample)).key for sample in batch.sample_ids]
        assert batch.valid.all()


def test_a_sample_with_several_labels_has_no_single_one(shards):
    class Several(ShardSet):
        def sample(self, index):
            return replace(super().sample(index), labels=(0, 1) if index == 3 else (1,))

    batches = epoch(Several(shards.folder, shards.manifest), preset="eval")
    assert torch.cat([batch.labels for batch in batches]).tolist() == [1, 1, 1, -1, *[1] * 8]


def test_samples_that_are_too_short_are_left_out_and_counted(shards):
    class Shortened(ShardSet):
        def column(self, name):
            column = super().column(name)
            return np.where(np.arange(len(column)) < 3, 8, column) if name == "video_frames" else column

    with Loader(Shortened(shards.folder, shards.manifest), small(min_seconds=1.1), preset="pretrain", batch_size=2) as loader:
        assert loader.too_short == 3
        assert len(loader) == 4
        assert min(int(batch.sample_ids.min()) for batch in loader.epoch(0)) >= 3


def test_too_few_samples_for_a_batch_are_refused(shards):
    with pytest.raises(ValueError, match=r"12 of 12 samples .* fewer than a global batch of 16"):
        Loader(shards, small(), preset="pretrain", batch_size=8, world_size=2)
    with pytest.raises(ValueError, match=r"0 of 12 samples last data.min_seconds 3"):
        Loader(shards, small(min_seconds=3), preset="pretrain", batch_size=8)


@pytest.mark.filterwarnings("ignore:.*it is replaced")
def test_a_substitute_is_marked_counted_and_healthy(shards, tmp_path, reference):
    damaged = copy_with_damage(shards, tmp_path / "copy", 4)
    with Loader(damaged, small(max_bad_share=0.1), preset="pretrain", batch_size=4) as loader:
        batches = list(loader.epoch(0))
        assert loader.substituted == 1
        assert [damage.key for damage in loader.quarantine] == [shards.sample(4).key]
    marks, ids = torch.cat([batch.substituted for batch in batches]), torch.cat([batch.sample_ids for batch in batches])
    asked = torch.cat([batch.sample_ids for batch in reference])
    place = asked.tolist().index(4)
    assert marks.tolist() == [sample == 4 for sample in asked.tolist()]
    assert torch.cat([batch.valid for batch in batches]).all()
    assert ids[marks].item() != 4
    assert [key for batch in batches for key in batch.keys][place] == shards.sample(int(ids[place])).key
    for found, expected in zip(batches, reference, strict=True):
        kept = ~found.substituted
        assert torch.equal(found.video_global[kept], expected.video_global[kept])
        assert kept.all() or not torch.equal(found.video_global[~kept], expected.video_global[~kept])


@pytest.mark.filterwarnings("ignore:.*it is replaced")
def test_a_sample_and_its_stand_in_in_one_batch_differ(shards, tmp_path):
    damaged = copy_with_damage(shards, tmp_path / "copy", 4)
    (batch,) = epoch(damaged, small(max_bad_share=0.1), batch_size=12)
    first, second = (batch.sample_ids == batch.sample_ids[batch.substituted]).nonzero().flatten().tolist()
    assert batch.keys[first] == batch.keys[second]
    assert not torch.equal(batch.video_global[first], batch.video_global[second])


@pytest.mark.filterwarnings("ignore:.*it is replaced")
def test_too_many_damaged_samples_stop_the_loader(shards, tmp_path):
    damaged = copy_with_damage(shards, tmp_path / "copy", 4, 9)
    with Loader(damaged, small(max_bad_share=0.1), preset="pretrain", batch_size=4) as loader:
        batches = loader.epoch(0)
        with pytest.raises(
            TooManyDamaged, match=r"2 clips of epoch 0 were replaced; data.max_bad_share 0.1 allows 1 of 12\. Damaged"
        ):
            list(batches)


@pytest.mark.filterwarnings("ignore:.*it is (left out|replaced)")
@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4, 7])
def test_a_state_goes_on_over_the_ends_of_epochs(shards, tmp_path, taken):
    damaged, config = copy_with_damage(shards, tmp_path / "copy", 4), small(max_bad_share=0.1)
    with Loader(damaged, config, preset="pretrain", batch_size=4) as loader:
        whole = [batch for _ in range(3) for batch in loader]
    with Loader(damaged, config, preset="pretrain", batch_size=4) as loader:
        batches = chain.from_iterable(iter(loader) for _ in range(3))
        for found, expected in zip(islice(batches, taken), whole, strict=False):
            assert_same(vars(found), vars(expected))
        state = json.loads(json.dumps(loader.state_dict()))
    assert (state["epoch"], state["step"]) == divmod(taken, 3)
    with Loader(damaged, config, preset="pretrain", batch_size=4) as loader:
        loader.load_state_dict(state)
        batches = chain.from_iterable(iter(loader) for _ in range(3))
        for found, expected in zip(islice(batches, 9 - taken), whole[taken:], strict=True):
            assert_same(vars(found), vars(expected))


def test_an_epoch_after_a_failed_one_starts_afresh(shards, reference):
    class Failing(LocalFiles):
        fails = True

        def ensure(self, name, stop=None):
            if self.fails:
                raise StorageError("no answer")
            return super().ensure(name)

    files = Failing(shards.folder)
    with Loader(ShardSet(shards.folder, shards.manifest, files), small(prefetch=3), preset="pretrain", batch_size=4) as loader:
        with pytest.raises(StorageError, match="no answer"):
            next(loader.epoch(0))
        files.fails = False
        for found, expected in zip(loader.epoch(0), reference, strict=True):
            assert_same(vars(found), vars(expected))


def test_waiting_is_counted(shards):
    with Loader(shards, small(), preset="pretrain", batch_size=4) as loader:
        assert loader.wait_seconds == 0
        waits = [loader.wait_seconds for _ in loader.epoch(0)]
    assert 0 < waits[0] < waits[1] < waits[2]


def test_the_time_of_each_stage_is_counted(shards):
    with Loader(shards, small(), preset="pretrain", batch_size=4) as loader:
        assert set(loader.stage_seconds.values()) == {0}
        list(loader.epoch(0))
        spent = loader.stage_seconds
    assert spent.keys() == {"read", "feed", "decode", "finish", "wait"}
    assert all(seconds > 0 for seconds in spent.values())
    assert spent["feed"] + spent["decode"] + spent["finish"] <= spent["wait"] == loader.wait_seconds


def test_a_closed_loader_is_not_used_again(shards):
    loader = Loader(shards, small(), preset="pretrain", batch_size=2)
    loader.close()
    loader.close()
    with pytest.raises(AssertionError, match="closed"):
        loader.epoch(0)
