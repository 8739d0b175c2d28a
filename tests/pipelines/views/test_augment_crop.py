import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xkd.pipelines.views.augment_crop import CROP_UNIFORMS, crop_parameters, placed_crop, random_resized_crop

ASPECTS = st.floats(0.3, 3)
UNIFORMS = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).random(CROP_UNIFORMS))


@given(uniform=UNIFORMS, aspect=ASPECTS)
def test_a_random_crop_lies_in_the_frame_and_has_an_allowed_area_and_ratio(uniform, aspect):
    scale, ratio = (0.1, 0.3), (3 / 4, 4 / 3)
    y0, x0, y1, x1 = random_resized_crop(uniform, scale, ratio, aspect)
    height, width = y1 - y0, x1 - x0
    assert min(y0, x0) >= 0
    assert max(y1, x1) <= 1 + 1e-9
    assert scale[0] - 1e-9 <= height * width <= scale[1] + 1e-9
    assert ratio[0] - 1e-9 <= aspect * width / height <= ratio[1] + 1e-9


@given(uniform=UNIFORMS)
def test_a_crop_that_never_fits_is_the_largest_centred_one(uniform):
    y0, x0, y1, x1 = random_resized_crop(uniform, (1.0, 1.0), (1.0, 1.0), 2.0)
    assert (y0, x0, y1, x1) == pytest.approx((0, 0.25, 1, 0.75))


@given(ratio=st.floats(0.3, 3), aspect=ASPECTS)
def test_a_centred_crop_touches_the_frame_and_has_its_ratio(ratio, aspect):
    y0, x0, y1, x1 = placed_crop(ratio, aspect)
    assert aspect * (x1 - x0) / (y1 - y0) == pytest.approx(ratio)
    assert (y0 + y1, x0 + x1) == pytest.approx((1, 1))
    assert max(y1 - y0, x1 - x0) == pytest.approx(1)


def test_crops_are_placed_along_the_longer_side():
    assert [placed_crop(1.0, 2.0, place) for place in (0, 0.5, 1)] == [(0, 0, 1, 0.5), (0, 0.25, 1, 0.75), (0, 0.5, 1, 1)]
    assert [placed_crop(1.0, 0.5, place) for place in (0, 0.5, 1)] == [(0, 0, 0.5, 1), (0.25, 0, 0.75, 1), (0.5, 0, 1, 1)]


def test_a_flip_swaps_left_and_right():
    parameters = crop_parameters((0.1, 0.2, 0.5, 0.75), flip=True)
    assert np.allclose(parameters["roi_start"], (0.1, 0.75))
    assert np.allclose(parameters["roi_end"], (0.5, 0.2))
