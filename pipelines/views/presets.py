"""What a loader's preset means: which views, from which part of a clip, in which order."""

from collections.abc import Callable
from dataclasses import dataclass

from xkd.pipelines.config import DataConfig
from xkd.pipelines.views.draws import ViewParameters, even_starts, fixed_views, random_starts, random_views


@dataclass(frozen=True)
class Preset:
    """What sets training apart from evaluation.

    `training` samples are shuffled, replaced when damaged, and fill whole batches only; `drop_short` leaves out those shorter than
    `min_seconds`. The graph is built from `narrow(config)`. `starts` maps (spare audio samples, config, seed, epoch, sample id) to
    the first audio samples of the clips, `views` maps (config, seed, epoch, sample id, aspect) to the parameters of their views.
    """

    training: bool
    drop_short: bool
    narrow: Callable[[DataConfig], DataConfig]
    starts: Callable[[int, DataConfig, int, int, int], list[int]]
    views: Callable[[DataConfig, int, int, int, float], ViewParameters]


def one_clip(config: DataConfig) -> DataConfig:
    """The configuration of training: one clip a sample, and one global view of it."""
    return config.model_copy(update={"eval_clips": 1, "eval_crops": 1})


def global_only(config: DataConfig) -> DataConfig:
    """The configuration without local views."""
    streams = {name: getattr(config, name) for name in ("video", "audio")}
    local = {name: stream.local_view.model_copy(update={"count": 0}) for name, stream in streams.items()}
    update = {name: stream.model_copy(update={"local_view": local[name]}) for name, stream in streams.items()}
    return config.model_copy(update=update | {"aligned_locals": False})


def without_chance(config: DataConfig) -> DataConfig:
    """The configuration of views that nothing is drawn for: global ones only, of which the graph blurs and changes none."""
    config = global_only(config)
    view = config.video.global_view
    still = view.model_copy(update={"blur": 0.0, "rand_augment": view.rand_augment.model_copy(update={"ops": 0})})
    return config.model_copy(update={"video": config.video.model_copy(update={"global_view": still})})


def one_global_view(config: DataConfig) -> DataConfig:
    return global_only(one_clip(config))


PRESETS = {
    "pretrain": Preset(training=True, drop_short=True, narrow=one_clip, starts=random_starts, views=random_views),
    "linear": Preset(training=True, drop_short=False, narrow=one_global_view, starts=random_starts, views=random_views),
    "finetune": Preset(training=True, drop_short=False, narrow=one_global_view, starts=random_starts, views=random_views),
    "eval": Preset(training=False, drop_short=False, narrow=without_chance, starts=even_starts, views=fixed_views),
}

# The method's views of the downstream protocols, as fields of DataConfig: what their configurations start from.
STILL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
METHOD_VIEWS = {
    "pretrain": {},
    "linear": {"video": {"global_view": {"size": 224, "scale": (0.08, 1.0)}}, "audio": {"global_view": {"volume": 0.1}}},
    "finetune": {
        "video": {
            "global_view": {"size": 224, "scale": (0.2, 0.766), "rand_augment": {"ops": 4}, "erase": 0.25} | STILL,
        },
        "audio": {
            "global_view": {"volume": 0.2, "time_warp": 20, "freq_masks": 2, "time_masks": 2, "resize_crop": True},
        },
    },
    "eval": {"video": {"global_view": {"size": 224}}, "eval_clips": 3, "eval_crops": 3},
}
