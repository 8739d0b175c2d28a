"""Shards come into a cache when they are needed or announced, once; what cannot be read is an error."""

import gc
import itertools
import threading

import pytest

from tests.pipelines.shard_server import Fault
from tests.pipelines.store.cache.caches import FOREVER, NAMES, QUICK, open_cache, original, read, tars, wait_until
from xkd.pipelines.shards.shard_files import Stopped, StorageError
from xkd.pipelines.store.cache import ShardCache
from xkd.pipelines.store.download import Patience
from xkd.pipelines.store.remote import open_remote


def test_a_shard_is_copied_when_it_is_needed_and_once(server, tmp_path):
    cache = open_cache(server, tmp_path)
    assert tars(tmp_path) == []
    for _ in range(2):
        assert read(cache, NAMES[3]) == original(server, NAMES[3])
    assert tars(tmp_path) == [NAMES[3]]
    assert len(server.of("train-000003.tar")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["lock", cache.folder.name])
    for name in ("manifest.json", *(f"{name}.safetensors" for name in NAMES)):
        assert (cache.folder / name).read_bytes() == (server.folder / name).read_bytes()


def test_threads_that_need_one_shard_copy_it_once(server, tmp_path):
    cache = open_cache(server, tmp_path)
    found = []
    threads = [threading.Thread(target=lambda: found.append(read(cache, NAMES[0]))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [original(server, NAMES[0])] * 16
    assert len(server.of("train-000000.tar")) == 1


def test_shards_that_are_announced_come_in_the_background(server, tmp_path):
    cache = open_cache(server, tmp_path)
    cache.ahead(NAMES[2:6])
    wait_until(lambda: tars(tmp_path) == NAMES[2:6])
    assert {name for name, _, _ in server.served if name.endswith(".tar")} == {f"{name}.tar" for name in NAMES[2:6]}
    cache.close()


def test_a_sidecar_that_changed_on_the_disk_is_copied_again_and_a_tar_of_another_size_too(server, tmp_path):
    cache = open_cache(server, tmp_path)
    path = cache.ensure(NAMES[1])
    path.write_bytes(b"cut")
    sidecar = cache.folder / f"{NAMES[2]}.safetensors"
    sidecar.write_bytes(bytes(sidecar.stat().st_size))
    again = open_cache(server, tmp_path)
    assert sidecar.read_bytes() == (server.folder / sidecar.name).read_bytes()
    assert read(again, NAMES[1]) == original(server, NAMES[1])
    assert len(server.of(sidecar.name)) == 2


def test_a_sidecar_that_is_damaged_at_the_remote_is_refused(server, tmp_path):
    server.faults[f"{NAMES[1]}.safetensors"] = itertools.repeat(Fault(flip=40))
    with pytest.raises(StorageError, match=rf"{NAMES[1]}\.safetensors: its sha256 is not that of the manifest"):
        open_cache(server, tmp_path)
    assert not list(tmp_path.glob(f"*/{NAMES[1]}.safetensors"))


def test_a_shard_that_cannot_be_read_is_an_error_each_time_and_the_others_are_not_hurt(server, tmp_path):
    (path := server.folder / f"{NAMES[0]}.tar").rename(path.with_suffix(".away"))
    try:
        cache = open_cache(server, tmp_path)
        cache.ahead(NAMES[:2])
        for _ in range(2):
            with pytest.raises(StorageError, match=rf"{NAMES[0]}\.tar: cannot be read"):
                cache.ensure(NAMES[0])
        assert read(cache, NAMES[1]) == original(server, NAMES[1])
        assert tars(tmp_path) == [NAMES[1]]
    finally:
        path.with_suffix(".away").rename(path)


def test_all_who_wait_for_a_shard_that_fails_get_the_error_of_one_attempt(server, tmp_path):
    server.faults[f"{NAMES[0]}.tar"] = itertools.repeat(Fault(status=500))
    cache = open_cache(server, tmp_path)
    errors = []

    def wait():
        with pytest.raises(StorageError, match=r"3 times in a row \(http status 500\)") as raised:
            cache.ensure(NAMES[0])
        errors.append(raised.value)

    threads = [threading.Thread(target=wait) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 16
    assert len(server.of("train-000000.tar")) == QUICK.tries


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(cut=1000, stall_seconds=FOREVER)], ids=["backing off", "stalled"])
def test_who_need_not_wait_any_more_does_not(server, tmp_path, fault):
    """While the remote fails, and while it stalls, in the thread that waits and in one that waits for it."""
    server.faults[f"{NAMES[0]}.tar"] = itertools.repeat(fault)
    cache = ShardCache(open_remote(server.url), tmp_path, patience=Patience(tries=1000, first_wait_seconds=1000.0))
    stop, ended = threading.Event(), []

    def wait():
        with pytest.raises(Stopped):
            cache.ensure(NAMES[0], stop)
        ended.append(True)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.of("train-000000.tar"))
    stop.set()
    for thread in threads:
        thread.join()
    assert ended == [True, True]
    assert read(cache, NAMES[1]) == original(server, NAMES[1])


def fill_threads():
    return [thread for thread in threading.enumerate() if thread.name == "shard-cache"]


@pytest.mark.parametrize("end", ["close", "collect"])
def test_no_thread_stays_behind(server, tmp_path, end):
    gc.collect()
    wait_until(lambda: not fill_threads())  # those of other tests
    cache = open_cache(server, tmp_path)
    cache.ahead(NAMES[:3])
    wait_until(lambda: tars(tmp_path) == NAMES[:3])
    assert fill_threads()
    if end == "close":
        cache.close()
    else:
        del cache
        gc.collect()
    wait_until(lambda: not fill_threads())


def test_a_closed_cache_takes_announcements_and_gives_nothing(server, tmp_path):
    cache = open_cache(server, tmp_path)
    cache.ensure(NAMES[0])
    cache.close()
    cache.ahead(NAMES[:3])
    cache.ahead([])
    assert cache.ensure(NAMES[0]).exists()
    with pytest.raises(Stopped):
        cache.ensure(NAMES[1])


def test_names_that_lie_elsewhere_are_refused(server, tmp_path, shards):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "manifest.json").write_text((shards / "manifest.json").read_text().replace("train-000003", "../train-000003"))
    with pytest.raises(ValueError, match=r"manifest\.json: names a shard '\.\./train-000003'; a name has letters"):
        ShardCache(open_remote(str(folder)), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
