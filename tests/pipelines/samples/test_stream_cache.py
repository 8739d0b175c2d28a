"""Streams whose shards pass through a small cache, by what is on the disk and what comes out."""

from pathlib import Path

import pytest

from tests.pipelines.small_disk import on_a_small_disk_run
from tests.pipelines.streams import config, stream
from xkd.benchmarks.random_shards import write_random_shards
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.store.opening import open_shards

SETTINGS = {"clip_seconds": 0.25, "block_shards": 4, "read_ahead": 8, "max_bad_share": 0.0}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A set of 60 shards of equal size, about 200 kB."""
    folder = tmp_path_factory.mktemp("cached") / "shards"
    return write_random_shards(folder, samples=1200, shard_samples=20, video_bytes=500, seconds=0.2)


@pytest.fixture(scope="module")
def tar_bytes(shards):
    return max(path.stat().st_size for path in shards.glob("*.tar"))


def keys(steps) -> list[str]:
    return [example.sample.key for step in steps for example in step.examples]


def bytes_on_the_disk(folder: Path) -> int:
    """Of tars below a folder that have a name, and of those without one that this process has open for reading."""
    found = {}
    for path in (*folder.glob("*/*.tar"), *Path("/proc/self/fd").iterdir()):
        try:
            if ".tar" in str(path.readlink() if path.parent.name == "fd" else path):
                status = path.stat()
                found[status.st_dev, status.st_ino] = status.st_size
        except FileNotFoundError:
            continue
    return sum(found.values())


def test_a_cache_keeps_to_its_limit_what_is_removed_but_open_included(shards, tar_bytes, tmp_path):
    data = config(**SETTINGS, cache_dir=tmp_path, cache_bytes=34 * tar_bytes)
    most, delivered = 0, []
    with stream(open_shards(shards, data), config=data) as one:
        for epoch in range(2):
            for step in one.epoch(epoch):
                delivered += keys([step])
                most = max(most, bytes_on_the_disk(tmp_path))
    assert 30 * tar_bytes < most <= 34 * tar_bytes
    with stream(ShardSet.open(shards), config=config(**SETTINGS)) as local:
        assert delivered == keys(local.epoch(0)) + keys(local.epoch(1))


READ = f"""
import sys
from tests.pipelines.samples.test_stream_cache import config, keys, open_shards, stream
folder, shards = sys.argv[1:]
data = config(**{SETTINGS!r}, cache_dir=folder)
with stream(open_shards(shards, data), config=data) as one:
    print(*keys(one.epoch(0)))
"""


def test_a_disk_smaller_than_what_is_at_hand_still_delivers_an_epoch(shards, tar_bytes, tmp_path):
    """No limit is set, and the disk holds 18 tars, of which some are open that are removed for others."""
    done = on_a_small_disk_run(tmp_path, 18 * tar_bytes + 2**20, 0, READ, tmp_path, shards)
    assert (done.returncode, done.stderr) == (0, "")
    with stream(ShardSet.open(shards), config=config(**SETTINGS)) as local:
        assert done.stdout.split() == keys(local.epoch(0))
