"""Caches of twelve shards of equal size, and what is in them."""

import time

from xkd.pipelines.store.cache import ShardCache
from xkd.pipelines.store.download import Patience
from xkd.pipelines.store.remote import open_remote

NUM_SHARDS = 12
QUICK = Patience(tries=3, first_wait_seconds=0.01)
FOREVER = 1000.0
NAMES = [f"train-{number:06d}" for number in range(NUM_SHARDS)]


def open_cache(server, folder, limit_bytes=None, **options):
    return ShardCache(open_remote(server.url), folder, limit_bytes, patience=QUICK, **options)


def tars(folder):
    return sorted(path.stem for path in folder.glob("*/*.tar"))


def read(files, name):
    """The bytes of a shard, asked for again when it goes before it is opened."""
    while True:
        try:
            return files.ensure(name).read_bytes()
        except FileNotFoundError:
            continue


def original(server, name):
    return (server.folder / f"{name}.tar").read_bytes()


def wait_until(condition):
    while not condition():
        time.sleep(0.01)
