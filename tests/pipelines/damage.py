"""Damage done to shards after they were written."""

import shutil
from pathlib import Path

from xkd.pipelines.shards.index import ShardSet


def copy_with_damage(shards: ShardSet, folder: Path, *ids: int) -> ShardSet:
    """A copy of the shards in which one byte of each given sample's video is changed."""
    shutil.copytree(shards.folder, folder)
    copied = ShardSet.open(folder)
    for sample in map(copied.sample, ids):
        data = bytearray(sample.shard.read_bytes())
        data[sample.video.offset + sample.video.size // 2] ^= 1
        sample.shard.write_bytes(data)
    return copied
