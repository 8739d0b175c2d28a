import math
from itertools import product

import numpy as np
import pytest

from xkd.benchmarks.intervals import FEWEST_PAIRS, MISSED, Interval, of_pairs, of_runs
from xkd.benchmarks.timings import Timing


def test_pairs_of_one_ratio_have_it_as_estimate_and_interval():
    found = of_pairs([1, 2, 3, 4, 5, 6], [1.2, 2.4, 3.6, 4.8, 6, 7.2])
    assert (found.ratio, found.low, found.high) == pytest.approx((1.2, 1.2, 1.2))


def test_six_pairs_have_the_least_and_the_largest_ratio_as_interval():
    ratios = [0.9, 1.0, 1.1, 1.2, 1.3, 1.5]
    found = of_pairs([1.0] * 6, ratios)
    assert (found.low, found.high) == pytest.approx((0.9, 1.5))


@pytest.mark.parametrize("pairs", [FEWEST_PAIRS, 8, 11])
def test_noise_that_favours_neither_is_taken_for_a_difference_as_seldom_as_stated(pairs):
    sizes = np.exp(np.arange(1, pairs + 1) / 7)  # all ways in which the signs of such ratios can fall
    missed = 0
    for signs in product((-1, 1), repeat=pairs):
        found = of_pairs(np.ones(pairs), sizes ** np.array(signs))
        missed += not found.low <= 1 <= found.high
    assert 0 < missed / 2**pairs <= MISSED


def test_a_disturbed_pair_moves_the_estimate_little():
    calm = of_pairs([1.0] * 8, [1.09, 1.1, 1.11, 1.1, 1.12, 1.08, 1.1, 1.1])
    disturbed = of_pairs([1.0] * 8, [1.09, 1.1, 1.11, 1.1, 1.12, 1.08, 1.1, 3.0])
    assert disturbed.ratio == pytest.approx(calm.ratio, rel=0.01)
    assert disturbed.low > 1


def test_runs_at_different_times_have_their_own_noise_and_that_from_run_to_run():
    exact, noisy = Timing(2.0, 0.0, 0.03), Timing(3.0, 0.04, 0.1)
    for run_to_run, variance in ((None, 0.03**2 + 0.1**2 + 0.04**2), (0.02, 2 * 0.02**2 + 0.04**2), (0.0, 0.04**2)):
        found, width = of_runs([exact], [noisy], run_to_run), 1.96 * math.sqrt(variance)
        assert (found.ratio, found.low, found.high) == pytest.approx((1.5, 1.5 / math.exp(width), 1.5 * math.exp(width)))


def test_more_runs_leave_less_noise():
    timing = Timing(1, 0.05, 0.03)
    one, four = of_runs([timing], [timing]), of_runs([timing] * 4, [timing] * 4)
    assert math.log(one.high) == pytest.approx(2 * math.log(four.high))


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(1.2, 1.1, 1.3), "slower"),
        (Interval(1.2, 0.99, 1.4), ""),  # within noise
        (Interval(1.04, 1.03, 1.05), ""),  # certain, but little
        (Interval(0.8, 0.7, 0.9), "faster"),
        (Interval(0.8, 0.6, 1.1), ""),
    ],
)
def test_slower_is_what_is_beyond_the_threshold_and_beyond_noise(interval, verdict):
    assert interval.verdict(1.05) == verdict
