import pytest

from xkd.pipelines.config import DataConfig
from xkd.pipelines.views.presets import METHOD_VIEWS, PRESETS

RICH = DataConfig(
    train="unused",
    eval_clips=3,
    eval_crops=3,
    aligned_locals=True,
    video={"global_view": {"erase": 0.25, "blur": 0.5, "rand_augment": {"ops": 2}}, "local_view": {"count": 2}},
    audio={"global_view": {"time_warp": 20}},
)


@pytest.mark.parametrize(
    ("preset", "counts"), [("pretrain", (1, 1, 2, 1)), ("linear", (1, 1, 0, 0)), ("finetune", (1, 1, 0, 0)), ("eval", (9, 3, 0, 0))]
)
def test_a_preset_has_its_numbers_of_views(preset, counts):
    assert tuple(PRESETS[preset].narrow(RICH).view_counts.values()) == counts


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_draws_what_its_graph_is_fed(preset):
    row = PRESETS[preset]
    config = row.narrow(RICH)
    views = row.views(config, 0, 0, 0, 1.5)
    named = {name.split(".")[0] for name in views.graph}
    assert named == {f"{name}{k}" for name, count in config.view_counts.items() for k in range(count)}
    assert len(row.starts(1000, config, 0, 0, 0)) == config.eval_clips
    assert DataConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("preset", METHOD_VIEWS)
def test_the_method_s_views_of_each_preset_are_valid(preset):
    config = PRESETS[preset].narrow(DataConfig(train="unused", **METHOD_VIEWS[preset]))
    assert config.video_shape == (3, 32, *((112, 112) if preset == "pretrain" else (224, 224)))
    assert config.audio_shape == (1, 80, 448)


def test_the_table_covers_every_preset():
    assert METHOD_VIEWS.keys() == PRESETS.keys()
