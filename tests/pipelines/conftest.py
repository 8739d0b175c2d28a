"""Shards of random bytes: many samples, quickly made, that nothing decodes."""

import pytest

from xkd.benchmarks.random_shards import write_random_shards


@pytest.fixture(scope="session")
def many_shards(tmp_path_factory):
    """A folder of 100 samples of 2 s in 15 shards of 7 (the last of 2)."""
    folder = tmp_path_factory.mktemp("many shards") / "shards"
    return write_random_shards(folder, samples=100, shard_samples=7, video_bytes=500, seconds=2.0)
