import numpy as np
import pytest

from xkd.pipelines.config import DataConfig
from xkd.pipelines.views.example import ExampleConfig
from xkd.pipelines.views.presets import METHOD_VIEWS, PRESETS, method_views

RICH = DataConfig(
    train="unused",
    train_clips=2,
    eval_clips=3,
    eval_crops=3,
    aligned_locals=True,
    video={"global_view": {"erase": 0.25, "blur": 0.5, "rand_augment": {"ops": 2}}, "local_view": {"count": 2}},
    audio={"global_view": {"time_warp": 20}},
)


STREAMS = [("video", "audio"), ("video",), ("audio",)]


@pytest.mark.parametrize(
    ("preset", "counts"),
    [
        ("pretrain", (1, 1, 2, 1)),
        ("linear", (2, 2, 0, 0)),
        ("finetune", (2, 2, 0, 0)),
        ("svm", (2, 2, 0, 0)),
        ("eval", (9, 3, 0, 0)),
    ],
)
def test_a_preset_has_its_numbers_of_views(preset, counts):
    assert tuple(PRESETS[preset].narrow(RICH).view_counts.values()) == counts
    assert tuple(PRESETS[preset].narrow(RICH, ("video",)).view_counts.values()) == (counts[0], 0, counts[2], 0)
    assert tuple(PRESETS[preset].narrow(RICH, ("audio",)).view_counts.values()) == (0, counts[1], 0, counts[3])


@pytest.mark.parametrize("streams", STREAMS, ids=" and ".join)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_draws_what_its_graph_is_fed(preset, streams):
    row = PRESETS[preset]
    config = row.narrow(RICH, streams)
    views = row.views(config, 0, 0, 0, 1.5)
    named = {name.split(".")[0] for name in views.graph}
    assert named == {f"{name}{k}" for name, count in config.view_counts.items() for k in range(count)}
    assert len(row.starts(1000, config, 0, 0, 0)) == config.clips
    assert ExampleConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_a_stream_s_views_are_drawn_alike_with_the_other_and_without(preset):
    row = PRESETS[preset]
    both = row.views(row.narrow(RICH), 0, 0, 0, 1.5)
    for stream in ("video", "audio"):
        alone = row.views(row.narrow(RICH, (stream,)), 0, 0, 0, 1.5)
        for found, all_of in ((alone.graph, both.graph), (alone.after, both.after)):
            expected = {name: value for name, value in all_of.items() if name.startswith(stream)}
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("preset", METHOD_VIEWS)
def test_the_method_s_views_of_each_preset_are_valid(preset):
    config = PRESETS[preset].narrow(DataConfig(train="unused", **METHOD_VIEWS[preset]))
    side = 112 if preset in ("pretrain", "svm") else 224
    assert config.video_shape == (3, 32, side, side)
    assert config.audio_shape == (1, 80, 448)


def test_the_table_covers_every_preset():
    assert METHOD_VIEWS.keys() == PRESETS.keys()


def test_the_method_s_views_lie_over_a_run_s_own_settings():
    run = DataConfig(train="mine", clip_seconds=2.0, video={"global_view": {"size": 32, "flip": 0.0}}, audio={"hop": 200})
    found = method_views(run, "finetune")
    view = found.video.global_view
    assert (view.size, view.scale, view.flip, view.rand_augment.ops, view.hue) == (224, (0.2, 0.766), 0.0, 4, 0.0)
    assert (found.train, found.clip_seconds, found.audio.hop, found.audio.global_view.freq_masks) == ("mine", 2.0, 200, 2)


def test_views_that_do_not_fit_a_run_s_spectrograms_are_refused():
    coarse = DataConfig(train="mine", clip_seconds=1.0, audio={"hop": 1000, "local_view": {"count": 0}})
    with pytest.raises(ValueError, match=r"audio.global_view.time_mask_width 20 is too much for a spectrogram of 80 x 17"):
        method_views(coarse, "finetune")
