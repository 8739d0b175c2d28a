"""A set of twelve shards of equal size behind a server that can fail."""

import pytest

from tests.pipelines.shard_server import ShardServer
from tests.pipelines.store.cache.caches import NUM_SHARDS
from xkd.benchmarks.random_shards import write_random_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A set of 12 shards of equal size, about 300 kB."""
    folder = tmp_path_factory.mktemp("cache") / "shards"
    return write_random_shards(folder, samples=NUM_SHARDS, shard_samples=1, video_bytes=300_000, seconds=0.125)


@pytest.fixture
def server(shards):
    with ShardServer(shards) as server:
        yield server


@pytest.fixture
def tar_bytes(shards):
    (size,) = {path.stat().st_size for path in shards.glob("*.tar")}
    return size
