import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xkd.pipelines.views.augment_erase import ERASE_UNIFORMS, draw_rectangle, erase, gaussian

UNIFORMS = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).random(ERASE_UNIFORMS))


@given(uniform=UNIFORMS, size=st.sampled_from([32, 112, 224]))
def test_a_rectangle_lies_in_the_view_and_covers_an_allowed_share(uniform, size):
    y, x, height, width = draw_rectangle(uniform, 1.0, (0.02, 0.33), size)
    rounding = (height + width + 1) / 2 / size**2
    assert 0 <= y <= size - height
    assert 0 <= x <= size - width
    assert 0.02 - rounding <= height * width / size**2 <= 0.33 + rounding
    assert 0.3 * 0.8 < height / width < 1 / 0.3 / 0.8


def test_views_are_erased_as_often_as_configured_and_at_every_place():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_rectangle(rng.random(ERASE_UNIFORMS), 0.25, (0.02, 0.33), 56) for _ in range(2000)])
    erased = drawn[drawn[:, 2] > 0]
    assert len(erased) / 2000 == pytest.approx(0.25, abs=0.03)
    assert erased[:, :2].min() == 0
    assert (erased[:, 0] + erased[:, 2]).max() == (erased[:, 1] + erased[:, 3]).max() == 56


def test_noise_is_standard_normal():
    noise = gaussian(np.random.default_rng(0).random(200_000))
    assert len(noise) == 100_000
    assert (noise.mean(), noise.std(), (noise**4).mean()) == pytest.approx((0, 1, 3), abs=0.05)
    assert np.isfinite(gaussian(np.zeros(2))).all()


def test_noise_replaces_the_rectangle_in_every_frame_and_nothing_else():
    views = torch.randn(2, 3, 4, 10, 12)
    expected = views.numpy().copy()
    noise = np.random.default_rng(0).normal(size=(3, 5, 6)).astype(np.float32)
    expected[0, :, :, 2:7, 3:9] = noise[:, None]
    erase(views, [np.array([2, 3]), np.array([0, 0])], [noise, np.zeros((3, 0, 0), np.float32)])
    assert np.array_equal(views.numpy(), expected)
