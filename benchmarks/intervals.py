"""How much slower one thing is than another, with the interval in which 95 times of 100 the truth lies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from xkd.benchmarks.timings import Timing

MISSED = 0.05  # how often the truth may lie outside
NORMAL = 1.96  # standard deviations that hold 95 % of a normal distribution
FEWEST_PAIRS = 6  # with fewer no interval of pairs misses as seldom


@dataclass(frozen=True)
class Interval:
    """Time of B over time of A: above 1, B is slower."""

    ratio: float
    low: float
    high: float

    def verdict(self, threshold: float) -> str:
        """`slower` or `faster` where the ratio is beyond the threshold, and 1 is outside of the noise."""
        if self.ratio > threshold and self.low > 1:
            return "slower"
        return "faster" if self.ratio < 1 / threshold and self.high < 1 else ""


def of_pairs(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Of runs of A and B that took turns: Hodges and Lehmann's estimate and the interval of Wilcoxon's signed ranks.

    The logarithms of the pairs' ratios are averaged two by two; the estimate is the median of those averages. It needs no more than
    that noise favours neither of a pair, holds for few pairs, and a third of them may be disturbed. (A bootstrap of six pairs would
    give intervals half as wide as they must be.)
    """
    assert len(a) == len(b) >= FEWEST_PAIRS, (len(a), len(b))
    ratios = np.log(np.asarray(b) / np.asarray(a))
    averages = sorted((x + y) / 2 for x, y in combinations_with_replacement(ratios, 2))
    outside = _outside(len(ratios))
    return Interval(*(math.exp(value) for value in (np.median(averages), averages[outside], averages[-1 - outside])))


def of_runs(a: Sequence[Timing], b: Sequence[Timing], run_to_run: float | None = None) -> Interval:
    """Of runs at different times; `run_to_run` takes the place of their drift, 0 where they were at the same time."""
    log_ratio = np.log([of.seconds for of in b]).mean() - np.log([of.seconds for of in a]).mean()
    width = NORMAL * math.sqrt(_variance(a, run_to_run) + _variance(b, run_to_run))
    return Interval(*(math.exp(value) for value in (log_ratio, log_ratio - width, log_ratio + width)))


def _variance(runs: Sequence[Timing], run_to_run: float | None) -> float:
    """Of the mean of the runs' logarithms."""
    return sum(of.error**2 + (of.drift if run_to_run is None else run_to_run) ** 2 for of in runs) / len(runs) ** 2


def _outside(pairs: int) -> int:
    """How many averages may lie outside at either end: the largest w for which a sum of signed ranks is w or less seldom enough."""
    ways = np.zeros(pairs * (pairs + 1) // 2 + 1)  # to choose ranks that sum to each number
    ways[0] = 1
    for rank in range(1, pairs + 1):
        ways[rank:] = ways[rank:] + ways[:-rank]
    seldom = np.flatnonzero(2 * np.cumsum(ways) / 2**pairs <= MISSED)
    return int(seldom[-1])
