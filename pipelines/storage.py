"""Opens shard sets wherever they lie: the one door for everyone who has a configuration."""

from pathlib import Path

from xkd.pipelines.config import DataConfig
from xkd.pipelines.index import ShardSet


def open_shards(location: str | Path, data: DataConfig) -> ShardSet:
    """The shard set at a location."""
    return ShardSet.open(location)
