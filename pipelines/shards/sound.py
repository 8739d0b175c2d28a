"""Reads a stretch of a sample's sound in each of the forms that it is stored in."""

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from xkd.pipelines.shards.index import Sample
from xkd.pipelines.shards.read import DamagedSample, Extent, Raw, UnreadableFile, absent, audio_extent, check_audio


@dataclass(frozen=True)
class StoredSound:
    """What of a sample to fetch for `count` samples of sound from `start` on, and how these are got out of it.

    `extent` maps (sample, start, count) to where it lies, ValueError where there is no sound; `check` maps (sample, start, count,
    what was fetched) to int16 [count], with silence past the end, and raises DamagedSample.
    """

    extent: Callable[[Sample, int, int], Extent]
    check: Callable[[Sample, int, int, Raw], np.ndarray]


def flac_extent(sample: Sample, start: int, count: int) -> Extent:
    """The whole member: no part of a flac can be found without what is before it."""
    if not sample.audio.samples:
        raise absent(sample, "sound")
    return sample.audio.offset, sample.audio.size


def check_flac(sample: Sample, start: int, count: int, data: Raw) -> np.ndarray:
    from xkd.pipelines.media.encode import decode_flac  # needs PyAV, which loading anything else does not

    audio = sample.audio
    if isinstance(data, UnreadableFile):
        raise DamagedSample(sample, "audio", audio.offset, f"cannot be read: {data}") from data
    if (crc32(data),) != audio.crcs:
        raise DamagedSample(sample, "audio", audio.offset, "is damaged")
    decoded, rate = decode_flac(bytes(data))
    if (len(decoded), rate) != (audio.samples, audio.rate):
        raise DamagedSample(sample, "audio", audio.offset, f"decodes to {len(decoded)} samples instead of {audio.samples}")
    heard = decoded[start : start + count]
    return np.pad(heard, (0, count - len(heard)))


SOUNDS = {"pcm16": StoredSound(audio_extent, check_audio), "flac": StoredSound(flac_extent, check_flac)}
