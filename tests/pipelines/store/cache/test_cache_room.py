"""Which tars make way where the cache has a limit."""

import os
import time

import pytest

from tests.pipelines.store.cache.caches import NAMES, open_cache, original, read, tars, wait_until
from xkd.pipelines.store.cache import ShardCache
from xkd.pipelines.store.cache_room import Refusal, Room
from xkd.pipelines.store.remote import open_remote


def test_the_tar_unused_for_longest_makes_way(server, tmp_path, tar_bytes):
    cache = open_cache(server, tmp_path, 3 * tar_bytes)
    for name in (NAMES[0], NAMES[1], NAMES[2], NAMES[0], NAMES[3]):
        cache.ensure(name)
    assert tars(tmp_path) == [NAMES[0], NAMES[2], NAMES[3]]


def test_tars_that_lie_beside_the_sets_of_the_cache_never_make_way(server, tmp_path, tar_bytes):
    mine = tmp_path / "my-shards" / "train-000000.tar"
    mine.parent.mkdir()
    mine.write_bytes(bytes(tar_bytes))
    cache = open_cache(server, tmp_path, 2 * tar_bytes)
    for name in NAMES[:4]:
        cache.ensure(name)
    assert tars(cache.folder.parent) == sorted([*NAMES[2:4], mine.stem])
    assert mine.stat().st_size == tar_bytes


def test_the_room_of_a_removed_tar_is_free_even_where_it_is_open_but_not_that_of_one_with_another_name(server, tmp_path, tar_bytes):
    cache = open_cache(server, tmp_path / "cache", 2 * tar_bytes)
    with cache.ensure(NAMES[0]).open("rb") as opened, cache.ensure(NAMES[1]).open("rb") as linked:
        os.link(linked.name, tmp_path / "mine.tar")
        for name in NAMES[2:4]:
            cache.ensure(name)
        assert (os.fstat(opened.fileno()).st_nlink, os.fstat(opened.fileno()).st_size) == (0, 0)
    assert (tmp_path / "mine.tar").read_bytes() == original(server, NAMES[1])


def test_filling_ahead_stops_at_the_limit_and_goes_on_when_the_window_moves(server, tmp_path, tar_bytes):
    """What is announced is not removed for what comes after it."""
    cache = open_cache(server, tmp_path, 3 * tar_bytes)
    cache.ensure(NAMES[11])
    cache.ahead(NAMES[:6])
    wait_until(lambda: len(tars(tmp_path)) == 3 and NAMES[11] not in tars(tmp_path))
    first = tars(tmp_path)
    assert set(first) < set(NAMES[:6])
    time.sleep(0.3)  # time in which a wrong one could come
    assert tars(tmp_path) == first
    cache.ahead(NAMES[2:6])
    wait_until(lambda: len(tars(tmp_path)) == 3 and set(tars(tmp_path)) < set(NAMES[2:6]))
    cache.close()


def test_what_another_reader_has_announced_is_the_last_to_make_way(server, tmp_path, tar_bytes):
    one, other = (open_cache(server, tmp_path, 3 * tar_bytes) for _ in range(2))
    one.ahead([NAMES[0]])
    wait_until(lambda: tars(tmp_path) == [NAMES[0]])
    for name in NAMES[1:6]:
        other.ensure(name)
        assert NAMES[0] in tars(tmp_path)
    one.ahead([])
    other.ensure(NAMES[6])
    other.ensure(NAMES[7])
    assert NAMES[0] not in tars(tmp_path)


def test_the_limit_holds_for_all_sets_of_a_folder(server, shards, tmp_path, tar_bytes):
    there = open_cache(server, tmp_path, 3 * tar_bytes)
    here = ShardCache(open_remote(str(shards)), tmp_path, 3 * tar_bytes)
    assert there.folder != here.folder
    for name in NAMES[:3]:
        there.ensure(name)
    for name in NAMES[:2]:
        assert read(here, name) == original(server, name)
    assert len(tars(tmp_path)) == 3


def test_a_limit_below_the_largest_shard_is_refused(server, tmp_path, tar_bytes):
    with pytest.raises(ValueError, match=rf"data\.cache_bytes: {tar_bytes - 1} is less than the largest shard .* {tar_bytes}; set"):
        open_cache(server, tmp_path, tar_bytes - 1)


def test_what_a_kill_left_under_a_partial_name_is_swept_unless_it_is_being_written(server, tmp_path):
    """Where the file system has no files without names."""
    cache = open_cache(server, tmp_path)
    part = cache.folder / f"{NAMES[0]}.tar.part"
    part.touch()
    with Room(tmp_path, None, True).writing(cache.folder / f"{NAMES[0]}.tar", 1000) as writing:
        assert not isinstance(writing, Refusal)
        open_cache(server, tmp_path)
        assert part.exists()
    open_cache(server, tmp_path)
    assert not part.exists()
