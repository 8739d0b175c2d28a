import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xkd.pipelines.config import DataConfig
from xkd.pipelines.draws import (
    CROP_TRIES,
    LOCAL_AUDIO_STEP,
    aligned_sample,
    canvas_steps,
    centred_crop,
    centred_start,
    centred_views,
    pick,
    random_resized_crop,
    random_start,
    random_views,
    resize_crop_boxes,
)

CONFIG = DataConfig(train="unused", video={"local_view": {"count": 2}}, audio={"local_view": {"count": 2}})
ASPECTS = st.floats(0.3, 3)
UNIFORMS = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).random(2 * CROP_TRIES + 2))


def drawn(name, config=CONFIG, samples=400):
    return np.array([random_views(config, 0, 0, sample, 16 / 9)[name] for sample in range(samples)])


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
    y0, x0, y1, x1 = centred_crop(ratio, aspect)
    assert aspect * (x1 - x0) / (y1 - y0) == pytest.approx(ratio)
    assert (y0 + y1, x0 + x1) == pytest.approx((1, 1))
    assert max(y1 - y0, x1 - x0) == pytest.approx(1)


@given(count=st.integers(1, 10**7))
def test_a_pick_never_leaves_its_range(count):
    assert pick(count, 0.0) == 0
    assert pick(count, 1 - 2.0**-53) == count - 1


def test_parameters_have_the_types_that_dali_takes():
    for name, value in random_views(CONFIG, 0, 0, 0, 1.0).items():
        assert value.dtype == (np.int32 if name.split(".")[1].startswith("first") else np.float32), name


def test_parameters_depend_on_the_sample_the_epoch_and_the_seed_alone():
    reference = random_views(CONFIG, 1, 2, 3, 1.0)
    again = random_views(CONFIG, 1, 2, 3, 1.0)
    assert all(np.array_equal(reference[name], again[name]) for name in reference)
    for other in [(0, 2, 3), (1, 0, 3), (1, 2, 0)]:
        changed = random_views(CONFIG, *other, 1.0)
        assert not np.array_equal(reference["video_global.roi_start"], changed["video_global.roi_start"])


def test_another_view_leaves_the_first_ones_as_they_were():
    fewer = DataConfig(train="unused", video={"local_view": {"count": 1}}, audio={"local_view": {"count": 1}})
    more, few = random_views(CONFIG, 0, 0, 0, 1.0), random_views(fewer, 0, 0, 0, 1.0)
    assert few.keys() < more.keys()
    assert all(np.array_equal(few[name], more[name]) for name in few)


def test_local_views_of_a_sample_differ():
    parameters = random_views(CONFIG, 0, 0, 0, 1.0)
    assert not np.array_equal(parameters["video_local0.roi_start"], parameters["video_local1.roi_start"])
    assert parameters["audio_local0.volume"] != parameters["audio_local1.volume"]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("video_global.brightness", 0.6, 1.4),
        ("video_global.contrast", 0.6, 1.4),
        ("video_global.saturation", 0.6, 1.4),
        ("video_global.hue", -72, 72),
        ("audio_global.volume", 0.9, 1.1),
        ("audio_local0.volume", 0.8, 1.2),
        ("audio_local0.first_sample", 0, 48000),
        ("video_local0.first_frame", 0, 24),
    ],
)
def test_parameters_fill_their_range(name, low, high):
    values = drawn(name)
    assert low <= values.min() < low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) < values.max() <= high + 1e-6


def test_views_are_flipped_greyed_and_blurred_as_often_as_configured():
    flipped = drawn("video_global.roi_start")[:, 1] > drawn("video_global.roi_end")[:, 1]
    sigma = drawn("video_local0.sigma")
    assert flipped.mean() == pytest.approx(0.5, abs=0.1)
    assert (drawn("video_local0.saturation") == 0).mean() == pytest.approx(0.2, abs=0.08)
    assert (sigma > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert sigma[sigma > 0].min() >= 0.1
    assert sigma.max() <= 2


def test_what_is_configured_away_is_not_drawn():
    still = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "blur": 0}
    config = DataConfig(
        train="unused", video={"global_view": still, "local_view": {"count": 0}}, audio={"local_view": {"count": 0}}
    )
    assert random_views(config, 0, 0, 0, 1.0).keys() == {"video_global.roi_start", "video_global.roi_end", "audio_global.volume"}


def test_local_sounds_start_at_whole_steps():
    assert (drawn("audio_local0.first_sample") % LOCAL_AUDIO_STEP == 0).all()


def test_aligned_local_sounds_start_with_the_local_pictures():
    config = CONFIG.model_copy(update={"aligned_locals": True})
    frames, samples = drawn("video_local1.first_frame", config), drawn("audio_local1.first_sample", config)
    assert np.array_equal(samples, frames * 2000)


def test_an_aligned_sound_that_would_run_past_the_clip_starts_earlier():
    longer = DataConfig(train="unused", aligned_locals=True, audio={"local_view": {"seconds": 2}})
    assert aligned_sample(longer, 24) == 2 * 16000


def test_resize_crops_lie_on_the_canvas():
    boxes = np.concatenate([resize_crop_boxes(CONFIG, 0, 0, sample) for sample in range(300)])
    _, bands, steps = CONFIG.local_audio_shape
    y, x, height, width = boxes.T
    assert boxes.dtype == np.int32
    assert min(y.min(), x.min()) >= 0
    assert (height.min(), width.min()) >= (0.6 * bands - 1, 0.6 * steps - 1)
    assert (y + height).max() <= bands
    assert (x + width).max() <= canvas_steps(steps)
    assert width.max() > steps


def test_evaluation_draws_nothing():
    first, second = centred_views(CONFIG, 0, 0, 0, 1.5), centred_views(CONFIG, 1, 2, 3, 1.5)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert centred_start(1001, 0, 0, 0) == 500


def test_clips_start_anywhere_in_the_spare_time():
    starts = [random_start(1000, 0, 0, sample) for sample in range(2000)]
    assert min(starts) < 20
    assert 980 < max(starts) <= 1000
    assert random_start(0, 0, 0, 0) == 0
