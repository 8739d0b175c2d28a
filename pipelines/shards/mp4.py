"""Checks the index of a stored mp4, and the sizes of its frames, before a decoder trusts them.

DALI 2.4 does not: pictures larger than the index says are written past the end of its buffers, an index of which no frame can be
read ends the process, and frames that are not there come out black without an error, as does what a smaller frame leaves open.
"""

import struct
from collections.abc import Iterator

import numpy as np

from xkd.pipelines.shards.frame_shape import frame_shape
from xkd.pipelines.shards.sidecar import VideoEntry

Span = tuple[int, int]

SIZE_IN_STSD = 8 + 32  # of the pictures, behind the box's own fields and those that every sample entry begins with


def index_fault(data: bytes | np.ndarray, video: VideoEntry) -> str | None:
    """In what an mp4 of one video track differs from its row of the sidecar, or None."""
    data = memoryview(data)
    try:
        table = (0, len(data))
        for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            table = dict(boxes_in(data, table))[name]
        boxes = dict(boxes_in(data, table))
        width, height = struct.unpack_from(">HH", data, boxes[b"stsd"][0] + SIZE_IN_STSD)
        sizes = frame_sizes(data, boxes[b"stsz"])
        places = _places(data, boxes, sizes) if len(sizes) else sizes
    except (KeyError, ValueError, IndexError, struct.error):
        return "is no mp4 with a readable index of one video"
    if (height, width) != (video.height, video.width):
        return f"has pictures of {width}x{height}, but {video.width}x{video.height} in the sidecar"
    if len(sizes) != video.frames:
        return f"lists {len(sizes)} frames, but has {video.frames} in the sidecar"
    if (end := int((places + sizes).max(initial=0))) > len(data):
        return f"ends after {len(data)} bytes, but its index leads up to {end}"
    for place, size in zip(places.tolist(), sizes.tolist(), strict=True):
        if (found := frame_shape(data[place : place + size])) not in (None, (height, width)):
            return f"has a frame of {found[1]}x{found[0]} among its pictures of {width}x{height}"
    return None


def boxes_in(data: memoryview, span: Span) -> Iterator[tuple[bytes, Span]]:
    """The boxes in a stretch: their type, and where their content lies."""
    begin, end = span
    while begin < end:
        size, name = struct.unpack_from(">I4s", data, begin)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, begin + 8)[0], 16
        if not header <= size <= end - begin:
            break  # what lies behind is not readable; what is missing is found out by its absence
        yield name, (begin + header, begin + size)
        begin += size


def frame_sizes(data: memoryview, span: Span) -> np.ndarray:
    """The bytes of each frame."""
    common, count = struct.unpack_from(">II", data, span[0] + 4)
    return np.full(min(count, len(data)), common) if common else numbers(data, span[0] + 12, count, ">u4")


def _places(data: memoryview, boxes: dict[bytes, Span], sizes: np.ndarray) -> np.ndarray:
    """Where each frame begins: frames lie in chunks one after another, stretches of chunks hold equally many."""
    name, dtype = (b"stco", ">u4") if b"stco" in boxes else (b"co64", ">u8")
    chunks = numbers(data, boxes[name][0] + 8, *struct.unpack_from(">I", data, boxes[name][0] + 4), dtype)
    begin = boxes[b"stsc"][0]
    runs = numbers(data, begin + 8, 3 * struct.unpack_from(">I", data, begin + 4)[0], ">u4").reshape(-1, 3)
    num_chunks = np.diff([*runs[:, 0], len(chunks) + 1])
    frames = np.repeat(runs[:, 1], num_chunks)
    if frames.sum() != len(sizes) or not frames.all():
        raise ValueError("the frames of the chunks are not those of the track")
    before = np.cumsum([0, *sizes[:-1]])
    return before + np.repeat(chunks - before[np.cumsum([0, *frames[:-1]])], frames)


def numbers(data: memoryview, begin: int, count: int, dtype: str) -> np.ndarray:
    return np.frombuffer(data, dtype, count, begin).astype(np.int64)
