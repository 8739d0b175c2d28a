import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipelines.bad_media import ODD, REFUSED, UNDECODABLE, index_first, remuxed, stored
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.mp4 import index_fault
from xkd.pipelines.shards.sidecar import VideoEntry


@pytest.fixture(scope="module")
def sample(tiny_shards):
    return stored(ShardSet.open(tiny_shards), 0)


def fault(sample):
    video = VideoEntry(0, len(sample.video), 0, sample.frames, sample.height, sample.width)
    return index_fault(sample.video, video)


def test_what_the_converter_writes_has_no_fault(tiny_shards):
    shards = ShardSet.open(tiny_shards)
    assert [fault(stored(shards, index)) for index in range(len(shards))] == [None] * len(shards)


@pytest.mark.parametrize("kind", [kind for kind, facts in REFUSED.items() if "audio" not in facts.reason])
def test_an_index_at_odds_with_the_sidecar_is_a_fault(sample, kind):
    assert fault(REFUSED[kind].make(sample))


@pytest.mark.parametrize("kind", ODD | UNDECODABLE)
def test_an_index_that_keeps_its_word_is_none(sample, kind):
    assert fault((ODD | UNDECODABLE)[kind].make(sample)) is None


def test_the_last_frame_may_end_with_the_file_and_not_behind_it(sample):
    data = index_first(sample.video)
    assert fault(replace(sample, video=data)) is None
    assert fault(replace(sample, video=data[:-1])) == f"ends after {len(data) - 1} bytes, but its index leads up to {len(data)}"


def test_frames_in_many_chunks_are_all_followed(sample):
    """A second track between them cuts the frames of the first in chunks; here there is one frame a chunk, by hand."""
    data = sample.video
    place = data.rfind(b"stco") - 4
    sizes = np.frombuffer(data, ">u4", sample.frames, data.rfind(b"stsz") + 16).astype(int)
    first = struct.unpack_from(">I", data, place + 16)[0]
    offsets = first + np.cumsum([0, *sizes[:-1]])
    table = b"stco" + struct.pack(">II", 0, sample.frames) + offsets.astype(">u4").tobytes()
    boxes = {b"stsc": b"stsc" + struct.pack(">IIIII", 0, 1, 1, 1, 1), b"stco": table}
    cut = rebuilt(data, boxes)
    assert fault(replace(sample, video=cut)) is None
    behind = rebuilt(data, boxes | {b"stco": table[:-4] + struct.pack(">I", 2 * len(data))})
    assert "its index leads up to" in fault(replace(sample, video=behind))


def rebuilt(data, boxes):
    """The mp4, its index last, with other tables in it."""
    path = (b"moov", b"trak", b"mdia", b"minf", b"stbl")

    def rebuild(content, depth):
        parts, place = [], 0
        while place < len(content):
            size, name = struct.unpack_from(">I4s", content, place)
            body = content[place + 4 : place + size]
            if depth < len(path) and name == path[depth]:
                body = name + rebuild(content[place + 8 : place + size], depth + 1)
            elif name in boxes:
                body = boxes[name]
            parts.append(struct.pack(">I", len(body) + 4) + body)
            place += size
        return b"".join(parts)

    return rebuild(data, 0)


def test_a_video_without_frames_is_named_so(sample):
    empty = remuxed([sample.video], lambda place: False, movflags="empty_moov")
    assert fault(replace(sample, video=empty)) == f"lists 0 frames, but has {sample.frames} in the sidecar"


@given(st.data())
def test_no_damage_makes_the_check_itself_fail(sample, data):
    """Whatever the bytes, the answer is a fault or none: and what it lets through leads nowhere outside of the file."""
    damaged = bytearray(sample.video)
    begin = damaged.rfind(b"moov")
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(begin, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    found = fault(replace(sample, video=cut))
    assert found is None or isinstance(found, str)
    if len(cut) < len(damaged) - 200:
        assert found
