"""Reads the bytes of a sample out of its tar and checks them against the CRCs of the sidecar."""

import os
from pathlib import Path
from zlib import crc32

import numpy as np

from xkd.pipelines.index import Sample

PCM_BYTES = 2


class DamagedSample(ValueError):
    """The bytes of a stored sample are not those that were written."""


def read_video(sample: Sample) -> np.ndarray:
    """The encoded video, uint8 [size]. Raises DamagedSample, and ValueError where there is none."""
    video = sample.video
    if not video.frames:
        raise _absent(sample, "video")
    data = _read(sample.shard, video.offset, video.size)
    if len(data) != video.size or crc32(data) != video.crc:
        raise _damaged(sample, "video", video.offset)
    return np.frombuffer(data, np.uint8)


def read_audio(sample: Sample, start: int, count: int) -> np.ndarray:
    """`count` samples from `start` on, int16, with silence past the end. Checks the seconds it touches.

    Raises DamagedSample, and ValueError where there is no sound, or where it is stored as flac, of which no part can be read alone.
    """
    audio = sample.audio
    if not audio.samples:
        raise _absent(sample, "sound")
    if audio.size != audio.samples * PCM_BYTES:
        raise ValueError(f"{sample.shard}: the sound of sample {sample.key} is not pcm16; convert the data set with --audio pcm16")
    end = min(start + count, audio.samples)
    result = np.zeros(count, np.int16)
    if start >= end:
        return result
    first_second, last_second = start // audio.rate, -(-end // audio.rate)
    begin, stop = first_second * audio.rate, min(last_second * audio.rate, audio.samples)
    data = _read(sample.shard, audio.offset + begin * PCM_BYTES, (stop - begin) * PCM_BYTES)
    if crc_per_second(data, audio.rate) != audio.crcs[first_second:last_second]:
        raise _damaged(sample, "audio", audio.offset)
    result[: end - start] = np.frombuffer(data, "<i2")[start - begin : end - begin]
    return result


def crc_per_second(pcm: bytes, sample_rate: int) -> tuple[int, ...]:
    """The CRC32 of each second of mono PCM16 data; the last second may be short."""
    size = sample_rate * PCM_BYTES
    return tuple(crc32(pcm[begin : begin + size]) for begin in range(0, len(pcm), size))


def _absent(sample: Sample, stream: str) -> ValueError:
    return ValueError(f"{sample.shard}: sample {sample.key} has no {stream}; choose samples that have it by the sidecar's columns")


def _damaged(sample: Sample, member: str, offset: int) -> DamagedSample:
    return DamagedSample(f"{sample.shard}: the {member} of sample {sample.key} (at byte {offset}) is damaged; copy the shard again")


def _read(path: Path, offset: int, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)
