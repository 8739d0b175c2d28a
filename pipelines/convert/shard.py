"""Writes one shard: a USTAR tar, its DALI index, and its sidecar.

The standard library's tarfile says at which byte each member begins, which webdataset's writer does not, and puts no time and no
owner into the headers: the same samples give the same bytes.
"""

import hashlib
import os
import tarfile
from io import BytesIO
from pathlib import Path
from zlib import crc32

from xkd.pipelines.convert.sample import Converted
from xkd.pipelines.manifest import ShardRecord
from xkd.pipelines.media.encode import WAV_HEADER_BYTES
from xkd.pipelines.read import crc_per_second
from xkd.pipelines.sidecar import AudioEntry, Entry, VideoEntry, pack, serialize

PARTIAL = ".partial"
SHARD_SUFFIXES = (".tar", ".idx", ".safetensors")


class ShardWriter:
    """A shard under construction; its files have their final names only after `finish`, without which nothing is left of it."""

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        self.name = name
        self._tar = tarfile.TarFile(self._path(".tar", partial=True), "w", format=tarfile.USTAR_FORMAT)
        self._entries: list[Entry] = []
        self._index_lines: list[str] = []

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_) -> None:
        self._tar.close()
        self._path(".tar", partial=True).unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, sample: Converted, label_ids: tuple[int, ...]) -> None:
        """Append a sample's members: `{key}.mp4`, `{key}.wav`, `{key}.json`."""
        members = {"mp4": sample.video, "wav": sample.audio, "json": sample.info}
        offsets = {extension: self._append(f"{sample.key}.{extension}", data) for extension, data in members.items()}
        self._index_lines.append(" ".join(f"{ext} {offsets[ext]} {len(data)} {sample.key}.{ext}" for ext, data in members.items()))
        crcs = crc_per_second(sample.audio[WAV_HEADER_BYTES:], sample.audio_rate)
        video = VideoEntry(offsets["mp4"], len(sample.video), crc32(sample.video), sample.frames, sample.height, sample.width)
        audio = AudioEntry(offsets["wav"] + WAV_HEADER_BYTES, sample.audio_samples, sample.audio_rate, crcs)
        self._entries.append(Entry(sample.key, label_ids, video, audio))

    def finish(self) -> ShardRecord:
        """Make the shard durable under its final names; the tar gets its name last."""
        self._tar.close()
        sidecar = serialize(pack(self._entries))
        index = "\n".join([f"v1.2 {len(self._entries)}", *self._index_lines, ""]).encode()
        tar = self._path(".tar", partial=True)
        record = ShardRecord(
            name=self.name,
            num_samples=len(self._entries),
            video_frames=sum(entry.video.frames for entry in self._entries),
            audio_samples=sum(entry.audio.samples for entry in self._entries),
            tar_bytes=tar.stat().st_size,
            tar_sha256=sha256_of(tar),
            sidecar_bytes=len(sidecar),
            sidecar_sha256=hashlib.sha256(sidecar).hexdigest(),
        )
        write_durably(self._path(".safetensors"), sidecar)
        write_durably(self._path(".idx"), index)
        _rename_durably(tar, self._path(".tar"))
        return record

    def _append(self, name: str, data: bytes) -> int:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        self._tar.addfile(member, BytesIO(data))
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return self._tar.offset - padded

    def _path(self, suffix: str, partial: bool = False) -> Path:
        return self.folder / f"{self.name}{suffix}{PARTIAL if partial else ''}"


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that, whatever happens, it is either complete under its name or not there."""
    partial = path.with_name(path.name + PARTIAL)
    partial.write_bytes(data)
    _rename_durably(partial, path)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _rename_durably(source: Path, target: Path) -> None:
    _sync(source)
    source.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
