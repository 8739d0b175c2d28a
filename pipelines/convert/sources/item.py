"""What a source says of a dataset: its classes and its items."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Location:
    """Where a file's bytes are: a file of its own, or `size` bytes from `offset` on of an uncompressed tar (as its `member`)."""

    path: Path
    member: str | None = None
    offset: int = 0
    size: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"

    def open(self) -> BinaryIO:
        """A seekable binary file that holds these bytes and no others."""
        if self.size is None:
            return self.path.open("rb")
        return io.BufferedReader(_Part(self.path, self.offset, self.size))

    def read_bytes(self) -> bytes:
        with self.open() as file:
            return file.read()

    def num_bytes(self) -> int:
        """The number of bytes; 0 for a link that leads nowhere, in circles or through a file."""
        if self.size is not None:
            return self.size
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


@dataclass(frozen=True, slots=True)
class Item:
    """A clip of a dataset; `name` is its file's path within the dataset, with slashes.

    With folds, `roles[k]` is what the clip is in fold k: train, test or unused. `time_range` is the clip's begin and end in seconds
    in a file that may hold more than the clip; a file that lasts no longer than the clip has been cut already and is the clip.
    """

    location: Location
    name: str
    labels: tuple[str, ...]
    split: str
    roles: tuple[str, ...] = ()
    time_range: tuple[float, float] | None = None

    @property
    def digest(self) -> str:
        return blake2b(self.identity.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def identity(self) -> str:
        """Unique in a listing: the name, with the time range where there is one."""
        return self.name if self.time_range is None else "{}@{:.3f}-{:.3f}".format(self.name, *self.time_range)

    @property
    def key(self) -> str:
        """The sample's key: readable, unique, and free of what tar readers trip over (dots, slashes, long or non-ascii names)."""
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", PurePosixPath(self.name).stem)[:40]
        return f"{stem}-{self.digest}"


@dataclass(frozen=True)
class Listing:
    """A split of a dataset. Label ids are places in `classes`, which is the same list for every split.

    `missing` are the clips that the dataset's lists name and that are not there; `unlisted` the media files that no list names.
    Without lists (`has_lists` is False) neither can be known. `official` is the number of clips that the lists say they have, where
    they say so. `num_folds` is the length of every item's `roles`.
    """

    classes: tuple[str, ...]
    items: Sequence[Item]
    missing: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    official: int | None = None
    num_folds: int = 0
    has_lists: bool = True


class _Part(io.RawIOBase):
    """Part of a file, as a file."""

    def __init__(self, path: Path, offset: int, size: int):
        self._file = path.open("rb", buffering=0)
        self._offset, self._size, self._position = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if position < 0:
            raise OSError(f"seek to {position}, before the begin of the file")
        self._position = position
        return position

    def readinto(self, buffer) -> int:
        wanted = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._offset + self._position)
        got = self._file.readinto(memoryview(buffer)[:wanted])
        self._position += got
        return got

    def close(self) -> None:
        self._file.close()
        super().close()
