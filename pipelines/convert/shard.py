"""Writes one shard: a USTAR tar, its DALI index, its sidecar, and its statistics.

The standard library's tarfile says at which byte each member begins, which webdataset's writer does not, and puts no time and no
owner into the headers: the same samples give the same bytes.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from zlib import crc32

import numpy as np

from xkd.pipelines.convert.sample import Converted
from xkd.pipelines.media.encode import WAV_HEADER_BYTES
from xkd.pipelines.shards.identity import columns_identity
from xkd.pipelines.shards.manifest import Profile, ShardRecord
from xkd.pipelines.shards.read import crc_per_second
from xkd.pipelines.shards.sidecar import NO_AUDIO, NO_VIDEO, AudioEntry, Entry, VideoEntry, pack, serialize

PARTIAL = ".partial"
SHARD_SUFFIXES = (".tar", ".idx", ".safetensors", ".stats.json")


class ShardWriter:
    """A shard under construction; its files have their final names only after `finish`, without which nothing is left of it."""

    def __init__(self, folder: Path, name: str, profile: Profile, classes: Sequence[str]):
        self.folder = folder
        self.name = name
        self._profile = profile
        self._label_ids = {label: place for place, label in enumerate(classes)}
        self._file = self._path(".tar", partial=True).open("wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)
        self._entries: list[Entry] = []
        self._index_lines: list[str] = []

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_) -> None:
        with suppress(OSError):  # of a full disk, which refuses what is still buffered
            self._file.close()
        self._path(".tar", partial=True).unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._entries)

    def size_with(self, sample: Converted) -> int:
        """How many bytes the tar would have if it ended with this sample."""
        members = sum(tarfile.BLOCKSIZE + _padded(len(data)) for data in self._members(sample).values())
        return _padded(self._tar.offset + members + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE)

    def add(self, sample: Converted, roles: tuple[str, ...] = ()) -> None:
        """Append a sample's members, those that it has of `{key}.mp4`, `{key}.wav` (or `.flac`) and `{key}.json`, in this order."""
        members = self._members(sample)
        offsets = {extension: self._append(f"{sample.key}.{extension}", data) for extension, data in members.items()}
        self._index_lines.append(" ".join(f"{ext} {offsets[ext]} {len(data)} {sample.key}.{ext}" for ext, data in members.items()))
        video, audio = NO_VIDEO, NO_AUDIO
        if sample.video is not None:
            offset = offsets[self._profile.video.container]
            video = VideoEntry(offset, len(sample.video), crc32(sample.video), sample.frames, sample.height, sample.width)
        if sample.audio is not None:
            audio = self._audio_entry(sample, offsets[self._profile.audio.extension])
        labels = tuple(self._label_ids[label] for label in sample.labels)
        self._entries.append(Entry(sample.key, labels, video, audio, crc32(sample.info), roles))

    def finish(self, begin: int) -> ShardRecord:
        """Make the shard durable under its final names; the tar gets its name last."""
        self._tar.close()
        self._file.close()
        columns = pack(self._entries)
        sidecar = serialize(columns)
        index = "\n".join([f"v1.2 {len(self._entries)}", *self._index_lines, ""]).encode()
        tar = self._path(".tar", partial=True)
        record = ShardRecord(
            name=self.name,
            begin=begin,
            num_samples=len(self._entries),
            video_frames=sum(entry.video.frames for entry in self._entries),
            audio_samples=sum(entry.audio.samples for entry in self._entries),
            class_samples=np.bincount(columns["labels"], minlength=len(self._label_ids)).tolist(),
            identity=columns_identity(columns),
            tar_bytes=tar.stat().st_size,
            tar_sha256=sha256_of(tar),
            index_sha256=hashlib.sha256(index).hexdigest(),
            sidecar_bytes=len(sidecar),
            sidecar_sha256=hashlib.sha256(sidecar).hexdigest(),
        )
        write_durably(self._path(".safetensors"), sidecar)
        write_durably(self._path(".idx"), index)
        write_durably(self._path(".stats.json"), statistics(record, self._profile, tuple(self._label_ids)))
        rename_durably(tar, self._path(".tar"))
        return record

    def _members(self, sample: Converted) -> dict[str, bytes]:
        members = {self._profile.video.container: sample.video, self._profile.audio.extension: sample.audio, "json": sample.info}
        return {extension: data for extension, data in members.items() if data is not None}

    def _audio_entry(self, sample: Converted, offset: int) -> AudioEntry:
        if self._profile.audio.codec == "pcm16":
            offset, data = offset + WAV_HEADER_BYTES, sample.audio[WAV_HEADER_BYTES:]
            crcs = crc_per_second(data, sample.audio_rate)
        else:
            data = sample.audio
            crcs = (crc32(data),)
        return AudioEntry(offset, len(data), sample.audio_samples, sample.audio_rate, crcs)

    def _append(self, name: str, data: bytes) -> int:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        self._tar.addfile(member, BytesIO(data))
        return self._tar.offset - _padded(len(data))

    def _path(self, suffix: str, partial: bool = False) -> Path:
        return self.folder / f"{self.name}{suffix}{PARTIAL if partial else ''}"


def statistics(record: ShardRecord, profile: Profile, classes: Sequence[str]) -> bytes:
    """The file `stats.json` of a shard: what it holds, for people and scripts; the shard's name is not in it."""
    found = {
        "samples": record.num_samples,
        "video_seconds": record.video_frames / profile.video.fps,
        "audio_seconds": record.audio_samples / profile.audio.sample_rate,
        "bytes": record.tar_bytes,
        "identity": record.identity,
        "classes": {label: count for label, count in zip(classes, record.class_samples, strict=True) if count},
    }
    return (json.dumps(found, indent=1) + "\n").encode()


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that, whatever happens, it is either complete under its name or not there."""
    partial = path.with_name(path.name + PARTIAL)
    partial.write_bytes(data)
    rename_durably(partial, path)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def rename_durably(source: Path, target: Path) -> None:
    """Give a file its name once its bytes are on disk."""
    sync(source)
    source.rename(target)
    sync(target.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _padded(size: int, block: int = tarfile.BLOCKSIZE) -> int:
    return -(-size // block) * block
