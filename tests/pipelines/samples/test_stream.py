"""The examples of a stream are those of its order, however it is split, read ahead and resumed."""

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain, islice

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.pipelines.streams import Damaged, config, global_batches, row, rows, stream
from xkd.pipelines.samples.order import epoch_order
from xkd.pipelines.samples.source import Source
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.views.presets import PRESETS

pytestmark = pytest.mark.filterwarnings("ignore:.*it is (replaced|left out)")
WORLD_SIZES = (1, 2, 3, 4, 8)


@pytest.mark.parametrize("order", ["block", "global"])
def test_all_world_sizes_deliver_the_same_global_batches_damaged_samples_or_not(damaged, order):
    data = config(order=order)
    expected = global_batches(damaged, 1, config=data)
    assert len(expected) == 4
    assert any(one[-2] for batch in expected for one in batch)
    for world_size in WORLD_SIZES[1:]:
        assert global_batches(damaged, world_size, config=data) == expected


def next_healthy(order, place, streams, bad) -> int:
    """The id at the first healthy place of p, p + streams, p + 2 * streams, ..."""
    for step in range(len(order) // math.gcd(len(order), streams)):
        if (sample_id := order[(place + step * streams) % len(order)]) not in bad:
            return sample_id
    assume(False)


@settings(max_examples=15)
@given(
    world_size=st.sampled_from(WORLD_SIZES),
    per_rank=st.integers(1, 6),
    streams=st.integers(1, 9),
    bad=st.sets(st.integers(0, 99), max_size=60),
    epoch=st.integers(0, 3),
)
def test_any_split_delivers_the_next_healthy_of_the_stream(many_shards, world_size, per_rank, streams, bad, epoch):
    shards, global_batch = Damaged(ShardSet.open(many_shards), bad), world_size * per_rank
    order = epoch_order(shards.shard_numbers(), 0, epoch, block_shards=2, canonical_nodes=streams).tolist()
    found = global_batches(shards, world_size, global_batch, epoch, config=config(canonical_nodes=streams))
    assert len(found) == 100 // global_batch
    for step, batch in enumerate(found):
        places = sorted(range(step * global_batch, (step + 1) * global_batch), key=lambda place: (place % streams, place))
        assert [one[0] for one in batch] == [next_healthy(order, place, streams, bad) for place in places]
        assert [one[-2] for one in batch] == [order[place] in bad for place in places]
        assert all(one[-1] for one in batch)


@pytest.mark.parametrize("read_ahead", [0, 1, 7, 200])
def test_the_depth_of_reading_ahead_changes_nothing(damaged, read_ahead):
    assert global_batches(damaged, 2, config=config(read_ahead=read_ahead)) == global_batches(damaged, 2)


def test_an_example_is_that_of_its_sample_unchanged(damaged, healthy):
    preset = PRESETS["pretrain"]
    whole = Source(healthy, preset.narrow(config()), preset, 0)
    with stream(damaged) as delivered:
        order = delivered._sampler.order(0)
        places = delivered._sampler.places()
        for step in delivered.epoch(0):
            for asked, example in zip(order[places[step.number * 6 :][:6]], step.examples, strict=True):
                assert row(example) == row(whole(0, example.sample.id, drawn_for=int(asked)))


@pytest.fixture(scope="module")
def damaged_folder(damaged):
    return damaged.folder


@settings(max_examples=10)
@given(taken=st.integers(0, 36), world_size=st.sampled_from((1, 2, 4)), then=st.sampled_from((1, 2, 4)))
def test_a_state_goes_on_at_any_step_and_on_any_number_of_ranks(damaged_folder, taken, world_size, then):
    """Over three epochs of 12 steps of 8, so that what was found in one is passed over in the next."""
    shards = ShardSet.open(damaged_folder)
    whole = run(shards, 1, 36)
    first = run(shards, world_size, taken, states := [])
    second = run(shards, then, 36 - taken, state=states[0])
    assert first + second == whole


def run(shards, world_size, steps, states=None, state=None) -> list[list[tuple]]:
    """The global batches of so many steps of several ranks that exchange what they find; appends the state after them."""
    together = Together(world_size)
    streams = [
        stream(shards, batch_size=8 // world_size, rank=rank, world_size=world_size, exchange=together.exchange(rank))
        for rank in range(world_size)
    ]

    def work(rank):
        one, taken = streams[rank], []
        if state:
            one.load_state_dict(json.loads(json.dumps(state)))
        while len(taken) < steps:
            with closing(iter(one)) as rest:
                taken += [rows(step) for step in islice(rest, steps - len(taken))]
        after = one.state_dict()
        one.close()
        return taken, after

    with ThreadPoolExecutor(world_size) as threads:
        results = list(threads.map(work, range(world_size)))
    assert all(after == results[0][1] for _, after in results)
    if states is not None:
        states.append(results[0][1])
    return [list(chain(*parts)) for parts in zip(*(taken for taken, _ in results), strict=True)]


class Together:
    """An exchange between threads, each of them a rank."""

    def __init__(self, world_size):
        self._barrier, self._boxes = threading.Barrier(world_size, timeout=60), [None] * world_size

    def exchange(self, rank):
        def exchanged(own):
            self._boxes[rank] = own
            self._barrier.wait()
            boxes = list(self._boxes)
            self._barrier.wait()
            return boxes

        return exchanged


def test_a_state_counts_what_was_delivered_not_what_was_read(damaged):
    with stream(damaged, config=config(read_ahead=90), batch_size=1) as one:
        steps = one.epoch(0)
        delivered = [next(steps) for _ in range(10)]
        state = one.state_dict()
    assert (state["epoch"], state["step"]) == (0, 10)
    assert state["substituted"] == sum(int(step.substituted[0]) for step in delivered)
    assert len(state["quarantine"]) <= 10 + sum(len(step.damages) for step in delivered)
    assert {damage["sample_id"] for damage in state["quarantine"]} == {d.sample_id for step in delivered for d in step.damages}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"batch_size": 7}, "global_batch was 6 and is now 7"),
        ({"config": config(order="global")}, "order was block and is now global"),
        ({"config": config(block_shards=3)}, "block_shards was 2 and is now 3"),
        ({"config": config(canonical_nodes=2)}, "canonical_nodes was 4 and is now 2"),
    ],
)
def test_a_state_of_another_order_is_refused_with_both_values(healthy, changes, says):
    with stream(healthy) as before, stream(healthy, **changes) as now, pytest.raises(ValueError, match=says):
        now.load_state_dict(before.state_dict())


def test_a_state_of_other_shards_is_refused(healthy, tiny_shards):
    expected = r"num_samples was 100 and is now 12; shards_sha256 was .* go on with the same"
    with (
        stream(healthy) as before,
        stream(ShardSet.open(tiny_shards)) as now,
        pytest.raises(ValueError, match=expected),
    ):
        now.load_state_dict(before.state_dict())
