"""What a loader's preset means: which views, from which part of a clip, in which order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from xkd.pipelines.config import DataConfig
from xkd.pipelines.views.draws import ViewParameters, even_starts, fixed_views, random_starts, random_views
from xkd.pipelines.views.example import BOTH, ExampleConfig, StreamName


@dataclass(frozen=True)
class Preset:
    """What sets training apart from evaluation.

    `training` samples are shuffled, replaced when damaged, and fill whole batches only; `drop_short` leaves out those shorter than
    `min_seconds`. Everything is made by `narrow(config, streams)`. `starts` maps (spare audio samples, narrowed config, seed,
    epoch, sample id) to the first audio samples of the clips, `views` maps (narrowed config, seed, epoch, sample id, aspect) to the
    parameters of their views.
    """

    training: bool
    drop_short: bool
    narrow: Callable[..., ExampleConfig]
    starts: Callable[[int, ExampleConfig, int, int, int], list[int]]
    views: Callable[[ExampleConfig, int, int, int, float], ViewParameters]


def global_only(config: DataConfig) -> DataConfig:
    """The configuration without local views."""
    streams = {name: getattr(config, name) for name in BOTH}
    local = {name: stream.local_view.model_copy(update={"count": 0}) for name, stream in streams.items()}
    update = {name: stream.model_copy(update={"local_view": local[name]}) for name, stream in streams.items()}
    return config.model_copy(update=update | {"aligned_locals": False})


def without_chance(config: DataConfig) -> DataConfig:
    """The configuration of views that nothing is drawn for: global ones only, of which the graph blurs and changes none."""
    config = global_only(config)
    view = config.video.global_view
    still = view.model_copy(update={"blur": 0.0, "rand_augment": view.rand_augment.model_copy(update={"ops": 0})})
    return config.model_copy(update={"video": config.video.model_copy(update={"global_view": still})})


def one_clip(config: DataConfig, streams: Sequence[StreamName] = BOTH) -> ExampleConfig:
    return ExampleConfig.of(config, streams)


def random_clips(config: DataConfig, streams: Sequence[StreamName] = BOTH) -> ExampleConfig:
    return ExampleConfig.of(global_only(config), streams, config.train_clips)


def fixed_clips(config: DataConfig, streams: Sequence[StreamName] = BOTH) -> ExampleConfig:
    return ExampleConfig.of(without_chance(config), streams, config.eval_clips, config.eval_crops)


RANDOM = {"starts": random_starts, "views": random_views}
FIXED = {"starts": even_starts, "views": fixed_views}

PRESETS = {
    "pretrain": Preset(training=True, drop_short=True, narrow=one_clip, **RANDOM),
    "linear": Preset(training=True, drop_short=False, narrow=random_clips, **RANDOM),
    "finetune": Preset(training=True, drop_short=False, narrow=random_clips, **RANDOM),
    "svm": Preset(training=False, drop_short=False, narrow=random_clips, **RANDOM),
    "eval": Preset(training=False, drop_short=False, narrow=fixed_clips, **FIXED),
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
    "svm": {
        "video": {"global_view": {"size": 112, "scale": (0.08, 1.0), "gray": 0.2}},
        "audio": {"global_view": {"volume": 0.1}},
    },
    "eval": {"video": {"global_view": {"size": 224}}, "eval_clips": 3, "eval_crops": 3},
}


def method_views(config: DataConfig, protocol: str) -> DataConfig:
    """A run's settings with the method's views of a protocol of METHOD_VIEWS over them.

    Raises ValueError where they do not fit the run's spectrograms.
    """
    return DataConfig.model_validate(_over(config.model_dump(), METHOD_VIEWS[protocol]))


def _over(fields: Mapping, changes: Mapping) -> dict:
    changed = {name: _over(fields[name], value) if isinstance(value, Mapping) else value for name, value in changes.items()}
    return {**fields, **changed}
