"""The tars of a shard set as files that can be opened, wherever they come from."""

from collections.abc import Iterable
from pathlib import Path
from threading import Event
from typing import Protocol


class StorageError(ValueError):
    """A shard cannot be had: its storage does not answer, has other bytes, or the disk is full. It is not the samples' fault."""


class Stopped(StorageError):
    """Nobody waits for the shard any more."""


class ShardFiles(Protocol):
    """Gives the tars of a set by shard name; safe for several threads.

    They belong to whoever opened the set: its readers, of which there may be several, never close them.
    """

    capacity_bytes: int | None  # tars beyond this are removed again, those unused for longest first; None: never

    def ensure(self, name: str, stop: Event | None = None) -> Path:
        """The tar of a shard, there when this returns.

        Where there is a capacity it may be gone before it is opened, or empty and without a name before it is read: ask again.
        Raises StorageError, and Stopped soon after `stop` is set.
        """

    def ahead(self, names: Iterable[str]) -> None:
        """Say which shards are needed next, soonest first, in place of what was said before; returns at once."""

    def close(self) -> None:
        """End what goes on in the background."""


class LocalFiles:
    """The tars of a local folder."""

    capacity_bytes = None

    def __init__(self, folder: Path):
        self._folder = folder

    def ensure(self, name: str, stop: Event | None = None) -> Path:
        return self._folder / f"{name}.tar"

    def ahead(self, names: Iterable[str]) -> None:
        pass

    def close(self) -> None:
        pass
