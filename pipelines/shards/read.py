"""Reads the bytes of a sample out of its tar and checks them against the sidecar: their CRCs, and the index of the video."""

import os
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np

from xkd.pipelines.shards.index import Sample
from xkd.pipelines.shards.mp4 import index_fault

PCM_BYTES = 2

# (file, offset, size) -> that many bytes, fewer where the file ends before; raises UnreadableFile.
Pread = Callable[[Path, int, int], bytes]
Extent = tuple[int, int]  # offset in the tar, size

# To read so many bytes for nothing takes less time than another request to storage.
MAX_GAP = 64 * 2**10


class DamagedSample(ValueError):
    """The bytes of a stored sample are not those that were written, or cannot be read; `reason` says which, without the file."""

    def __init__(self, sample: Sample, member: str, offset: int, state: str):
        super().__init__(f"{sample.shard}: the {member} of sample {sample.key} (at byte {offset}) {state}; copy the shard again")
        self.sample, self.member = sample, member
        self.reason = f"its {member} (at byte {offset}) {state}"


class UnreadableFile(OSError):
    """A file cannot be read, and trying again does not help."""


# What was read, or why it cannot be.
Raw = bytes | memoryview | UnreadableFile


def pread_all(descriptor: int, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on, fewer where the file ends before."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


def open_and_pread(path: Path, offset: int, size: int) -> bytes:
    """Opens, reads and closes a file, for those who read little of it. Raises UnreadableFile."""
    try:
        with path.open("rb", buffering=0) as file:
            return pread_all(file.fileno(), offset, size)
    except OSError as error:
        raise UnreadableFile(error.strerror) from error


def fetch(sample: Sample, extent: Extent, pread: Pread = open_and_pread) -> Raw:
    """The bytes of an extent, unchecked, or why they cannot be read; what a thread can do while others work."""
    try:
        return pread(sample.shard, *extent)
    except UnreadableFile as error:
        return error


def fetch_both(sample: Sample, first: Extent, second: Extent, pread: Pread = open_and_pread) -> tuple[Raw, Raw]:
    """The bytes of two extents, by one read where they lie close together in this order."""
    (offset, size), (second_offset, second_size) = first, second
    gap = second_offset - (offset + size)
    if not 0 <= gap <= MAX_GAP:
        return fetch(sample, first, pread), fetch(sample, second, pread)
    data = fetch(sample, (offset, size + gap + second_size), pread)
    if isinstance(data, UnreadableFile):  # of which of the two?
        return fetch(sample, first, pread), fetch(sample, second, pread)
    view = memoryview(data)
    return view[:size], view[size + gap :]


def video_extent(sample: Sample) -> Extent:
    """Where the encoded video lies. ValueError where there is none."""
    if not sample.video.frames:
        raise absent(sample, "video")
    return sample.video.offset, sample.video.size


def check_video(sample: Sample, data: Raw) -> np.ndarray:
    """The encoded video, uint8 [size], of what was fetched. Raises DamagedSample."""
    video = sample.video
    if isinstance(data, UnreadableFile):
        raise DamagedSample(sample, "video", video.offset, f"cannot be read: {data}") from data
    if len(data) != video.size or crc32(data) != video.crc:
        raise DamagedSample(sample, "video", video.offset, "is damaged")
    if fault := index_fault(data, video):
        raise DamagedSample(sample, "video", video.offset, fault)
    return np.frombuffer(data, np.uint8)


def read_video(sample: Sample, pread: Pread = open_and_pread) -> np.ndarray:
    """The encoded video, uint8 [size]. Raises DamagedSample, and ValueError where there is none."""
    return check_video(sample, fetch(sample, video_extent(sample), pread))


def audio_extent(sample: Sample, start: int, count: int) -> Extent:
    """Where the whole seconds that hold `count` samples from `start` on lie.

    ValueError where there is no sound.
    """
    audio = sample.audio
    if not audio.samples:
        raise absent(sample, "sound")
    first_second, last_second = _seconds(sample, start, count)
    begin, stop = first_second * audio.rate, min(last_second * audio.rate, audio.samples)
    return audio.offset + begin * PCM_BYTES, max(0, stop - begin) * PCM_BYTES


def check_audio(sample: Sample, start: int, count: int, data: Raw) -> np.ndarray:
    """`count` samples from `start` on, int16, with silence past the end, of what was fetched. Raises DamagedSample."""
    audio = sample.audio
    if isinstance(data, UnreadableFile):
        raise DamagedSample(sample, "audio", audio.offset, f"cannot be read: {data}") from data
    if audio.size != audio.samples * PCM_BYTES:
        raise DamagedSample(sample, "audio", audio.offset, f"has {audio.size} bytes, not {audio.samples} samples of pcm16")
    first_second, last_second = _seconds(sample, start, count)
    if crc_per_second(data, audio.rate) != audio.crcs[first_second:last_second]:
        raise DamagedSample(sample, "audio", audio.offset, "is damaged")
    heard = np.frombuffer(data, "<i2")[start - first_second * audio.rate :][:count]
    result = np.zeros(count, np.int16)
    result[: len(heard)] = heard
    return result


def read_audio(sample: Sample, start: int, count: int, pread: Pread = open_and_pread) -> np.ndarray:
    """`count` samples from `start` on, int16, with silence past the end. Checks the seconds it touches.

    Raises DamagedSample, also of what is not pcm16 (sound.py reads all forms), and ValueError where there is no sound.
    """
    return check_audio(sample, start, count, fetch(sample, audio_extent(sample, start, count), pread))


def crc_per_second(pcm: bytes, sample_rate: int) -> tuple[int, ...]:
    """The CRC32 of each second of mono PCM16 data; the last second may be short."""
    size = sample_rate * PCM_BYTES
    return tuple(crc32(pcm[begin : begin + size]) for begin in range(0, len(pcm), size))


def _seconds(sample: Sample, start: int, count: int) -> tuple[int, int]:
    """The first of the seconds that samples lie in, and the one after the last."""
    end = min(start + count, sample.audio.samples)
    return start // sample.audio.rate, -(-end // sample.audio.rate)


def absent(sample: Sample, stream: str) -> ValueError:
    """The error of reading a stream that a sample does not have."""
    return ValueError(f"{sample.shard}: sample {sample.key} has no {stream}; choose samples that have it by the sidecar's columns")
