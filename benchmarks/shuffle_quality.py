"""Measures of an order: how well it mixes what lies together in storage, and how many shards its readers touch.

B is the samples of a global batch; an order is a permutation [N], `places` its inverse. Ratios compare with a uniformly random
permutation, for which each is 1 on average.
"""

from collections.abc import Iterator

import numpy as np

from xkd.pipelines.samples.order import num_steps, rank_positions

WINDOW = 1000  # samples of a node
NEIGHBOURS = 8  # two samples are neighbours when no more than this apart in storage


def inverse(order: np.ndarray) -> np.ndarray:
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def between_epochs(first: np.ndarray, second: np.ndarray, global_batch: int) -> dict[str, float]:
    """How the places [N] of samples in two epochs are related.

    `displacement` is the mean distance between a sample's two places as a share of the epoch, `displacement_p10` its tenth
    percentile: 0.333 and 0.051 if unrelated. `meet_again` is the chance that two samples of a batch meet in the next epoch's.
    """
    moved = np.abs(first - second) / len(first)
    batches = -(-len(first) // global_batch)
    together = _pairs(np.bincount((first // global_batch) * batches + second // global_batch))
    return {
        "epoch_correlation": float(np.corrcoef(first, second)[0, 1]),
        "displacement": float(moved.mean()),
        "displacement_p10": float(np.percentile(moved, 10)),
        "meet_again": together / (_pairs(np.bincount(first // global_batch)) * _chance(len(first), global_batch)),
    }


def within_epoch(places: np.ndarray, shard_numbers: np.ndarray, global_batch: int) -> dict[str, float]:
    """How the places [N] of samples follow from storage; `neighbours_meet` and `shard_meets` are chances to meet in a batch."""
    batches = places // global_batch
    met = sum(int((batches[apart:] == batches[:-apart]).sum()) for apart in range(1, NEIGHBOURS + 1))
    neighbours = sum(len(places) - apart for apart in range(1, NEIGHBOURS + 1))
    num_shards = int(shard_numbers[-1]) + 1
    chance = _chance(len(places), global_batch)
    return {
        "stored_correlation": float(np.corrcoef(places, np.arange(len(places)))[0, 1]),
        "neighbours_meet": met / (neighbours * chance),
        "shard_meets": _pairs(np.bincount(batches * num_shards + shard_numbers)) / (_pairs(np.bincount(shard_numbers)) * chance),
    }


def classes_a_batch(order: np.ndarray, labels: np.ndarray, global_batch: int) -> np.ndarray:
    """The effective number of classes (1 / the chance that two draws agree) of each whole global batch."""
    num_classes, steps = int(labels.max()) + 1, len(order) // global_batch
    batches = np.repeat(np.arange(steps), global_batch)
    counts = np.bincount(batches * num_classes + labels[order[: len(batches)]], minlength=steps * num_classes)
    return 1 / ((counts.reshape(steps, num_classes) / global_batch) ** 2).sum(axis=1)


def class_span(places: np.ndarray, labels: np.ndarray) -> float:
    """The share of an epoch in which the middle 80 % of a class's samples come, mean over classes; 0.8 if they come all through."""
    by_class = np.split(places[np.argsort(labels, kind="stable")], np.cumsum(np.bincount(labels))[:-1])
    return float(np.mean([np.diff(np.percentile(some, [10, 90]))[0] for some in by_class]) / len(places))


def shards_of_nodes(shards: np.ndarray, global_batch: int, nodes: int, streams: int) -> dict[str, float]:
    """What the nodes touch, given the shard at each place of an order.

    `window`: distinct shards in 1,000 samples of a node, mean; `live`: the most shards that a node has begun and not finished;
    `copies`: how many nodes read a shard in an epoch, mean.
    """
    found = [_of_node(shards[places]) for places in _nodes(len(shards), global_batch, nodes, streams)]
    windows, live, touched = zip(*found, strict=True)
    return {"window": float(np.mean(windows)), "live": max(live), "copies": sum(touched) / len(np.unique(shards))}


def _nodes(num_samples: int, global_batch: int, nodes: int, streams: int) -> Iterator[np.ndarray]:
    """The places that each node takes, in its order; its ranks' slices follow each other, so that it is as one large rank."""
    steps = range(num_steps(num_samples, global_batch))
    for node in range(nodes):
        yield rank_positions(num_samples, global_batch // nodes, node, nodes, streams, steps=steps).ravel()


def _of_node(shards: np.ndarray) -> tuple[float, int, int]:
    size = min(WINDOW, len(shards))
    windows = np.sort(shards[: len(shards) // size * size].reshape(-1, size), axis=1)
    distinct = 1 + (np.diff(windows, axis=1) > 0).sum(axis=1)
    touched, first = np.unique(shards, return_index=True)
    last = len(shards) - np.unique(shards[::-1], return_index=True)[1]
    change = np.bincount(first, minlength=len(shards) + 1) - np.bincount(last, minlength=len(shards) + 1)
    return float(distinct.mean()), int(np.cumsum(change).max()), len(touched)


def _pairs(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) // 2).sum())


def _chance(num_samples: int, global_batch: int) -> float:
    """Of two samples to fall into the same batch of a random permutation; the last batch may be smaller."""
    whole, rest = divmod(num_samples, global_batch)
    return (whole * global_batch * (global_batch - 1) + rest * (rest - 1)) / (num_samples * (num_samples - 1))
