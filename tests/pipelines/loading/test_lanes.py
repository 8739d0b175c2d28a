import json
from dataclasses import replace
from itertools import chain, islice

import numpy as np
import pytest
import torch

from tests.pipelines.bad_media import UNDECODABLE, changed_packets, noise, stored, write_set
from tests.pipelines.damage import copy_with_damage
from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Batch, Loader
from xkd.pipelines.loading.executor import Executor
from xkd.pipelines.loading.lanes import LONGEST_REASON, cause
from xkd.pipelines.samples.order import epoch_order
from xkd.pipelines.samples.quarantine import TooManyDamaged
from xkd.pipelines.shards.index import ShardSet

pytestmark = pytest.mark.filterwarnings("ignore:.*it is (left out|replaced)")

SAMPLES = 12
TENSORS = ("video_global", "video_local", "audio_global", "audio_local", "labels", "sample_ids", "substituted", "valid")
LAYOUTS = (
    (1, {"pipelines": 3, "prefetch": 5}),
    (3, {"prefetch": 1}),
    (3, {"pipelines": 2, "num_threads": 2}),
    (5, {"prefetch": 4}),
    (12, {}),
)


def small(**changes) -> DataConfig:
    fields = {
        "train": "unused",
        "clip_seconds": 1.0,
        "max_bad_share": 1.0,
        "video": {"fps": 8, "global_view": {"size": 32}, "local_view": {"frames": 3, "size": 24}},
        "audio": {"hop": 400, "local_view": {"seconds": 0.5}},
    }
    return DataConfig(**(fields | changes))


def chain_of(shards) -> list[int]:
    """The samples of epoch 0 in the order in which they come, and stand in for each other where there is one stream."""
    return epoch_order(shards.shard_numbers(), 0, 0, canonical_nodes=1).tolist()


ONE_STREAM = {"canonical_nodes": 1}


@pytest.fixture(scope="module")
def bad_ids(shards):
    """The first sample of epoch 0, the two that would stand in for it, and the last."""
    order = chain_of(shards)
    return [*order[:3], order[-1]]


def with_undecodable(shards, folder, ids) -> ShardSet:
    """The samples of a set, some of which no decoder reads, though their checksums are right."""
    samples = [stored(shards, index) for index in range(len(shards))]
    kinds = list(UNDECODABLE.values())
    for place, index in enumerate(ids):
        samples[index] = kinds[place % len(kinds)].make(samples[index])
    return write_set(folder / "set", samples, shards)


@pytest.fixture(scope="module")
def undecodable(shards, bad_ids, tmp_path_factory):
    return with_undecodable(shards, tmp_path_factory.mktemp("undecodable"), bad_ids)


@pytest.fixture(scope="module")
def damaged(shards, bad_ids, tmp_path_factory):
    """The same set, but damage to the same samples that the checksums tell of."""
    return copy_with_damage(shards, tmp_path_factory.mktemp("damaged") / "copy", *bad_ids)


def loaded(shards, preset="pretrain", *, batch_size=3, **changes) -> tuple[list[Batch], Loader]:
    with Loader(shards, small(**ONE_STREAM, **changes), preset=preset, batch_size=batch_size) as loader:
        return list(loader.epoch(0)), loader


def assert_same(found: list[Batch], expected: list[Batch], counted_only=False) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.valid.tolist() == other.valid.tolist()
        one, other = (batch.counted() if counted_only else batch for batch in (one, other))
        assert one.keys == other.keys
        for name in TENSORS:
            assert getattr(other, name) is None or torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize(("batch_size", "layout"), LAYOUTS)
def test_what_cannot_be_decoded_is_replaced_like_what_is_damaged(undecodable, damaged, bad_ids, batch_size, layout):
    """In the first step, where the next two are bad as well, and in the last one, whose stand-in is found behind the end."""
    expected, known = loaded(damaged, batch_size=batch_size)
    found, loader = loaded(undecodable, batch_size=batch_size, **layout)
    assert_same(found, expected)
    delivered = set(torch.cat([batch.sample_ids for batch in found]).tolist())
    assert not delivered & set(bad_ids)
    assert loader.substituted == known.substituted == sum(int(batch.substituted.sum()) for batch in found) > 2
    assert [damage.sample_id for damage in loader.quarantine] == [damage.sample_id for damage in known.quarantine]
    assert all(damage.reason.count("cannot be decoded: ") == 1 for damage in loader.quarantine)
    assert all(batch.valid.all() for batch in found)


@pytest.mark.parametrize(("batch_size", "layout"), LAYOUTS)
def test_evaluation_leaves_it_out_like_what_is_damaged(undecodable, damaged, batch_size, layout):
    expected, known = loaded(damaged, "eval", batch_size=batch_size)
    found, loader = loaded(undecodable, "eval", batch_size=batch_size, **layout)
    assert_same(found, expected, counted_only=True)
    assert [key for key, _ in loader.dropped] == [key for key, _ in known.dropped]
    assert all("cannot be decoded" in reason for _, reason in loader.dropped)
    assert all(len(batch.keys) == batch_size for batch in found)


@pytest.mark.parametrize("healthy", [0, 5, 11])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_one_decodable_sample_is_evaluated_and_fills_the_rest(shards, tmp_path, healthy, batch_size):
    one = with_undecodable(shards, tmp_path, [index for index in range(SAMPLES) if index != healthy])
    batches, loader = loaded(one, "eval", batch_size=batch_size, pipelines=2)
    assert [int(sample) for batch in batches for sample in batch.counted().sample_ids] == [healthy]
    assert len(loader.dropped) == SAMPLES - 1
    assert {int(sample) for batch in batches for sample in batch.sample_ids} == {healthy}


@pytest.mark.parametrize("preset", ["pretrain", "eval"])
def test_nothing_decodable_is_an_error_that_names_some(shards, tmp_path, preset):
    with pytest.raises(TooManyDamaged, match=r"(12 samples in a row are damaged|no sample is healthy).*cannot be decoded: "):
        loaded(with_undecodable(shards, tmp_path, range(SAMPLES)), preset)


def test_more_than_allowed_stops_the_epoch(undecodable):
    with pytest.raises(TooManyDamaged, match=r"clips of epoch 0 were replaced; data.max_bad_share 0.2 allows 2 of 12"):
        loaded(undecodable, max_bad_share=0.2)


def test_all_splits_over_ranks_deliver_the_same(undecodable):
    whole, _ = loaded(undecodable, batch_size=4)
    ranks = []
    for rank in range(2):
        with Loader(undecodable, small(**ONE_STREAM), preset="pretrain", batch_size=2, rank=rank, world_size=2) as loader:
            ranks.append(list(loader.epoch(0)))
    for first, second, expected in zip(*ranks, whole, strict=True):
        for name in TENSORS:
            assert torch.equal(torch.cat([getattr(first, name), getattr(second, name)]), getattr(expected, name)), name


@pytest.mark.parametrize("taken", range(9))
def test_a_state_goes_on_at_any_step(undecodable, taken):
    """Over two epochs of 4 steps, the second of which does not read what the first has found."""

    def loader():
        config = small(**ONE_STREAM, pipelines=2, prefetch=3)
        return Loader(undecodable, config, preset="pretrain", batch_size=3)

    def batches(one):
        return chain.from_iterable(iter(one) for _ in range(2))

    with loader() as one:
        whole = list(batches(one))
    with loader() as one:
        list(islice(batches(one), taken))
        state = json.loads(json.dumps(one.state_dict()))
    with loader() as one:
        one.load_state_dict(state)
        assert_same(list(islice(batches(one), 8 - taken)), whole[taken:])


def test_an_epoch_abandoned_while_a_bad_one_is_under_way_hinders_no_other(shards, tmp_path):
    bad = chain_of(shards)[4]
    one = with_undecodable(shards, tmp_path, [bad])
    with Loader(one, small(**ONE_STREAM, prefetch=3), preset="pretrain", batch_size=3) as loader:
        next(loader.epoch(0))
        assert len(loader.quarantine) == 0
        found = list(loader.epoch(0))
        assert [damage.sample_id for damage in loader.quarantine] == [bad]
    assert_same(found, loaded(one)[0])


def test_a_video_of_which_some_frames_decode_has_the_same_fate_in_all_splits(shards, tmp_path):
    """It may be asked for with other frames where it stands in for a neighbour."""
    order = chain_of(shards)
    samples = [stored(shards, index) for index in range(SAMPLES)]
    half, bad = order[1::2], order[::2]
    for index in half:
        video = np.frombuffer(samples[index].video, np.uint8)
        noisy = np.frombuffer(changed_packets(samples[index].video, noise(0)), np.uint8)
        late = np.arange(len(video)) > len(video) // 2
        samples[index] = replace(samples[index], video=np.where(late, noisy, video).tobytes())
    for index in bad[:3]:
        samples[index] = UNDECODABLE["random packets"].make(samples[index])
    mixed = write_set(tmp_path / "set", samples, shards)
    whole, _ = loaded(mixed, batch_size=12)
    marks = whole[0].substituted.tolist()
    assert 3 < sum(marks) < 12
    for batch_size in (1, 4):
        found, _ = loaded(mixed, batch_size=batch_size, pipelines=2)
        for name in TENSORS:
            assert torch.equal(torch.cat([getattr(batch, name) for batch in found]), getattr(whole[0], name)), name


def test_a_failure_that_no_sample_alone_brings_about_is_told_as_it_is(shards, monkeypatch):
    """As where a GPU has no memory left for a batch."""
    take = Executor.take

    def failing(executor):
        tensors = take(executor)
        if len(tensors["audio_global"]) > 1:
            raise RuntimeError("out of memory")
        return tensors

    monkeypatch.setattr(Executor, "take", failing)
    with Loader(shards, small(), preset="pretrain", batch_size=3) as loader:
        with pytest.raises(RuntimeError, match=r"together, but on none alone. Where it lacks memory, set .*data.prefetch"):
            next(loader.epoch(0))
        assert len(loader.quarantine) == 0
        monkeypatch.undo()
        assert len(list(loader.epoch(0))) == 4


def test_after_an_interrupt_another_epoch_is_whole(shards, monkeypatch):
    def interrupted(array):
        raise KeyboardInterrupt

    expected, _ = loaded(shards)
    with Loader(shards, small(**ONE_STREAM, pipelines=2, prefetch=3), preset="pretrain", batch_size=3) as loader:
        batches = loader.epoch(0)
        next(batches)
        monkeypatch.setattr(torch, "from_dlpack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        monkeypatch.undo()
        assert_same(list(loader.epoch(0)), expected)


def test_the_cause_is_what_a_message_says_without_where_in_the_source():
    message = """Critical error in pipeline:
Error in CPU operator `nvidia.dali.fn.decoders.video`,
which was used in the pipeline definition with the following traceback:

encountered:

Assert on "ret >= 0" failed: Failed to send packet to decoder: Invalid data
C++ context: [/opt/dali/frames_decoder_cpu.cc:164]
"""
    assert cause(message) == "Failed to send packet to decoder: Invalid data"
    assert cause("something else\nover two lines") == "something else"
    assert cause("x" * 1000) == "x" * LONGEST_REASON
