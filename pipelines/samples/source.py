"""What the graph is fed for one sample: its encoded video, its stretch of sound, and its augmentation parameters.

Stateless: an example is a pure function of (seed, epoch, sample id) and the shards, so any sample can be made again, anywhere.
"""

from dataclasses import dataclass

import numpy as np

from xkd.pipelines.config import DataConfig
from xkd.pipelines.shards.index import Sample, ShardSet
from xkd.pipelines.shards.read import (
    Extent,
    Pread,
    Raw,
    audio_extent,
    check_audio,
    check_video,
    fetch,
    fetch_both,
    open_and_pread,
    video_extent,
)
from xkd.pipelines.shards.trim import trimmed
from xkd.pipelines.views.draws import Parameters
from xkd.pipelines.views.presets import Preset


@dataclass(frozen=True)
class Example:
    """A sample, the graph's inputs for it by name, and what finish.py needs to finish its views."""

    sample: Sample
    inputs: Parameters
    after: Parameters


@dataclass(frozen=True)
class Request:
    """A sample to be read, a clip from each of the audio samples `starts` on, with the views drawn for a sample id in an epoch."""

    sample: Sample
    epoch: int
    drawn_for: int
    starts: list[int]
    video: Extent
    audio: list[Extent]


Fetched = tuple[Raw, list[Raw]]


class Source:
    """Makes examples of a shard set; ValueError if its streams, frame rate, sample rate or audio codec do not fit."""

    def __init__(self, shards: ShardSet, config: DataConfig, preset: Preset, seed: int, pread: Pread = open_and_pread):
        _check_streams(shards)
        self._shards = shards
        self._config = config
        self._preset = preset
        self._seed = seed
        self._pread = pread
        self._stored_fps = shards.manifest.video.fps
        self._stride = frame_stride(shards, config)

    def __call__(self, epoch: int, sample_id: int, drawn_for: int | None = None) -> Example:
        """The example of one sample in one epoch. Raises DamagedSample."""
        request = self.request(epoch, sample_id, drawn_for)
        return self.make(request, self.fetch(request))

    def request(self, epoch: int, sample_id: int, drawn_for: int | None = None) -> Request:
        """What is to be read for an example.

        A sample that stands in for another takes what was `drawn_for` that one: it may be in the batch itself, and then differs.
        """
        sample = self._shards.sample(sample_id)
        drawn_for = sample_id if drawn_for is None else drawn_for
        starts = self._preset.starts(self._spare(sample), self._config, self._seed, epoch, drawn_for)
        sound = [audio_extent(sample, start, self._config.clip_samples) for start in starts]
        return Request(sample, epoch, drawn_for, starts, video_extent(sample), sound)

    def fetch(self, request: Request) -> Fetched:
        """The bytes that an example is made of, unchecked; the part that waits."""
        first, *others = request.audio
        video, sound = fetch_both(request.sample, request.video, first, self._pread)
        return video, [sound, *(fetch(request.sample, extent, self._pread) for extent in others)]

    def make(self, request: Request, fetched: Fetched) -> Example:
        """The example of what was fetched. Raises DamagedSample."""
        sample, starts, draws = request.sample, request.starts, (self._seed, request.epoch, request.drawn_for)
        video, sounds = fetched
        samples = self._config.clip_samples
        encoded, frames = trimmed(check_video(sample, video), np.concatenate([self._frames(sample, start) for start in starts]))
        clips = {
            "video": encoded,
            "pcm": np.concatenate(
                [check_audio(sample, start, samples, sound) for start, sound in zip(starts, sounds, strict=True)]
            ),
            "frames": frames,
        }
        views = self._preset.views(self._config, *draws, sample.video.width / sample.video.height)
        return Example(sample, clips | views.graph, views.after)

    def _spare(self, sample: Sample) -> int:
        """Audio samples by which the stretch that both streams cover is longer than a clip."""
        video_samples = sample.video.frames * self._config.audio.sample_rate // self._stored_fps
        return max(0, min(video_samples, sample.audio.samples) - self._config.clip_samples)

    def _frames(self, sample: Sample, start: int) -> np.ndarray:
        """Stored frame numbers of a clip that starts at an audio sample: the last frame not after each moment, modulo the video."""
        first = start * self._stored_fps // self._config.audio.sample_rate
        return ((first + self._stride * np.arange(self._config.num_frames)) % sample.video.frames).astype(np.int32)


def frame_stride(shards: ShardSet, config: DataConfig) -> int:
    """Stored frames from one used frame to the next; ValueError unless the stored rates fit the configuration."""
    stored = shards.manifest.video.fps
    stride = round(stored / config.video.fps)
    if stride < 1 or stride * config.video.fps != stored:
        raise ValueError(
            f"video.fps {config.video.fps:g}: {shards.folder} stores {stored} frames a second, which must be a whole multiple;"
            f" set video.fps to {stored} divided by a whole number"
        )
    if shards.manifest.audio.sample_rate != config.audio.sample_rate:
        raise ValueError(
            f"audio.sample_rate {config.audio.sample_rate}: {shards.folder} stores {shards.manifest.audio.sample_rate} samples a"
            f" second; set audio.sample_rate to that"
        )
    return stride


def _check_streams(shards: ShardSet) -> None:
    """ValueError unless clips can be read with their sound."""
    manifest = shards.manifest
    for stream, seconds in (("video", manifest.video_seconds), ("sound", manifest.audio_seconds)):
        if not seconds:
            raise ValueError(f"{shards.folder}: holds no {stream}; loading needs clips with both streams")
    if manifest.audio.codec != "pcm16":
        raise ValueError(
            f"{shards.folder}: its sound is stored as {manifest.audio.codec}, of which no part can be read alone; convert the data"
            " set again with --audio pcm16"
        )


def long_enough(shards: ShardSet, min_seconds: float) -> np.ndarray:
    """Ids of the samples that have both streams, each of at least `min_seconds`, int64 [n]."""
    video_seconds = shards.column("video_frames") / shards.manifest.video.fps
    audio_seconds = shards.column("audio_samples") / shards.manifest.audio.sample_rate
    shorter = np.minimum(video_seconds, audio_seconds)
    return np.flatnonzero((shorter > 0) & (shorter >= min_seconds))
