"""Cuts a stored mp4 down to the groups of pictures that a clip needs.

DALI 2.4's decoder does not go to the key frame before the first frame asked for: it decodes every frame from the beginning of the
file on, on average 24 of a 10 s clip for 32 that are used. In what is left here they are not there.
"""

import struct

import numpy as np

from xkd.pipelines.shards.mp4 import Span, boxes_in, frame_sizes, numbers

PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
# Not of the frames that are left: what is known of the whole, and the edit list, which says how long it is shown.
DROPPED = (b"edts", b"udta")


def trimmed(video: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An mp4 that decodes to the same `frames`, from the key frame before the first to the last, and their numbers in it.

    A video with one track and an index without fault (mp4.index_fault). It comes back as it is unless its frames lie one after
    another, at one rate, in the order in which they are shown, as those of the converter do.
    """
    data = memoryview(video)
    try:
        top = dict(boxes_in(data, (0, len(data))))
        table = top[b"moov"]
        for name in PARENTS[1:]:
            table = dict(boxes_in(data, table))[name]
        tables = dict(boxes_in(data, table))
        if b"ctts" in tables or not _count(data, tables[b"stts"]) == _count(data, tables[b"stco"]) == 1:
            return video, frames
        sync = numbers(data, tables[b"stss"][0] + 8, _count(data, tables[b"stss"]), ">u4") - 1 if b"stss" in tables else None
    except (KeyError, ValueError, struct.error):
        return video, frames
    first, end = int(frames.min()), int(frames.max()) + 1
    if sync is not None:
        before = sync[sync <= first]
        first = int(before.max()) if len(before) else 0
    sizes = frame_sizes(data, tables[b"stsz"])
    places = _number(data, tables[b"stco"], 8) + np.cumsum([0, *sizes])
    head = _box(b"ftyp", data[slice(*top[b"ftyp"])])
    new = {
        b"stts": struct.pack(">IIII", 0, 1, end - first, _number(data, tables[b"stts"], 12)),
        b"stsz": struct.pack(">III", 0, 0, end - first) + sizes[first:end].astype(">u4").tobytes(),
        b"stsc": struct.pack(">IIIII", 0, 1, 1, end - first, 1),
        b"stco": struct.pack(">III", 0, 1, len(head) + 8),
    }
    if sync is not None:
        kept = sync[(sync >= first) & (sync < end)] - first + 1
        new[b"stss"] = struct.pack(">II", 0, len(kept)) + kept.astype(">u4").tobytes()
    pictures = _box(b"mdat", data[places[first] : places[end]])
    whole = head + pictures + _box(b"moov", _rebuilt(data, top[b"moov"], new))
    return np.frombuffer(whole, np.uint8), frames - np.int32(first)


def _count(data: memoryview, span: Span) -> int:
    return _number(data, span, 4)


def _number(data: memoryview, span: Span, offset: int) -> int:
    return struct.unpack_from(">I", data, span[0] + offset)[0]


def _rebuilt(data: memoryview, span: Span, new: dict[bytes, bytes]) -> bytes:
    """The boxes in a stretch with other contents for some of them."""
    parts = []
    for name, (begin, end) in boxes_in(data, span):
        if name in DROPPED:
            continue
        content = new[name] if name in new else _rebuilt(data, (begin, end), new) if name in PARENTS else data[begin:end]
        parts.append(_box(name, content))
    return b"".join(parts)


def _box(name: bytes, content: bytes | memoryview) -> bytes:
    return struct.pack(">I4s", len(content) + 8, name) + content
