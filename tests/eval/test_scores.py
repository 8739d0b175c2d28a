import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd.eval.scores import chance, difference, estimate

correctness = st.lists(st.booleans(), min_size=2, max_size=200).map(np.array)


@settings(max_examples=30, deadline=None)
@given(correctness)
def test_an_interval_encloses_its_mean_and_stays_within_zero_and_one(correct):
    score = estimate(correct, resamples=500)
    assert 0 <= score.low <= score.mean <= score.high <= 1
    assert score.mean == pytest.approx(correct.mean())


def test_the_interval_is_the_one_that_resampling_clip_by_clip_gives():
    values = np.random.default_rng(3).choice([0.0, 0.25, 1.0], size=400, p=[0.3, 0.3, 0.4])
    picks = np.random.default_rng(4).integers(len(values), size=(10_000, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    score = estimate(values)
    assert (score.low, score.high) == pytest.approx((low, high), abs=0.003)


def test_the_interval_covers_the_true_accuracy_about_95_times_in_100():
    draws = np.random.default_rng(0).random((400, 300)) < 0.7
    scores = [estimate(correct, resamples=1000) for correct in draws]
    assert 0.91 <= np.mean([score.low <= 0.7 <= score.high for score in scores]) <= 0.98


def test_the_same_seed_gives_the_same_interval():
    correct = np.arange(100) % 3 == 0
    assert estimate(correct, seed=1) == estimate(correct, seed=1)


def test_a_paired_difference_is_narrower_than_that_of_unrelated_clips():
    rng = np.random.default_rng(0)
    theirs = rng.random(600) < 0.6
    ours = theirs | (rng.random(600) < 0.1)
    paired, unpaired = difference(ours, theirs), difference(ours, rng.permutation(theirs))
    assert paired.low > 0
    assert paired.mean == pytest.approx(unpaired.mean)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 2


def test_a_difference_of_unequal_sets_of_clips_is_refused():
    with pytest.raises(AssertionError):
        difference(np.ones(3), np.ones(4))


def test_chance_is_exact_and_has_no_spread():
    score = estimate(chance(np.zeros(7), num_classes=4))
    assert (score.mean, score.low, score.high) == pytest.approx((0.25, 0.25, 0.25))
