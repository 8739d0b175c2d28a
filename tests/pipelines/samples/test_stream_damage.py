"""Damaged samples in a stream: replaced in training, left out in evaluation, counted and named."""

import shutil

import pytest

from tests.pipelines.streams import DAMAGED, Damaged, config, rows, stream
from xkd.pipelines.samples.quarantine import TooManyDamaged
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.shard_files import LocalFiles, StorageError
from xkd.pipelines.views.presets import PRESETS

pytestmark = pytest.mark.filterwarnings("ignore:.*it is (replaced|left out)")


def test_a_sample_found_damaged_is_not_read_again_in_later_epochs(damaged):
    with stream(damaged, config=config(read_ahead=0)) as one:
        for _ in one.epoch(0):
            pass
        found = {damage.sample_id for damage in one.quarantine}
        assert found <= set(DAMAGED)
        assert len(found) >= 4
        with pytest.MonkeyPatch.context() as patch:
            asked = []
            request = one._source.request
            patch.setattr(one._source, "request", lambda *which, **how: (asked.append(which[1]), request(*which, **how))[1])
            substituted = [name for step in one.epoch(1) for name in step.substituted]
        assert not found & set(asked)
        assert any(substituted)


def test_damage_found_in_an_epoch_is_named_with_it(damaged):
    with stream(damaged, batch_size=1) as one:
        for _ in one.epoch(2):
            pass
        assert [(damage.sample_id, damage.epoch) for damage in one.quarantine] == [(sample, 2) for sample in DAMAGED]
        for damage in one.quarantine:
            sample = damaged.sample(damage.sample_id)
            assert (damage.key, damage.shard) == (sample.key, sample.shard.name)
            assert damage.reason == f"its video (at byte {sample.video.offset}) is damaged"


def test_more_damage_than_allowed_stops_the_epoch_after_the_batch_that_has_it(damaged):
    with stream(damaged, config=config(max_bad_share=0.03), batch_size=1) as one:
        assert one.max_substituted == 3
        steps, seen = one.epoch(0), []
        while sum(seen) < 4:
            seen += next(steps).substituted.tolist()
        with pytest.raises(TooManyDamaged, match=r"4 clips of epoch 0 .* 0.03 allows 3 of 100\. Damaged: .* Copy") as stopped:
            next(steps)
        assert all(f"sample {damage.key}: {damage.reason}" in str(stopped.value) for damage in one.quarantine)


def test_a_share_is_that_of_an_epoch(damaged):
    with stream(damaged, config=config(max_bad_share=0.06), batch_size=1) as one:
        for epoch in range(3):
            assert sum(int(step.substituted[0]) for step in one.epoch(epoch)) == one.substituted == 6


@pytest.mark.parametrize(("share", "tried"), [(1.0, 100), (0.5, 51), (0.01, 16)])
def test_samples_that_are_all_damaged_are_an_error_that_names_some(healthy, share, tried):
    expected = f"{tried} samples in a row are damaged; .*Damaged: train-0.*, and {tried - 5} more"
    with stream(Damaged(healthy, range(100)), config=config(max_bad_share=share)) as one:
        steps = one.epoch(0)
        with pytest.raises(TooManyDamaged, match=expected):
            next(steps)


def test_a_missing_shard_is_damage_of_its_samples(healthy, tmp_path):
    shutil.copytree(healthy.folder, tmp_path / "copy")
    shards = ShardSet.open(tmp_path / "copy")
    gone = shards.sample(20).shard
    gone.unlink()
    with stream(shards, batch_size=1) as one:
        delivered = {one[0] for step in one.epoch(0) for one in rows(step)}
        lost = [index for index in range(100) if shards.sample(index).shard == gone]
        assert delivered == set(range(100)) - set(lost)
        assert [damage.sample_id for damage in one.quarantine] == lost
        assert all("cannot be read: No such file" in damage.reason for damage in one.quarantine)


def test_evaluation_marks_what_it_drops_and_fills_the_last_batch(damaged):
    for world_size in (1, 2, 3):
        delivered, dropped = [], []
        for rank in range(world_size):
            with stream(damaged, "eval", batch_size=8, rank=rank, world_size=world_size) as one:
                steps = list(one.epoch(0))
                assert len(steps) == len(one) == -(-100 // (8 * world_size))
                dropped += one.dropped
                delivered += [one[0] for step in steps for one in rows(step) if one[-1]]
                assert all(len(step.examples) == 8 and not step.substituted.any() for step in steps)
                assert len(one.quarantine) == 0
        assert sorted(delivered) == [sample for sample in range(100) if sample not in DAMAGED]
        assert sorted(key for key, _ in dropped) == sorted(damaged.sample(sample).key for sample in DAMAGED)
        assert all("is damaged" in reason for _, reason in dropped)


def test_evaluation_delivers_in_stored_order_and_again_in_the_next_pass(damaged):
    with stream(damaged, "eval", batch_size=7) as one:
        for epoch in (0, 1):
            found = [one[0] for step in one.epoch(epoch) for one in rows(step) if one[-1]]
            assert found == [sample for sample in range(100) if sample not in DAMAGED]
            assert len(one.dropped) == len(DAMAGED)


@pytest.mark.parametrize("bad", [range(8), range(50), range(99)])
def test_a_batch_without_a_healthy_sample_is_filled_all_the_same(healthy, bad):
    with stream(Damaged(healthy, bad), "eval", batch_size=8) as one:
        assert sum(step.valid.sum() for step in one.epoch(0)) == 100 - len(bad)


def test_evaluation_of_nothing_healthy_is_an_error(healthy):
    with (
        stream(Damaged(healthy, range(100)), "eval", batch_size=8) as one,
        pytest.raises(TooManyDamaged, match="no sample is healthy"),
    ):
        next(one.epoch(0))


def test_storage_that_fails_is_not_taken_for_damage(healthy):
    class Failing(LocalFiles):
        def ensure(self, name, stop=None):
            raise StorageError("the network is down")

    shards = ShardSet(healthy.folder, healthy.manifest, Failing(healthy.folder))
    for preset in PRESETS:
        with stream(shards, preset) as one, pytest.raises(StorageError, match="network is down"):
            list(one.epoch(0))
