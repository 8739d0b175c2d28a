import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xkd.pipelines.views.draws import (
    LOCAL_AUDIO_STEP,
    ViewParameters,
    aligned_sample,
    even_starts,
    fixed_views,
    pick,
    random_starts,
    random_views,
)
from xkd.pipelines.views.example import ExampleConfig

CONFIG = ExampleConfig(train="unused", video={"local_view": {"count": 2}}, audio={"local_view": {"count": 2}})
EVERYTHING = {
    "video": {"global_view": {"blur": 0.5, "erase": 0.5, "rand_augment": {"ops": 2}}, "local_view": {"erase": 0.9, "count": 2}},
    "audio": {"global_view": {"resize_crop": True, "time_warp": 20, "freq_masks": 2, "time_masks": 1}},
}


def all_of(views: ViewParameters) -> dict:
    assert not views.graph.keys() & views.after.keys()
    return views.graph | views.after


def all_drawn(config, *purpose) -> dict:
    return all_of(random_views(config, *purpose))


def drawn(name, config=CONFIG, samples=400):
    return np.array([all_drawn(config, 0, 0, sample, 16 / 9)[name] for sample in range(samples)])


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


@given(count=st.integers(1, 10**7))
def test_a_pick_never_leaves_its_range(count):
    assert pick(count, 0.0) == 0
    assert pick(count, 1 - 2.0**-53) == count - 1


INTEGERS = ("first_frame", "first_sample", "operation", "magnitude", "negative", "erase_place", "warp", "box", "masks")


def test_parameters_have_the_types_that_dali_takes():
    for name, value in all_drawn(ExampleConfig(train="unused", **EVERYTHING), 0, 0, 0, 1.0).items():
        assert value.dtype == (np.int32 if name.endswith(INTEGERS) else np.float32), name


def test_parameters_depend_on_the_sample_the_epoch_and_the_seed_alone():
    config = ExampleConfig(train="unused", **EVERYTHING)
    reference = all_drawn(config, 1, 2, 3, 1.0)
    assert_same(reference, all_drawn(config, 1, 2, 3, 1.0))
    for other in [(0, 2, 3), (1, 0, 3), (1, 2, 0)]:
        changed = all_drawn(config, *other, 1.0)
        for name in ("video_global0.roi_start", "video_global0.colour", "audio_global0.box", "audio_local0.volume"):
            assert not np.array_equal(reference[name], changed[name])


def test_another_view_leaves_the_first_ones_as_they_were():
    fewer = ExampleConfig(train="unused", video={"local_view": {"count": 1}}, audio={"local_view": {"count": 1}})
    more, few = all_drawn(CONFIG, 0, 0, 0, 1.0), all_drawn(fewer, 0, 0, 0, 1.0)
    assert few.keys() < more.keys()
    assert_same(few, {name: more[name] for name in few})


def test_another_augmentation_leaves_the_others_as_they_were():
    plain, rich = (all_drawn(ExampleConfig(train="unused", **fields), 0, 0, 0, 1.0) for fields in ({}, EVERYTHING))
    assert plain.keys() < rich.keys()
    assert_same(plain, {name: rich[name] for name in plain})


def test_local_views_of_a_sample_differ():
    parameters = all_drawn(CONFIG, 0, 0, 0, 1.0)
    for name in ("roi_start", "colour"):
        assert not np.array_equal(parameters[f"video_local0.{name}"], parameters[f"video_local1.{name}"])
    assert parameters["audio_local0.volume"] != parameters["audio_local1.volume"]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("audio_global0.volume", 0.9, 1.1),
        ("audio_local0.volume", 0.8, 1.2),
        ("audio_local0.first_sample", 0, 48000),
        ("video_local0.first_frame", 0, 24),
    ],
)
def test_parameters_fill_their_range(name, low, high):
    values = drawn(name)
    assert low <= values.min() < low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) < values.max() <= high + 1e-6


@pytest.mark.parametrize(("step", "low", "high"), [("brightness", 0.6, 1.4), ("contrast", 0.6, 1.4)])
def test_jitter_fills_its_range(step, low, high):
    still = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    config = ExampleConfig(train="unused", video={"mean": [0] * 3, "std": [1] * 3, "global_view": still | {step: 0.4}})
    factors = 255 * drawn("video_global0.colour", config)[:, 0, 0]
    assert low <= factors.min() < low + 0.04
    assert high - 0.04 < factors.max() <= high + 1e-6


def test_views_are_flipped_greyed_and_blurred_as_often_as_configured():
    flipped = drawn("video_global0.roi_start")[:, 1] > drawn("video_global0.roi_end")[:, 1]
    sigma = drawn("video_local0.sigma")
    colour = drawn("video_local0.colour")[:, :, :3] * np.reshape(CONFIG.video.std, (3, 1))
    assert flipped.mean() == pytest.approx(0.5, abs=0.1)
    assert (np.ptp(colour, axis=1).max(1) < 1e-6).mean() == pytest.approx(0.2, abs=0.08)
    assert (sigma > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert sigma[sigma > 0].min() >= 0.1
    assert sigma.max() <= 2


def test_the_noise_of_an_erased_rectangle_has_its_size_and_each_view_its_own():
    config = ExampleConfig(train="unused", **EVERYTHING)
    noises = [all_drawn(config, 0, 0, sample, 1.0) for sample in range(20)]
    for parameters in noises:
        for name, size in (("video_global0", 112), ("video_local0", 96)):
            channels, height, width = parameters[f"{name}.erase_noise"].shape
            assert channels == 3
            assert (parameters[f"{name}.erase_place"] + (height, width) <= size).all()
    sizes = {parameters["video_global0.erase_noise"].size for parameters in noises}
    assert 0 in sizes
    assert len(sizes) > 5
    firsts = [value.flat[0] for parameters in noises for name, value in parameters.items() if "noise" in name and value.size]
    assert len(set(firsts)) == len(firsts)


def test_what_is_configured_away_is_not_drawn():
    config = ExampleConfig(train="unused", video={"local_view": {"count": 0}}, audio={"local_view": {"count": 0}})
    views = random_views(config, 0, 0, 0, 1.0)
    assert views.graph.keys() == {"video_global0.roi_start", "video_global0.roi_end", "audio_global0.volume"}
    assert views.after.keys() == {"video_global0.colour"}


def test_local_sounds_start_at_whole_steps():
    assert (drawn("audio_local0.first_sample") % LOCAL_AUDIO_STEP == 0).all()


def test_aligned_local_sounds_start_with_the_local_pictures():
    config = CONFIG.model_copy(update={"aligned_locals": True})
    frames, samples = drawn("video_local1.first_frame", config), drawn("audio_local1.first_sample", config)
    assert np.array_equal(samples, frames * 2000)


def test_an_aligned_sound_that_would_run_past_the_clip_starts_earlier():
    longer = ExampleConfig(train="unused", aligned_locals=True, audio={"local_view": {"seconds": 2}})
    assert aligned_sample(longer, 24) == 2 * 16000


@pytest.mark.parametrize(("aspect", "axis"), [(1.5, 1), (0.7, 0)])
def test_evaluation_takes_its_crops_along_the_longer_side_of_every_clip(aspect, axis):
    views = fixed_views(CONFIG.model_copy(update={"clips": 2, "crops": 3}), 0, 0, 0, aspect)
    starts = np.array([views.graph[f"video_global{k}.roi_start"] for k in range(6)])
    ends = np.array([views.graph[f"video_global{k}.roi_end"] for k in range(6)])
    spare = 1 - min(aspect, 1 / aspect)
    assert starts[:, axis] == pytest.approx(np.tile([0, spare / 2, spare], 2))
    assert ends[:, axis] == pytest.approx(np.tile([1 - spare, 1 - spare / 2, 1], 2))
    assert (starts[:, 1 - axis] == 0).all()
    assert (ends[:, 1 - axis] == 1).all()
    assert [views.graph[f"audio_global{k}.volume"] for k in range(2)] == [1, 1]


def test_evaluation_draws_nothing_and_takes_the_centre_by_default():
    first, second = fixed_views(CONFIG, 0, 0, 0, 1.5), fixed_views(CONFIG, 1, 2, 3, 1.5)
    assert_same(all_of(first), all_of(second))
    assert np.allclose(first.graph["video_global0.roi_start"], (0, 1 / 6))


@pytest.mark.parametrize(
    ("clips", "spare", "starts"), [(1, 1001, [500]), (2, 1000, [0, 1000]), (3, 1001, [0, 500, 1001]), (3, 0, [0, 0, 0])]
)
def test_evaluation_clips_are_spread_over_the_sample(clips, spare, starts):
    assert even_starts(spare, CONFIG.model_copy(update={"clips": clips}), 0, 0, 0) == starts


def test_more_clips_leave_the_first_ones_as_they_were():
    one, three = (ExampleConfig(train="unused", clips=clips, **EVERYTHING) for clips in (1, 3))
    few, more = all_drawn(one, 0, 0, 0, 1.0), all_drawn(three, 0, 0, 0, 1.0)
    assert few.keys() < more.keys()
    assert_same(few, {name: more[name] for name in few})
    for name in ("video_global{}.roi_start", "video_global{}.colour", "audio_global{}.volume", "audio_global{}.warp"):
        assert len({more[name.format(k)].tobytes() for k in range(3)}) == 3, name
    starts = random_starts(10**6, three, 0, 0, 0)
    assert starts[:1] == random_starts(10**6, one, 0, 0, 0)
    assert len(set(starts)) == 3


def test_clips_start_anywhere_in_the_spare_time():
    starts = np.array([random_starts(1000, CONFIG, 0, 0, sample) for sample in range(2000)])
    assert starts.shape == (2000, 1)
    assert starts.min() < 20
    assert 980 < starts.max() <= 1000
    assert random_starts(0, CONFIG, 0, 0, 0) == [0]
