import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xkd.pipelines.order import batch_ids, batch_positions, epoch_order, num_steps

SEEDS = st.integers(0, 2**32)
SIZES = st.integers(1, 500)


@given(num_samples=SIZES, seed=SEEDS, epoch=st.integers(0, 1000))
def test_an_epoch_is_a_permutation(num_samples, seed, epoch):
    assert np.array_equal(np.sort(epoch_order(num_samples, seed, epoch)), np.arange(num_samples))


def test_epochs_and_seeds_give_other_orders():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_an_order_does_not_follow_the_stored_one():
    order = epoch_order(10_000, 0, 0)
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05


@given(num_samples=SIZES, global_batch=st.sampled_from([1, 2, 8, 24]), seed=SEEDS)
def test_any_split_over_ranks_gives_the_same_global_batches(num_samples, global_batch, seed):
    order = epoch_order(num_samples, seed, 0)
    for world_size in (n for n in (1, 2, 3, 4, 8) if global_batch % n == 0):
        batch_size = global_batch // world_size
        for step in range(num_steps(num_samples, batch_size, world_size)):
            slices = [batch_ids(order, step, batch_size, rank, world_size) for rank in range(world_size)]
            assert all(len(ids) == batch_size for ids in slices)
            assert np.array_equal(np.concatenate(slices), order[step * global_batch : (step + 1) * global_batch])


@given(num_samples=SIZES, batch_size=st.integers(1, 20), world_size=st.integers(1, 8))
def test_only_the_partial_global_batch_is_dropped(num_samples, batch_size, world_size):
    dropped = num_samples - num_steps(num_samples, batch_size, world_size) * batch_size * world_size
    assert 0 <= dropped < batch_size * world_size


@given(num_samples=SIZES, batch_size=st.integers(1, 20))
def test_nothing_is_dropped_when_the_last_batch_is_kept(num_samples, batch_size):
    steps = num_steps(num_samples, batch_size, drop_last=False)
    seen = [position for step in range(steps) for position in batch_positions(num_samples, step, batch_size)]
    assert seen == list(range(num_samples))


@pytest.mark.parametrize("step", [0, 3, 7])
def test_a_step_is_found_without_the_steps_before_it(step):
    order = epoch_order(100, 5, 2)
    assert np.array_equal(batch_ids(order, step, 5, rank=1, world_size=2), order[step * 10 + 5 : step * 10 + 10])
