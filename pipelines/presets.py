"""What a loader's preset means: which views, from which part of a clip, in which order."""

from collections.abc import Callable
from dataclasses import dataclass

from xkd.pipelines.config import DataConfig
from xkd.pipelines.draws import Parameters, centred_start, centred_views, random_start, random_views


@dataclass(frozen=True)
class Preset:
    """What sets training apart from evaluation.

    `training` samples are shuffled, left out when too short, replaced when damaged, and fill whole batches only. The graph is built
    from `narrow(config)`. `start` maps (spare audio samples, seed, epoch, sample id) to a clip's first audio sample, `views` maps
    (config, seed, epoch, sample id, aspect) to the parameters of its views.
    """

    training: bool
    narrow: Callable[[DataConfig], DataConfig]
    start: Callable[[int, int, int, int], int]
    views: Callable[[DataConfig, int, int, int, float], Parameters]


def without_chance(config: DataConfig) -> DataConfig:
    """The configuration of views that nothing is drawn for: global ones only, no jitter, no blur."""
    still = dict.fromkeys(("flip", "brightness", "contrast", "saturation", "hue", "gray", "blur"), 0.0)
    video, audio = config.video, config.audio
    video = video.model_copy(
        update={
            "global_view": video.global_view.model_copy(update=still),
            "local_view": video.local_view.model_copy(update={"count": 0}),
        }
    )
    audio = audio.model_copy(update={"local_view": audio.local_view.model_copy(update={"count": 0})})
    return config.model_copy(update={"video": video, "audio": audio})


PRESETS = {
    "pretrain": Preset(training=True, narrow=lambda config: config, start=random_start, views=random_views),
    "eval": Preset(training=False, narrow=without_chance, start=centred_start, views=centred_views),
}
