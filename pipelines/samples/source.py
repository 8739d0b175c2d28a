"""What the graph is fed for one sample: its encoded video, its stretch of sound, and its augmentation parameters.

Stateless: an example is a pure function of (seed, epoch, sample id) and the shards, so any sample can be made again, anywhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xkd.pipelines.config import DataConfig
from xkd.pipelines.shards.index import Sample, ShardSet
from xkd.pipelines.shards.read import Extent, Pread, Raw, check_video, fetch, fetch_both, open_and_pread, video_extent
from xkd.pipelines.shards.sound import SOUNDS
from xkd.pipelines.shards.trim import trimmed
from xkd.pipelines.views.draws import Parameters
from xkd.pipelines.views.example import BOTH, ExampleConfig, StreamName
from xkd.pipelines.views.presets import Preset

STORED_AS = {"video": "video", "audio": "sound"}  # the streams, in messages


@dataclass(frozen=True)
class Example:
    """A sample, the graph's inputs for it by name, and what finish.py needs to finish its views."""

    sample: Sample
    inputs: Parameters
    after: Parameters


@dataclass(frozen=True)
class Request:
    """A sample to be read, a clip from each of the audio samples `starts` on, with the views drawn for a sample id in an epoch.

    The sound of all clips is one extent: they overlap, or lie close together. A stream that is not asked for has none.
    """

    sample: Sample
    epoch: int
    drawn_for: int
    starts: list[int]
    video: Extent | None
    audio: Extent | None


Fetched = tuple[Raw | None, Raw | None]


class Source:
    """Makes examples of a shard set; ValueError if its streams, frame rate or sample rate do not fit.

    `config` is what the preset narrows a configuration to.
    """

    def __init__(self, shards: ShardSet, config: ExampleConfig, preset: Preset, seed: int, pread: Pread = open_and_pread):
        _check_streams(shards, config.streams)
        self._shards = shards
        self._config = config
        self._preset = preset
        self._seed = seed
        self._pread = pread
        self._sound = SOUNDS[shards.manifest.audio.codec]
        self._stored_fps = shards.manifest.video.fps
        if "video" in config.streams:
            self._stride = frame_stride(shards, config)
        if "audio" in config.streams:
            check_sample_rate(shards, config)

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
        video = video_extent(sample) if "video" in self._config.streams else None
        audio = self._sound.extent(sample, *self._stretch(starts)) if "audio" in self._config.streams else None
        return Request(sample, epoch, drawn_for, starts, video, audio)

    def fetch(self, request: Request) -> Fetched:
        """The bytes that an example is made of, unchecked; the part that waits."""
        extents = (request.video, request.audio)
        if all(extents):
            return fetch_both(request.sample, *extents, self._pread)
        video, audio = (fetch(request.sample, extent, self._pread) if extent else None for extent in extents)
        return video, audio

    def make(self, request: Request, fetched: Fetched) -> Example:
        """The example of what was fetched. Raises DamagedSample."""
        sample, starts, draws = request.sample, request.starts, (self._seed, request.epoch, request.drawn_for)
        video, audio = fetched
        clips = {}
        if request.video:
            numbers = np.concatenate([self._frames(sample, start) for start in starts])
            clips["video"], clips["frames"] = trimmed(check_video(sample, video), numbers)
        if request.audio:
            clips["pcm"] = self._heard(sample, starts, audio)
        aspect = sample.video.width / sample.video.height if request.video else math.nan
        views = self._preset.views(self._config, *draws, aspect)
        return Example(sample, clips | views.graph, views.after)

    def _stretch(self, starts: list[int]) -> tuple[int, int]:
        """The first audio sample, and the number of them, of what covers all clips."""
        return min(starts), max(starts) - min(starts) + self._config.clip_samples

    def _heard(self, sample: Sample, starts: list[int], fetched: Raw) -> np.ndarray:
        """The sound of the clips, one after the other, int16; silence past the end of the sample's."""
        first, count = self._stretch(starts)
        stretch = self._sound.check(sample, first, count, fetched)
        return np.concatenate([stretch[start - first :][: self._config.clip_samples] for start in starts])

    def _spare(self, sample: Sample) -> int:
        """Audio samples by which the stretch that the streams cover together is longer than a clip."""
        video_samples = sample.video.frames * self._config.audio.sample_rate // self._stored_fps
        lengths = {"video": video_samples, "audio": sample.audio.samples}
        return max(0, min(lengths[stream] for stream in self._config.streams) - self._config.clip_samples)

    def _frames(self, sample: Sample, start: int) -> np.ndarray:
        """Stored frame numbers of a clip that starts at an audio sample: the last frame not after each moment, modulo the video."""
        first = start * self._stored_fps // self._config.audio.sample_rate
        return ((first + self._stride * np.arange(self._config.num_frames)) % sample.video.frames).astype(np.int32)


def frame_stride(shards: ShardSet, config: DataConfig) -> int:
    """Stored frames from one used frame to the next; ValueError unless the stored rate fits the configuration."""
    stored = shards.manifest.video.fps
    stride = round(stored / config.video.fps)
    if stride < 1 or stride * config.video.fps != stored:
        raise ValueError(
            f"video.fps {config.video.fps:g}: {shards.folder} stores {stored} frames a second, which must be a whole multiple;"
            f" set video.fps to {stored} divided by a whole number"
        )
    return stride


def check_sample_rate(shards: ShardSet, config: DataConfig) -> None:
    """ValueError unless the sound is stored at the configuration's rate."""
    if shards.manifest.audio.sample_rate != config.audio.sample_rate:
        raise ValueError(
            f"audio.sample_rate {config.audio.sample_rate}: {shards.folder} stores {shards.manifest.audio.sample_rate} samples a"
            f" second; set audio.sample_rate to that"
        )


def _check_streams(shards: ShardSet, streams: Sequence[StreamName]) -> None:
    """ValueError unless there are samples with each of these streams."""
    seconds = {"video": shards.manifest.video_seconds, "audio": shards.manifest.audio_seconds}
    for stream in streams:
        if not seconds[stream]:
            needed = " and ".join(STORED_AS[name] for name in streams)
            raise ValueError(f"{shards.location}: holds no {STORED_AS[stream]}; what loads it needs {needed}: give it other shards")


def long_enough(shards: ShardSet, min_seconds: float, streams: Sequence[StreamName] = BOTH) -> np.ndarray:
    """Ids of the samples that have these streams, each of at least `min_seconds`, int64 [n]."""
    manifest = shards.manifest
    seconds = {
        "video": shards.column("video_frames") / manifest.video.fps,
        "audio": shards.column("audio_samples") / manifest.audio.sample_rate,
    }
    shortest = np.min([seconds[stream] for stream in streams], axis=0)
    return np.flatnonzero((shortest > 0) & (shortest >= min_seconds))
