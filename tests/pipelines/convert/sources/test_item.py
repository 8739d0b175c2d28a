import re
from pathlib import Path

import av
from hypothesis import given
from hypothesis import strategies as st

from tests.media import write_clip
from xkd.pipelines.convert.sources.item import Item, Location
from xkd.pipelines.shards.sidecar import KEY_BYTES

names = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=200).filter(lambda name: name not in (".", ".."))


def key(name):
    return Item(Location(Path("x")), name, (), "train").key


@given(name=names)
def test_a_key_suits_every_tar_reader_whatever_the_name(name):
    assert re.fullmatch(r"[A-Za-z0-9_-]+", key(name))
    assert len(key(name)) <= KEY_BYTES


def test_a_key_shows_the_name_and_differs_between_folders():
    assert key("a/v_Swing g01.c02.mp4").startswith("v_Swing-g01-c02-")
    assert key("a/1.mp4") != key("b/1.mp4")
    assert key("a/1.mp4") == key("a/1.mp4")


def test_a_part_of_a_file_is_a_file(tmp_path):
    (tmp_path / "data.tar").write_bytes(bytes(range(100)))
    part = Location(tmp_path / "data.tar", "member", offset=10, size=20)
    whole = Location(tmp_path / "data.tar")
    assert part.read_bytes() == bytes(range(10, 30))
    assert whole.read_bytes() == bytes(range(100))
    assert (part.num_bytes(), whole.num_bytes()) == (20, 100)
    with part.open() as file:
        assert (file.seek(-5, 2), file.read(100)) == (15, bytes(range(25, 30)))
        assert (file.seek(3), file.read(2), file.tell()) == (3, bytes([13, 14]), 5)
        assert (file.seek(50), file.read(1)) == (50, b"")
    with Location(tmp_path / "data.tar", "end", offset=95, size=20).open() as file:  # of a tar that was cut meanwhile
        assert file.read() == bytes(range(95, 100))


def test_a_location_reads_as_a_media_file(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", seconds=1.0)
    (tmp_path / "data.tar").write_bytes(b"before" + clip.read_bytes() + b"after")
    part = Location(tmp_path / "data.tar", "clip.mp4", offset=6, size=clip.stat().st_size)
    with part.open() as file, av.open(file) as container:
        assert len(list(container.decode(video=0))) == 8
