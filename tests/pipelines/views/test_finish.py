import numpy as np
import torch

from xkd.pipelines.loading.buffers import Buffers
from xkd.pipelines.views.draws import random_views
from xkd.pipelines.views.example import ExampleConfig
from xkd.pipelines.views.finish import finish

CONFIG = ExampleConfig(
    train="unused",
    clip_seconds=1.0,
    video={
        "global_view": {"size": 16, "erase": 0.9},
        "local_view": {"count": 2, "size": 12, "frames": 3, "erase": 0.9},
    },
    audio={
        "hop": 400,
        "global_view": {"resize_crop": True, "time_warp": 5, "freq_masks": 2, "time_masks": 2},
        "local_view": {"count": 2, "seconds": 0.5},
    },
)


def outputs(count):
    """What a graph might deliver for `count` examples."""
    draw = torch.Generator().manual_seed(0)
    pictures = {"video_global": (8, 16, 16, 3), "video_local": (2, 3, 12, 12, 3)}
    sounds = {"audio_global": CONFIG.audio_shape[1:], "audio_local": (2, *CONFIG.local_audio_shape[1:])}
    return {name: torch.randint(0, 256, (count, *shape), generator=draw, dtype=torch.uint8) for name, shape in pictures.items()} | {
        name: torch.randn(count, *shape, generator=draw) for name, shape in sounds.items()
    }


def after(count):
    return [random_views(CONFIG, 0, 0, sample, 1.0).after for sample in range(count)]


def test_shapes_are_those_the_configuration_promises():
    views = finish(outputs(3), after(3), CONFIG, Buffers())
    assert views["video_global"].shape == (3, *CONFIG.video_shape)
    assert views["video_local"].shape == (3, 2, *CONFIG.local_video_shape)
    assert views["audio_global"].shape == (3, *CONFIG.audio_shape)
    assert views["audio_local"].shape == (3, 2, *CONFIG.local_audio_shape)
    assert all(view.dtype == torch.float32 for view in views.values())


def test_the_caller_s_autocast_changes_nothing():
    expected = finish(outputs(2), after(2), CONFIG, Buffers())
    with torch.autocast("cpu", torch.bfloat16):
        views = finish(outputs(2), after(2), CONFIG, Buffers())
    assert all(torch.equal(views[name], expected[name]) and views[name].dtype == torch.float32 for name in views)


def test_no_example_depends_on_those_beside_it():
    together, drawn = outputs(5), after(5)
    batch = finish(together, drawn, CONFIG, Buffers())
    for k in range(5):
        alone = finish({name: value[k : k + 1] for name, value in together.items()}, [drawn[k]], CONFIG, Buffers())
        assert all(torch.equal(batch[name][k], alone[name][0]) for name in batch)


def test_every_view_is_finished_by_its_own_parameters():
    drawn = after(2)
    views = finish(outputs(2), drawn, CONFIG, Buffers())
    erased = 0
    for example in range(2):
        for k in range(2):
            view, name = views["video_local"][example, k], f"video_local{k}"
            (y, x), noise = drawn[example][f"{name}.erase_place"], drawn[example][f"{name}.erase_noise"]
            height, width = noise.shape[1:]
            erased += height * width
            assert np.array_equal(view[:, 1, y : y + height, x : x + width].numpy(), noise)
    assert erased
