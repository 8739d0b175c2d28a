"""Which sample comes when: a pure function of (seed, epoch, step, rank, world size).

An epoch's order is one sequence of samples. A step takes its next places, ranks cut what a step takes: no split changes either.
"""

import numpy as np

from xkd.pipelines.counter_rng import Stream, words


def epoch_order(
    shard_numbers: np.ndarray, seed: int, epoch: int, *, order: str = "block", block_shards: int = 4, canonical_nodes: int = 16
) -> np.ndarray:
    """The sequence of samples of an epoch: a permutation of `range(len(shard_numbers))`, int64 [N].

    `shard_numbers` says the shard of each sample, in stored order. `global` shuffles all samples and ignores the shards. `block`
    shuffles the shards, cuts their samples into `canonical_nodes` streams of equal length, shuffles each `block_shards` shards
    that follow each other in a stream, and deals the streams out in turn: place p holds entry p // canonical_nodes of stream
    p % canonical_nodes (compare mosaicml/streaming, Apache-2.0).
    """
    return ORDERS[order](shard_numbers, seed, epoch, block_shards, canonical_nodes)


def num_streams(order: str, canonical_nodes: int) -> int:
    """Streams that an order is dealt from: `canonical_nodes` for those who cut an epoch of it."""
    return {"block": canonical_nodes, "global": 1}[order]


def batch_positions(
    num_samples: int, step: int, batch_size: int, rank: int = 0, world_size: int = 1, canonical_nodes: int = 1
) -> np.ndarray:
    """Places in the epoch's sequence that one rank takes at one step, int64 [batch_size]; see `rank_positions`."""
    return rank_positions(num_samples, batch_size, rank, world_size, canonical_nodes, steps=range(step, step + 1))[0]


def rank_positions(
    num_samples: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    canonical_nodes: int = 1,
    *,
    steps: range | None = None,
) -> np.ndarray:
    """Places in the epoch's sequence that one rank takes, int64 [steps, batch_size]; by default at every step, the last included.

    A step takes the next batch_size * world_size places. Within it they are arranged by stream, and ranks cut this arrangement into
    contiguous slices, so that the ranks of a node read from few streams. Places from `num_samples` on lie past the end.
    """
    num_all = num_steps(num_samples, batch_size, world_size, drop_last=False)
    steps = range(num_all) if steps is None else steps
    assert 0 <= rank < world_size, f"rank {rank} of {world_size}"
    assert 0 <= steps.start <= steps.stop <= num_all, f"{steps} of {num_all} steps"
    global_batch = batch_size * world_size
    starts = np.arange(steps.start, steps.stop)[:, None] * global_batch
    streams = (starts + np.arange(global_batch)) % canonical_nodes
    return starts + np.argsort(streams, axis=1, kind="stable")[:, rank * batch_size : (rank + 1) * batch_size]


def num_steps(num_samples: int, batch_size: int, world_size: int = 1, drop_last: bool = True) -> int:
    """Steps an epoch, the same on every rank; `drop_last` leaves out the partial global batch at the end."""
    global_batch = batch_size * world_size
    return num_samples // global_batch if drop_last else -(-num_samples // global_batch)


def _global_order(shard_numbers: np.ndarray, seed: int, epoch: int, block_shards: int, canonical_nodes: int) -> np.ndarray:
    return np.argsort(words(len(shard_numbers), seed, epoch, Stream.ORDER), kind="stable")


def _block_order(shard_numbers: np.ndarray, seed: int, epoch: int, block_shards: int, canonical_nodes: int) -> np.ndarray:
    laid_out, shard_ranks = _laid_out(shard_numbers, seed, epoch)
    draws = words(len(laid_out), seed, epoch, Stream.ORDER)
    sequence = np.empty_like(laid_out)
    parts = (np.array_split(values, canonical_nodes) for values in (laid_out, shard_ranks, draws))
    for stream, (samples, ranks, keys) in enumerate(zip(*parts, strict=True)):
        starts = _block_starts(ranks, block_shards)
        shuffled = [
            start + np.argsort(block, kind="stable") for start, block in zip(starts, np.split(keys, starts[1:]), strict=True)
        ]
        sequence[stream::canonical_nodes] = samples[np.concatenate(shuffled)]
    return sequence


def _laid_out(shard_numbers: np.ndarray, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples shard after shard, in an order of the shards drawn for the epoch, and the rank of each one's shard in it."""
    assert (np.diff(shard_numbers) >= 0).all(), "samples are not in stored order"
    starts = np.flatnonzero(np.diff(shard_numbers, prepend=-1))
    counts = np.diff(starts, append=len(shard_numbers))
    shards = np.argsort(words(len(starts), seed, epoch, Stream.SHARD_ORDER), kind="stable")
    first_places = np.cumsum(counts[shards]) - counts[shards]
    samples = np.arange(len(shard_numbers)) + np.repeat(starts[shards] - first_places, counts[shards])
    return samples, np.repeat(np.arange(len(shards)), counts[shards])


def _block_starts(shard_ranks: np.ndarray, block_shards: int) -> np.ndarray:
    """Where the blocks of a stream begin, given the ranks of the shards that it runs through; an empty stream has an empty one."""
    blocks = (shard_ranks - shard_ranks[:1]) // block_shards
    return np.concatenate([[0], 1 + np.flatnonzero(np.diff(blocks))])


ORDERS = {"block": _block_order, "global": _global_order}
