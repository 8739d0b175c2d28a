"""What every loader of the benchmark is given, so that all decode the same frames and cut the same kinds of views of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from xkd.pipelines.config import DataConfig, VideoView
from xkd.pipelines.samples.source import frame_stride
from xkd.pipelines.shards.index import Sample, ShardSet
from xkd.pipelines.views.draws import random_starts
from xkd.pipelines.views.presets import one_clip

SEED = 0

# The views by the names and shapes of loader.Batch.
Views = dict[str, torch.Tensor]
# The batches of one epoch.
Epoch = Callable[[int], Iterator[Views]]


@dataclass(frozen=True)
class Work:
    """What a round loads: one epoch of the shards. `workers` are the processes of the loaders that know them; 0 is none."""

    shards: Path
    data: DataConfig
    batch_size: int
    workers: int = 0

    @property
    def shard_set(self) -> ShardSet:
        return _opened(self.shards)

    @property
    def stored(self) -> str:
        """The form of the clips."""
        video, sample = self.shard_set.manifest.video, self.shard_set.sample(0)
        return f"codec={video.codec} {sample.video.width}x{sample.video.height} clips={len(self.shard_set)}"

    @property
    def tars(self) -> list[Path]:
        return [self.shards / f"{record.name}.tar" for record in self.shard_set.manifest.shards]

    @property
    def samples(self) -> list[Sample]:
        """All samples in stored order. Raises ValueError unless each lasts for a whole clip, which the other loaders need."""
        samples = _samples(self.shards)
        short = [sample for sample in samples if self._seconds(sample) < self.data.clip_seconds]
        if short:
            raise ValueError(
                f"{self.shards}: sample {short[0].key} lasts {self._seconds(short[0]):g} s, less than a clip of"
                f" {self.data.clip_seconds:g} s; give --shards whose samples are all as long"
            )
        return samples

    def clips(self, epoch: int) -> dict[str, "Clip"]:
        """Where each sample's clip lies in an epoch, by key in stored order: where ours has it."""
        return {sample.key: self._clip(sample, epoch) for sample in self.samples}

    def _clip(self, sample: Sample, epoch: int) -> "Clip":
        spare = round(self._seconds(sample) * self.data.audio.sample_rate) - self.data.clip_samples
        (start,) = random_starts(spare, one_clip(self.data), SEED, epoch, sample.id)
        stored_fps = self.shard_set.manifest.video.fps
        stride = frame_stride(self.shard_set, self.data)
        first = start * stored_fps // self.data.audio.sample_rate
        return Clip(range(start, start + self.data.clip_samples), range(first, first + stride * self.data.num_frames, stride))

    def _seconds(self, sample: Sample) -> float:
        """How long both streams last."""
        return min(sample.video.frames / self.shard_set.manifest.video.fps, sample.audio.samples / sample.audio.rate)


@lru_cache
def _opened(shards: Path) -> ShardSet:
    return ShardSet.open(shards)


@lru_cache
def _samples(shards: Path) -> list[Sample]:
    return [_opened(shards).sample(index) for index in range(len(_opened(shards)))]


def recolours(view: VideoView) -> bool:
    """Whether a view's colours are jittered."""
    return any((view.brightness, view.contrast, view.saturation, view.hue))


@dataclass(frozen=True)
class Clip:
    """A stretch of a sample: the numbers of its audio samples, and of the stored frames."""

    samples: range
    frames: range
