"""Opens shard sets wherever they lie: the one door for everyone who has a configuration."""

from pathlib import Path

from xkd.pipelines.config import DataConfig
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.store.cache import ShardCache, fetch_manifest
from xkd.pipelines.store.remote import PIPE, open_remote

_FILE_URL = "file:///"


def open_shards(location: str | Path, data: DataConfig) -> ShardSet:
    """The shard set at a location: a local folder, a URL that fsspec opens, or a `pipe:` command.

    With `stage_dir` or `cache_dir` its files are kept there, and a staged set is copied wholly before this returns. Raises
    StorageError where that fails, ValueError where location and settings do not fit.
    """
    location = plain_location(location)
    if data.stage_dir:
        cache = ShardCache(open_remote(location, data.allow_pipe), data.stage_dir, evicts=False)
        cache.stage()
    elif data.cache_dir:
        cache = ShardCache(open_remote(location, data.allow_pipe), data.cache_dir, data.cache_bytes)
        _check_order(cache, data)
    elif is_remote(location):
        raise ValueError(
            f"{location}: is not a folder of this machine; set data.stage_dir or data.cache_dir to a folder on its disk, to copy"
            " the shards to before or while they are used"
        )
    else:
        return ShardSet.open(location)
    return ShardSet(cache.folder, cache.manifest, cache, cache.location)


def check_shards(location: str | Path, data: DataConfig) -> None:
    """Raise the errors of `open_shards` for a set that is not there, without copying it."""
    location = plain_location(location)
    if is_remote(location):
        fetch_manifest(open_remote(location, data.allow_pipe))
    else:
        ShardSet.open(location)


def is_remote(location: str) -> bool:
    """Whether the location is none of a folder that can be opened as it is."""
    return location.startswith(PIPE) or "://" in location


def plain_location(location: str | Path) -> str:
    """The location, of a file URL its path. Raises ValueError for a file URL of another form, which would name another folder."""
    location = str(location)
    if location.startswith(_FILE_URL):
        return location.removeprefix("file://")
    if location.startswith("file:"):
        path = location.removeprefix("file:").lstrip("/")
        raise ValueError(
            f"{location}: a URL of a folder of this machine starts with {_FILE_URL}; write {_FILE_URL}{path}, or its path"
        )
    return location


def _check_order(cache: ShardCache, data: DataConfig) -> None:
    if data.order == "global" and data.cache_bytes is not None and data.cache_bytes < cache.total_bytes:
        raise ValueError(
            f"data.order: 'global' reads from all shards at once, {cache.total_bytes} bytes, of which data.cache_bytes"
            f" {data.cache_bytes} holds a part; set data.order: block, or data.stage_dir in place of data.cache_dir"
        )
