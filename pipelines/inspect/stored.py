"""Reads stored members and decodes pictures with PyAV, whatever their codec: DALI on the CPU cannot decode H.264 or HEVC."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import av

from xkd.pipelines.inspect.members import Member
from xkd.pipelines.media.encode import WAV_HEADER_BYTES
from xkd.pipelines.shards.manifest import Profile
from xkd.pipelines.shards.sidecar import AudioEntry, VideoEntry


def video_member(key: str, video: VideoEntry, profile: Profile) -> Member | None:
    """The member that an entry speaks of; None where the sample has no video."""
    return Member(f"{key}.{profile.video.container}", video.offset, video.size) if video.size else None


def audio_member(key: str, audio: AudioEntry, profile: Profile) -> Member | None:
    """The member that an entry speaks of, with its wav header; None where the sample has no sound."""
    header = WAV_HEADER_BYTES if profile.audio.codec == "pcm16" else 0
    return Member(f"{key}.{profile.audio.extension}", audio.offset - header, audio.size + header) if audio.size else None


def read_member(tar: Path, member: Member) -> bytes:
    """The bytes of a member; fewer where the tar ends."""
    descriptor = os.open(tar, os.O_RDONLY)
    try:
        return os.pread(descriptor, member.size, member.offset)
    finally:
        os.close(descriptor)


def codec_of(video: bytes) -> str | None:
    """The codec of an encoded video, as the profiles call it; None where none is known. Raises av.FFmpegError if damaged."""
    with av.open(io.BytesIO(video)) as container:
        contexts = [stream.codec_context for stream in container.streams.video]
        return contexts[0].codec.canonical_name if contexts and contexts[0] else None


def decoded_frames(video: bytes) -> Iterator[av.VideoFrame]:
    """The frames of an encoded video. Raises av.FFmpegError where it is damaged."""
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        yield from container.decode(stream)
