"""Which sample comes when: a pure function of (seed, epoch, step, rank, world size)."""

import numpy as np

from xkd.pipelines.counter_rng import Stream, words


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of `range(num_samples)`, int64 [N]."""
    return np.argsort(words(num_samples, seed, epoch, Stream.ORDER), kind="stable")


def batch_positions(num_samples: int, step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> range:
    """Places in the epoch's order that one rank takes at one step: the global batch is cut into contiguous rank slices."""
    start = (step * world_size + rank) * batch_size
    return range(min(start, num_samples), min(start + batch_size, num_samples))


def batch_ids(order: np.ndarray, step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> np.ndarray:
    """Sample ids of one rank at one step."""
    positions = batch_positions(len(order), step, batch_size, rank, world_size)
    return order[positions.start : positions.stop]


def num_steps(num_samples: int, batch_size: int, world_size: int = 1, drop_last: bool = True) -> int:
    """Steps an epoch, the same on every rank; `drop_last` leaves out the partial global batch at the end."""
    global_batch = batch_size * world_size
    return num_samples // global_batch if drop_last else -(-num_samples // global_batch)
