"""Checks the members of one stored sample against their checksums and, on request, by decoding them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

import av
import numpy as np

from xkd.pipelines.inspect.members import Member
from xkd.pipelines.inspect.stored import audio_member, codec_of, decoded_frames, read_member, video_member
from xkd.pipelines.media.encode import AUDIO_CODECS, WAV_HEADER_BYTES, encode_wav
from xkd.pipelines.shards.manifest import Profile
from xkd.pipelines.shards.mp4 import index_fault
from xkd.pipelines.shards.read import crc_per_second
from xkd.pipelines.shards.sidecar import Entry


def expected_members(entry: Entry, profile: Profile) -> list[Member]:
    """The video and audio members that a row of a sidecar speaks of."""
    both = video_member(entry.key, entry.video, profile), audio_member(entry.key, entry.audio, profile)
    return [member for member in both if member]


def cut_off(tar: Path, entries: Sequence[Entry]) -> Iterator[str]:
    """Says which samples lie behind the end of a tar that is too short, in one sentence."""
    size = tar.stat().st_size
    lost = [entry.key for entry in entries if _end(entry) > size]
    if lost:
        yield f"{len(lost)} of its {len(entries)} samples are cut off, from {lost[0]} on"


def sample_problems(tar: Path, entry: Entry, info: Member | None, profile: Profile, decode: bool) -> Iterator[str]:
    """What is wrong with the members of a sample; nothing for a sample of a tar that ends before it (`cut_off`)."""
    if _end(entry) > tar.stat().st_size:
        return
    streams = (
        (video_member(entry.key, entry.video, profile), _video_damage, _decoded_video),
        (audio_member(entry.key, entry.audio, profile), _audio_damage, _decoded_audio),
    )
    for member, damage, decoded in streams:
        if member:
            data = read_member(tar, member)
            if problem := damage(data, entry, profile) or (decode and decoded(data, entry, profile)):
                yield f"{member.name} (at byte {member.offset}) {problem}"
    if info and crc32(read_member(tar, info)) != entry.info_crc:
        yield f"{info.name} (at byte {info.offset}) is damaged: its CRC differs"


def _video_damage(data: bytes, entry: Entry, profile: Profile) -> str | None:
    return None if crc32(data) == entry.video.crc else "is damaged: its CRC differs"


def _audio_damage(data: bytes, entry: Entry, profile: Profile) -> str | None:
    if profile.audio.codec == "flac":
        return None if (crc32(data),) == entry.audio.crcs else "is damaged: its CRC differs"
    pcm = data[WAV_HEADER_BYTES:]
    found = crc_per_second(pcm, entry.audio.rate)
    if found != entry.audio.crcs:
        seconds = [str(second) for second, pair in enumerate(zip(found, entry.audio.crcs, strict=False)) if pair[0] != pair[1]]
        return f"is damaged: the CRC of second {', '.join(seconds)} differs"
    if encode_wav(np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2"), entry.audio.rate) != data:
        return "is damaged: its wav header does not fit its sound"
    return None


def _decoded_video(data: bytes, entry: Entry, profile: Profile) -> str | None:
    expected = [(entry.video.height, entry.video.width)] * entry.video.frames
    try:
        codec = codec_of(data)
        if codec != profile.video.codec:
            return f"holds {codec or 'no'} video instead of {profile.video.codec}"
        found = [(frame.height, frame.width) for frame in decoded_frames(data)]
    except av.FFmpegError as error:
        return f"cannot be decoded: {error.strerror}"
    if found != expected:
        return f"decodes to {_frames(found)} instead of {_frames(expected)}"
    return index_fault(data, entry.video)


def _decoded_audio(data: bytes, entry: Entry, profile: Profile) -> str | None:
    try:
        samples, rate = AUDIO_CODECS[profile.audio.codec].decode(data)
    except (av.FFmpegError, ValueError) as error:
        return f"cannot be decoded: {error}"
    found, expected = (len(samples), rate), (entry.audio.samples, entry.audio.rate)
    return None if found == expected else f"decodes to (samples, rate) {found} instead of {expected}"


def _frames(shapes: Sequence[tuple[int, int]]) -> str:
    sizes = " and ".join(f"{width}x{height}" for height, width in dict.fromkeys(shapes))
    return f"{len(shapes)} frames of {sizes}" if shapes else "no frame"


def _end(entry: Entry) -> int:
    return max(entry.video.offset + entry.video.size, entry.audio.offset + entry.audio.size)
