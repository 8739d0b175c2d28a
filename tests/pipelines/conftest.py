"""Sets of shards that many tests read: real media, and many small samples of random bytes, which nothing decodes."""

import pytest

from tests.pipelines.damage import copy_with_damage
from tests.pipelines.streams import DAMAGED
from xkd.benchmarks.random_shards import write_random_shards
from xkd.pipelines.shards.index import ShardSet


@pytest.fixture(scope="session")
def shards(tiny_shards):
    """The samples of `tiny_shards`."""
    return ShardSet.open(tiny_shards)


@pytest.fixture(scope="session")
def many_shards(tmp_path_factory):
    """A folder of 100 samples of 2 s in 15 shards of 7 (the last of 2)."""
    folder = tmp_path_factory.mktemp("many shards") / "shards"
    return write_random_shards(folder, samples=100, shard_samples=7, video_bytes=500, seconds=2.0)


@pytest.fixture(scope="session")
def healthy(many_shards):
    """The samples of `many_shards`."""
    return ShardSet.open(many_shards)


@pytest.fixture(scope="session")
def damaged(healthy, tmp_path_factory):
    """A copy of them in which those of DAMAGED are damaged."""
    return copy_with_damage(healthy, tmp_path_factory.mktemp("damaged") / "copy", *DAMAGED)
