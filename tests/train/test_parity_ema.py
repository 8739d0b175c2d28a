"""The teachers after 100 steps on two ranks, against the formula of the moving average written out beside them."""

import pytest

from tests.train.parity import EMA_EXACT, EMA_FED_FROM_BF16, ema_errors

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("stage", "precision"), EMA_EXACT)
def test_averages_of_fp32_masters_are_the_fp32_formula_bit_for_bit(stage, precision):
    apart = ema_errors(stage, precision)
    assert apart.float32 == 0, apart
    assert apart.float64 < 5e-6 < 1e-3 < apart.moved, apart


@pytest.mark.parametrize(("stage", "precision"), EMA_FED_FROM_BF16)
def test_averages_fed_from_bf16_weights_stay_near_those_of_the_masters(stage, precision):
    """A value's error is at most bf16's rounding of it: half of 2**-7 for the norms' weights, which lie near 1."""
    apart = ema_errors(stage, precision)
    assert 0 < apart.rms <= 1e-4, apart
    assert apart.float64 <= 2**-8, apart
