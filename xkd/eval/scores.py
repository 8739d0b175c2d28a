"""Accuracy over test clips, and differences of accuracies, with bootstrap intervals."""

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """The mean of one value a clip, and the ends of its bootstrap percentile interval."""

    mean: float
    low: float
    high: float


def estimate(values, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Mean of `values` [N], one a clip, with the 95 % percentile interval over resampled clips.

    A resample of N clips is N draws with replacement, so how often each distinct value occurs in it is multinomial. Drawing those
    counts is the same bootstrap, and cheap for values with few levels such as right or wrong.
    """
    levels, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    num_clips = counts.sum()
    draws = np.random.default_rng(seed).multinomial(num_clips, counts / num_clips, size=resamples)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(draws @ levels / num_clips, [tail, 100 - tail])
    return Estimate(float(counts @ levels / num_clips), float(low), float(high))


def difference(ours, theirs, *, seed: int = 0) -> Estimate:
    """Mean of `ours - theirs` over the same clips in the same order, resampled in pairs."""
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    assert ours.shape == theirs.shape, f"paired scores of {ours.shape} and {theirs.shape} clips"
    return estimate(ours - theirs, seed=seed)


def chance(labels, num_classes: int) -> np.ndarray:
    """Expected correctness of a uniform guess, one value a clip."""
    return np.full(len(labels), 1 / num_classes)
