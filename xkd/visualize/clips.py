"""Clips to be drawn: their views, what they are called, and normalised views as colours."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor

from xkd.features import clips_of
from xkd.model.config import Modality
from xkd.pipelines.config import DataConfig
from xkd.pipelines.inspect.preview import strip
from xkd.pipelines.loader import Batch, Loader
from xkd.pipelines.shards.index import ShardSet

MASK_GRAY = 0.5
MODALITIES: tuple[Modality, ...] = ("video", "audio")


class Clips(NamedTuple):
    """Global views by modality, video [B, 3, T, H, W] and audio [B, 1, F, S], with a title each."""

    views: dict[Modality, Tensor]
    titles: list[str]

    @classmethod
    def of(cls, batch: Batch, count: int, classes: Sequence[str] | None = None) -> "Clips":
        """The first clips of a batch, copied, since a loader may write over it; named by key and, where given, by class."""
        views = {modality: clip[:count].clone() for modality, clip in clips_of(batch).items() if clip is not None}
        return cls(views, [_title(key, targets, classes) for key, targets in zip(batch.keys[:count], batch.targets, strict=False)])


def first_clips(shards: ShardSet, data: DataConfig, count: int, streams: Sequence[Modality] = MODALITIES) -> Clips:
    """The first clips of a shard set that can be read, one view of each, as in evaluation; ValueError where there are none."""
    with Loader(shards, one_view(data), preset="eval", batch_size=min(count, len(shards)), streams=streams) as loader:
        for batch in loader.epoch(0):
            if batch.valid.any():
                return Clips.of(batch.counted(), count, shards.classes)
    raise ValueError(f"{shards.location}: holds no sample that can be drawn: `xkd shards check` tells what is wrong with it")


def one_view(data: DataConfig) -> DataConfig:
    """The same with one clip and one crop of each sample, a step at a time."""
    return data.model_copy(update={"eval_clips": 1, "eval_crops": 1, "prefetch": 1})


def coloured(modality: Modality, clip: Tensor, data: DataConfig, like: Tensor | None = None) -> np.ndarray:
    """One view as colours [H, W, 3] in 0..1, a video as a strip of frames; what is NaN is grey.

    A spectrogram's colours span the values of `like` (default: its own).
    """
    if modality == "video":
        return strip(frames(clip, data))
    values = scaled(clip, clip if like is None else like)
    return colormaps["magma"].with_extremes(bad=str(MASK_GRAY))(values)[..., :3]


def frames(clip: Tensor, data: DataConfig) -> np.ndarray:
    """Frames [T, H, W, 3] in 0..1 of a normalised video [3, T, H, W]; NaN becomes grey."""
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (data.video.mean, data.video.std))
    return (clip.cpu() * std + mean).clamp(0, 1).nan_to_num(MASK_GRAY).permute(1, 2, 3, 0).numpy()


def scaled(spectrogram: Tensor, like: Tensor) -> np.ndarray:
    """A spectrogram [1, F, S] in 0..1, low bands at the bottom; 0 and 1 are the least and greatest value of `like`."""
    low, high = (value.item() for value in like.aminmax())
    return ((spectrogram[0].cpu() - low) / max(high - low, 1e-6)).clamp(0, 1).flip(0).numpy()


def _title(key: str, targets: Tensor, classes: Sequence[str] | None) -> str:
    names = ", ".join(classes[number] for number in targets.nonzero()[:, 0].tolist()) if classes else ""
    return f"class {names}   {key}" if names else key
