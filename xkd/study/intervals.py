"""Means over seeds with their intervals, and what chance in the test clips adds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """A mean over seeds.

    `half_width` is that of the t interval of LEVEL over seeds, None for a single seed; `clip_error` the standard error that the
    choice of test clips, which all seeds share, leaves in the mean.
    """

    mean: float
    half_width: float | None
    clip_error: float
    seeds: int


def spread(values_SN: Sequence[np.ndarray]) -> Spread:
    """Of one value a test clip [N] for each seed: correct or not, or the difference of two rows in it."""
    values = np.asarray(values_SN, dtype=np.float64)
    by_seed, by_clip = values.mean(1), values.mean(0)
    seeds, clips = values.shape
    half = None
    if seeds > 1:
        half = float(stats.t.ppf(0.5 + LEVEL / 2, seeds - 1) * by_seed.std(ddof=1) / np.sqrt(seeds))
    return Spread(float(by_seed.mean()), half, float(by_clip.std(ddof=1) / np.sqrt(clips)), seeds)
