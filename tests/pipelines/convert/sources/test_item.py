import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from xkd.pipelines.convert.sources.item import Item
from xkd.pipelines.sidecar import KEY_BYTES

names = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=200).filter(lambda name: name not in (".", ".."))


def key(name):
    return Item(Path(name), name, (), "train").key


@given(name=names)
def test_a_key_suits_every_tar_reader_whatever_the_name(name):
    assert re.fullmatch(r"[A-Za-z0-9_-]+", key(name))
    assert len(key(name)) <= KEY_BYTES


def test_a_key_shows_the_name_and_differs_between_folders():
    assert key("a/v_Swing g01.c02.mp4").startswith("v_Swing-g01-c02-")
    assert key("a/1.mp4") != key("b/1.mp4")
    assert key("a/1.mp4") == key("a/1.mp4")
