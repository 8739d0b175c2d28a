from itertools import combinations

import numpy as np
import pytest

from xkd.benchmarks.shuffle_quality import (
    NEIGHBOURS,
    between_epochs,
    class_span,
    classes_a_batch,
    inverse,
    shards_of_nodes,
    within_epoch,
)
from xkd.pipelines.samples.order import epoch_order


def permutation(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(size)


def chance_to_meet(batches: np.ndarray, pairs: list[tuple[int, int]]) -> float:
    return float(np.mean([batches[one] == batches[other] for one, other in pairs]))


def test_an_inverse_says_the_place_of_each_sample():
    order = permutation(50)
    assert np.array_equal(order[inverse(order)], np.arange(50))


@pytest.mark.parametrize("size", [60, 65])  # whole batches of 6, and a smaller last one
def test_chances_to_meet_are_those_counted_pair_by_pair(size):
    places, second, shards = permutation(size), permutation(size, 1), np.arange(size) // 10
    batches, every = places // 6, list(combinations(range(size), 2))
    expected = chance_to_meet(batches, every)
    neighbours = [(one, other) for one, other in every if other - one <= NEIGHBOURS]
    of_a_shard = [(one, other) for one, other in every if shards[one] == shards[other]]
    together = [(one, other) for one, other in every if batches[one] == batches[other]]
    found = within_epoch(places, shards, 6)
    assert found["neighbours_meet"] == pytest.approx(chance_to_meet(batches, neighbours) / expected)
    assert found["shard_meets"] == pytest.approx(chance_to_meet(batches, of_a_shard) / expected)
    again = chance_to_meet(second // 6, together) / expected
    assert between_epochs(places, second, 6)["meet_again"] == pytest.approx(again)


def test_a_random_permutation_is_the_yardstick():
    places, second, shards = permutation(100_000), permutation(100_000, 1), np.arange(100_000) // 1000
    found = within_epoch(places, shards, 500) | between_epochs(places, second, 500)
    for name in ("neighbours_meet", "shard_meets", "meet_again"):
        assert found[name] == pytest.approx(1, abs=0.05)
    for name in ("stored_correlation", "epoch_correlation"):
        assert abs(found[name]) < 0.02
    assert (found["displacement"], found["displacement_p10"]) == pytest.approx((1 / 3, 1 - np.sqrt(0.9)), abs=0.01)


def test_stored_order_is_the_worst():
    places, shards = np.arange(1000), np.arange(1000) // 100
    found = within_epoch(places, shards, 10) | between_epochs(places, places, 10)
    assert found["stored_correlation"] == found["epoch_correlation"] == pytest.approx(1)
    assert found["displacement"] == 0
    assert found["meet_again"] == pytest.approx(999 / 9)


def test_classes_are_counted_by_their_share_of_a_batch():
    labels = np.array([0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 1, 1, 3, 3])  # the last batch is not whole
    assert classes_a_batch(np.arange(14), labels, 4).tolist() == [1, 4, 2]


def test_a_class_spans_its_part_of_the_epoch():
    labels = np.arange(10_000) // 1000
    assert class_span(np.arange(10_000), labels) == pytest.approx(0.08, abs=1e-3)
    assert class_span(permutation(10_000), labels) == pytest.approx(0.8, abs=0.02)


def test_shards_are_counted_for_each_node():
    shards = np.arange(8000) // 1000
    assert shards_of_nodes(shards, 10, nodes=1, streams=1) == {"window": 1, "live": 1, "copies": 1}
    assert shards_of_nodes(shards, 10, nodes=2, streams=1) == {"window": 2, "live": 1, "copies": 2}
    dealt = np.stack([shards[:4000], shards[4000:]], axis=1).ravel()
    assert shards_of_nodes(dealt, 10, nodes=1, streams=2) == {"window": 2, "live": 2, "copies": 1}
    assert shards_of_nodes(dealt, 10, nodes=2, streams=2) == {"window": 1, "live": 1, "copies": 1}


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_nodes_touch_fewer_shards_in_block_order_than_in_global(nodes):
    shards = np.arange(100_000) // 500
    block = shards_of_nodes(shards[epoch_order(shards, 0, 0, block_shards=4, canonical_nodes=4)], 64, nodes, 4)
    mixed = shards_of_nodes(shards[epoch_order(shards, 0, 0, order="global")], 64, nodes, 1)
    assert block["live"] == 16 / nodes
    assert block["window"] < 5 * 4 / nodes * 2 < mixed["window"]
    assert block["copies"] < 1.05
    assert mixed["copies"] == nodes
