import numpy as np
import pytest
import torch
from nvidia.dali import fn, pipeline_def, types

from xkd.pipelines.config import VideoConfig, VideoView
from xkd.pipelines.loading.buffers import Buffers
from xkd.pipelines.views.augment_colour import (
    COLOUR_UNIFORMS,
    LUMA,
    ORDERS,
    brightness,
    contrast,
    draw_colour,
    grey,
    hue,
    normalisation,
    recolour,
    saturation,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 2, 5, 7, 3)).astype(np.uint8)


def applied(matrix, pixels=PIXELS):
    return pixels @ matrix[:3, :3].T + matrix[:3, 3]


def color_twist(**factors) -> np.ndarray:
    """What DALI makes of the pixels."""

    @pipeline_def(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    def graph():
        pixels = fn.external_source(name="pixels", dtype=types.UINT8, ndim=4, layout="FHWC")
        return fn.color_twist(pixels, dtype=types.FLOAT, **factors)

    pipeline = graph()
    pipeline.feed_input("pixels", [PIXELS[0]])
    return np.array(pipeline.run()[0].at(0))


@pytest.mark.parametrize(
    ("step", "name", "value"),
    [(brightness, "brightness", 1.4), (contrast, "contrast", 0.6), (saturation, "saturation", 1.3), (hue, "hue", -70.0)],
)
def test_a_step_is_that_of_dali_s_color_twist(step, name, value):
    assert np.abs(applied(step(value))[0] - color_twist(**{name: value})).max() < 0.02


def test_the_steps_by_their_formulas():
    luma = PIXELS @ np.array(LUMA)
    assert np.allclose(applied(brightness(0.7)), 0.7 * PIXELS)
    assert np.allclose(applied(contrast(0.7)), 128 + 0.7 * (PIXELS - 128.0))
    assert np.allclose(applied(saturation(0.7)), luma[..., None] + 0.7 * (PIXELS - luma[..., None]), atol=0.6)  # YIQ is rounded
    assert np.allclose(applied(grey()), luma[..., None])
    assert np.allclose(applied(hue(360)), PIXELS)


def test_a_turned_hue_keeps_the_luma():
    assert np.allclose(applied(hue(50)) @ LUMA, PIXELS @ LUMA, atol=0.6)


def uniforms(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5, order=0.0, gray=0.99):
    return np.array([brightness, contrast, saturation, hue, order, gray])


@pytest.mark.parametrize("place", range(len(ORDERS)))
def test_steps_are_applied_in_the_drawn_order(place):
    uniform = uniforms(0.9, 0.1, 0.8, 0.3, order=(place + 0.5) / len(ORDERS))
    steps = (brightness(1.32), contrast(0.68), saturation(1.24), hue(-28.8))
    pixels = PIXELS.astype(float)
    for step in ORDERS[place]:
        pixels = applied(steps[step], pixels)
    assert len(uniform) == COLOUR_UNIFORMS
    assert np.allclose(applied(draw_colour(uniform, VideoView())), pixels)


def test_orders_are_equally_frequent_and_matter():
    maps = {draw_colour(uniforms(0.9, 0.1, order=place), VideoView()).tobytes() for place in np.linspace(0, 0.999, 240)}
    assert len(maps) > 1
    assert len(set(ORDERS)) == 24


def test_a_grey_view_is_the_luma_of_the_coloured_one():
    view = VideoView(gray=0.5)
    coloured, greyed = (applied(draw_colour(uniforms(0.9, 0.2, 0.3, 0.7, 0.6, gray=gray), view)) for gray in (0.51, 0.49))
    assert np.allclose(greyed, (coloured @ LUMA)[..., None])


def test_nothing_configured_changes_nothing():
    still = VideoView(brightness=0, contrast=0, saturation=0, hue=0)
    for order in (0.0, 0.3, 0.9):
        assert np.allclose(draw_colour(uniforms(0.1, 0.9, 0.2, 0.7, order, gray=0.0), still), np.eye(4))


def test_views_are_normalised_by_mean_and_std():
    video = VideoConfig(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    assert np.allclose(applied(normalisation(video)), (PIXELS / 255 - video.mean) / video.std)


def test_each_view_has_its_own_map_and_is_not_clamped():
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (3, 2, 5, 7, 3)).astype(np.uint8)
    maps = rng.normal(size=(3, 3, 4)).astype(np.float32) * (2, 2, 2, 300)
    found = recolour(torch.from_numpy(pixels), maps.astype(np.float32), Buffers())
    expected = np.einsum("rdc,rthwc->rdthw", maps[..., :3], pixels) + maps[..., 3][:, :, None, None, None]
    assert found.shape == (3, 3, 2, 5, 7)
    assert np.abs(found.numpy() - expected).max() < 1e-3
    assert found.max() > 255
    assert found.min() < 0
