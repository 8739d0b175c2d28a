import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xkd.pipelines.samples.order import ORDERS, batch_positions, epoch_order, num_steps, num_streams, rank_positions

BLOCK = [9, 8, 1, 6, 2, 3, 11, 5, 10, 4, 0, 7]
GLOBAL = [11, 3, 9, 1, 6, 2, 5, 4, 8, 0, 7, 10]
SEEDS = st.integers(0, 2**64 - 1)
WORLD_SIZES = (1, 2, 3, 4, 8)


def stored(*counts: int) -> np.ndarray:
    """Shard numbers of shards that hold so many samples."""
    return np.repeat(np.arange(len(counts)), counts)


# Shards of 0 to 40 eligible samples, at least one sample; more blocks and streams than shards and samples happen.
SETS = st.lists(st.integers(0, 40), min_size=1, max_size=20).filter(any).map(lambda counts: stored(*counts))
SETTINGS = st.fixed_dictionaries(
    {"order": st.sampled_from(sorted(ORDERS)), "block_shards": st.integers(1, 25), "canonical_nodes": st.integers(1, 50)}
)


def streams_of(settings) -> int:
    return num_streams(settings["order"], settings["canonical_nodes"])


@given(shard_numbers=SETS, seed=SEEDS, epoch=st.integers(0, 1000), settings=SETTINGS)
@example(stored(1), 0, 0, {"order": "block", "block_shards": 1, "canonical_nodes": 4})
@example(stored(3), 0, 0, {"order": "block", "block_shards": 8, "canonical_nodes": 50})
@example(stored(*[1] * 7), 0, 0, {"order": "block", "block_shards": 2, "canonical_nodes": 7})
def test_an_epoch_is_a_permutation(shard_numbers, seed, epoch, settings):
    order = epoch_order(shard_numbers, seed, epoch, **settings)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(len(shard_numbers)))


@pytest.mark.parametrize("order", ORDERS)
def test_epochs_and_seeds_give_other_orders(order):
    orders = {tuple(epoch_order(stored(*[5] * 10), seed, epoch, order=order)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


@given(counts=st.lists(st.integers(5, 40), min_size=4, max_size=20), seed=SEEDS, epoch=st.integers(0, 1000), settings=SETTINGS)
def test_two_epochs_differ(counts, seed, epoch, settings):
    settings |= {"canonical_nodes": min(settings["canonical_nodes"], 4)}
    first, second = (epoch_order(stored(*counts), seed, number, **settings) for number in (epoch, epoch + 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("order", ORDERS)
def test_no_order_follows_the_stored_one_or_that_of_another_epoch(order):
    first, second = (np.argsort(epoch_order(stored(*[100] * 1000), 0, epoch, order=order)) for epoch in range(2))
    assert abs(np.corrcoef(first, np.arange(100_000))[0, 1]) < 0.1
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_orders_are_those_of_every_version():
    # A run that goes on under another version must meet the same samples: these were written down when the order was made.
    assert epoch_order(stored(3, 2, 4, 3), 7, 1, block_shards=2, canonical_nodes=2).tolist() == BLOCK
    assert epoch_order(stored(3, 2, 4, 3), 7, 1, order="global").tolist() == GLOBAL


@given(shard_numbers=SETS, seed=SEEDS, settings=SETTINGS, global_batch=st.sampled_from([1, 2, 3, 8, 24, 48]))
def test_any_split_over_ranks_gives_the_same_global_batches_in_the_same_arrangement(shard_numbers, seed, settings, global_batch):
    """The ranks' slices, put together, are the batch of a single rank, whatever the world size; so no two ranks share a sample."""
    order, streams = epoch_order(shard_numbers, seed, 0, **settings), streams_of(settings)
    alone = order[rank_positions(len(order), global_batch, canonical_nodes=streams)[: num_steps(len(order), global_batch)]]
    for world_size in (n for n in WORLD_SIZES if global_batch % n == 0):
        batch_size = global_batch // world_size
        steps = num_steps(len(order), batch_size, world_size)
        ranks = [rank_positions(len(order), batch_size, rank, world_size, streams)[:steps] for rank in range(world_size)]
        assert all(positions.shape == (steps, batch_size) for positions in ranks)
        assert np.array_equal(order[np.concatenate(ranks, axis=1)], alone)
        assert len(np.unique(np.concatenate(ranks))) == steps * global_batch


@given(
    shard_numbers=SETS,
    seed=SEEDS,
    settings=SETTINGS,
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 9),
)
def test_any_global_batch_consumes_the_same_sequence(shard_numbers, seed, settings, batch_size, world_size):
    order, global_batch = epoch_order(shard_numbers, seed, 0, **settings), batch_size * world_size
    splits = [(batch_size, rank, world_size, streams_of(settings)) for rank in range(world_size)]
    for step in range(num_steps(len(order), batch_size, world_size)):
        taken = [order[batch_positions(len(order), step, *split)] for split in splits]
        asked = order[step * global_batch : (step + 1) * global_batch]
        assert np.array_equal(np.sort(np.concatenate(taken)), np.sort(asked))


@given(
    num_samples=st.integers(1, 500),
    batch_size=st.integers(1, 20),
    world_size=st.sampled_from(WORLD_SIZES),
    streams=st.integers(1, 9),
    data=st.data(),
)
def test_an_epoch_goes_on_at_any_step(num_samples, batch_size, world_size, streams, data):
    steps = num_steps(num_samples, batch_size, world_size, drop_last=False)
    rank, start = data.draw(st.integers(0, world_size - 1)), data.draw(st.integers(0, steps))
    split = (batch_size, rank, world_size, streams)
    whole = rank_positions(num_samples, *split)
    assert np.array_equal(rank_positions(num_samples, *split, steps=range(start, steps)), whole[start:])
    for step in range(start, steps):
        assert np.array_equal(batch_positions(num_samples, step, *split), whole[step])


@given(num_samples=st.integers(1, 500), batch_size=st.integers(1, 20), world_size=st.integers(1, 8), streams=st.integers(1, 9))
def test_only_the_partial_global_batch_is_dropped_or_filled(num_samples, batch_size, world_size, streams):
    global_batch = batch_size * world_size
    ranks = [rank_positions(num_samples, batch_size, rank, world_size, streams) for rank in range(world_size)]
    taken = np.sort(np.concatenate(ranks).ravel())
    assert np.array_equal(taken, np.arange(len(taken)))
    assert 0 <= len(taken) - num_samples < global_batch
    assert 0 <= num_samples - num_steps(num_samples, batch_size, world_size) * global_batch < global_batch
    assert len(ranks[0]) == num_steps(num_samples, batch_size, world_size, drop_last=False)


@given(shard_numbers=SETS, seed=SEEDS, block_shards=st.integers(1, 25), canonical_nodes=st.integers(1, 50))
def test_streams_are_equally_long_and_run_through_one_block_of_shards_after_the_other(
    shard_numbers, seed, block_shards, canonical_nodes
):
    order = epoch_order(shard_numbers, seed, 0, block_shards=block_shards, canonical_nodes=canonical_nodes)
    streams = [shard_numbers[order[stream::canonical_nodes]] for stream in range(canonical_nodes)]
    assert max(map(len, streams)) - min(map(len, streams)) <= 1
    assert sum(len(np.unique(stream)) for stream in streams) <= len(np.unique(shard_numbers)) + canonical_nodes - 1
    for shards in streams:
        first = {shard: np.flatnonzero(shards == shard)[0] for shard in shards}
        last = {shard: np.flatnonzero(shards == shard)[-1] for shard in shards}
        live = [sum(first[shard] <= place <= last[shard] for shard in first) for place in range(len(shards))]
        assert max(live, default=0) <= block_shards


@pytest.mark.parametrize("nodes", [1, 2, 4, 8])
@pytest.mark.parametrize("batch_size", [3, 8, 32])
def test_a_node_touches_few_live_shards(nodes, batch_size):
    """Four streams of blocks of 4 shards: a node reads those of its share of the streams, and none more than it must."""
    shard_numbers, ranks_a_node = stored(*[100] * 100), 2
    order = epoch_order(shard_numbers, 0, 0, block_shards=4, canonical_nodes=4)
    ranks = [rank_positions(len(order), batch_size, rank, nodes * ranks_a_node, 4) for rank in range(ranks_a_node)]
    steps = num_steps(len(order), batch_size, nodes * ranks_a_node)
    shards = shard_numbers[order[np.concatenate(ranks, axis=1)[:steps]]].ravel()
    windows = [len(np.unique(shards[start : start + 200])) for start in range(0, len(shards) - 200, 200)]
    streams = max(1, 4 // nodes) + (batch_size * ranks_a_node * nodes % 4 > 0)  # a share that is no whole number of streams
    assert max(windows) <= streams * 4 * 2  # a window lies in two blocks of a stream at most
    in_global = shard_numbers[epoch_order(shard_numbers, 0, 0, order="global")]
    assert min(len(np.unique(in_global[start : start + 200])) for start in range(0, 9800, 200)) > max(windows)


def test_shards_that_are_not_in_stored_order_are_an_error():
    with pytest.raises(AssertionError, match="stored order"):
        epoch_order(np.array([0, 1, 0]), 0, 0)


@pytest.mark.parametrize("wrong", [{"step": 5}, {"step": -1}, {"step": 0, "rank": 2, "world_size": 2}])
def test_no_rank_and_no_step_outside_the_run_is_served(wrong):
    with pytest.raises(AssertionError):
        batch_positions(40, batch_size=8, **wrong)
