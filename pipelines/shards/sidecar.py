"""The sidecar of a shard: one row a sample with what a reader needs to know of it, as memory-mapped columns.

Two million json members cannot be opened at start; a sidecar opens in well under a millisecond, whatever its size. The file is in
the safetensors format: 8 bytes of header length, a json header, then the columns. A ragged column (lists of differing length) is
`NAME`, all values in one row after the other, and `NAME_offsets` [N + 1].
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

KEY_BYTES = 64
ROLES = ("unused", "train", "test")  # of a sample in a fold, as stored in the column fold_roles

Columns = dict[str, np.ndarray]

_DTYPES = {"U8": np.uint8, "U32": np.uint32, "I32": np.int32, "I64": np.int64}


@dataclass(frozen=True)
class VideoEntry:
    """A video member: where its bytes lie in the tar, their CRC32, and what they decode to; all 0 where there is none."""

    offset: int
    size: int
    crc: int
    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class AudioEntry:
    """An audio member: where its data lies in the tar, and what it decodes to; all 0 where there is none.

    Of pcm16 that is the PCM data past the wav header, with one CRC32 per second; of flac it is the member, with one CRC32.
    """

    offset: int
    size: int
    samples: int
    rate: int
    crcs: tuple[int, ...]


NO_VIDEO = VideoEntry(0, 0, 0, 0, 0, 0)
NO_AUDIO = AudioEntry(0, 0, 0, 0, ())


@dataclass(frozen=True)
class Entry:
    """One row of a sidecar; `roles[k]` is the sample's role in fold k, one of ROLES, `info_crc` the CRC32 of its json."""

    key: str
    labels: tuple[int, ...]
    video: VideoEntry
    audio: AudioEntry
    info_crc: int
    roles: tuple[str, ...] = ()


def pack(entries: Sequence[Entry]) -> Columns:
    """Entries of one dataset as columns; `unpack` is the inverse of one row."""
    return {
        "key": _pack_keys([entry.key for entry in entries]),
        **_pack_ragged("labels", [entry.labels for entry in entries], np.int32),
        "video_offset": np.array([entry.video.offset for entry in entries], np.int64),
        "video_size": np.array([entry.video.size for entry in entries], np.int64),
        "video_crc": np.array([entry.video.crc for entry in entries], np.uint32),
        "video_frames": np.array([entry.video.frames for entry in entries], np.int32),
        "video_height": np.array([entry.video.height for entry in entries], np.int32),
        "video_width": np.array([entry.video.width for entry in entries], np.int32),
        "audio_offset": np.array([entry.audio.offset for entry in entries], np.int64),
        "audio_size": np.array([entry.audio.size for entry in entries], np.int64),
        "audio_samples": np.array([entry.audio.samples for entry in entries], np.int64),
        "audio_rate": np.array([entry.audio.rate for entry in entries], np.int32),
        **_pack_ragged("audio_crc", [entry.audio.crcs for entry in entries], np.uint32),
        "info_crc": np.array([entry.info_crc for entry in entries], np.uint32),
        "fold_roles": _pack_roles([entry.roles for entry in entries]),
    }


def unpack(columns: Columns, row: int) -> Entry:
    """The entry at a row."""
    video = VideoEntry(*(int(columns[f"video_{field}"][row]) for field in ("offset", "size", "crc", "frames", "height", "width")))
    sound = (int(columns[f"audio_{field}"][row]) for field in ("offset", "size", "samples", "rate"))
    audio = AudioEntry(*sound, _ragged_row(columns, "audio_crc", row))
    roles = tuple(ROLES[role] for role in columns["fold_roles"][row])
    return Entry(unpack_key(columns, row), _ragged_row(columns, "labels", row), video, audio, int(columns["info_crc"][row]), roles)


def unpack_key(columns: Columns, row: int) -> str:
    """The key at a row."""
    return columns["key"][row].tobytes().rstrip(b"\0").decode("ascii")


def serialize(columns: Columns) -> bytes:
    """The sidecar file of the columns."""
    return save(columns)


def open_sidecar(path: Path) -> Columns:
    """The columns of a sidecar file as read-only views of a memory map."""
    data = np.memmap(path, np.uint8, mode="r")
    header_size = int(data[:8].view("<u8")[0])
    header = json.loads(data[8 : 8 + header_size].tobytes())
    body = data[8 + header_size :]
    return {name: _view(body, **column) for name, column in header.items() if name != "__metadata__"}


def _view(body: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    begin, end = data_offsets
    return body[begin:end].view(_DTYPES[dtype]).reshape(shape)


def _pack_keys(keys: Sequence[str]) -> np.ndarray:
    assert all(len(key) <= KEY_BYTES for key in keys), keys
    padded = b"".join(key.encode("ascii").ljust(KEY_BYTES, b"\0") for key in keys)
    return np.frombuffer(padded, np.uint8).reshape(len(keys), KEY_BYTES)


def _pack_roles(rows: Sequence[Sequence[str]]) -> np.ndarray:
    num_folds = len(rows[0]) if rows else 0
    return np.array([[ROLES.index(role) for role in row] for row in rows], np.uint8).reshape(len(rows), num_folds)


def _pack_ragged(name: str, rows: Sequence[Sequence[int]], dtype) -> Columns:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return {name: np.array([value for row in rows for value in row], dtype), f"{name}_offsets": offsets}


def _ragged_row(columns: Columns, name: str, row: int) -> tuple[int, ...]:
    begin, end = columns[f"{name}_offsets"][row : row + 2]
    return tuple(columns[name][begin:end].tolist())
