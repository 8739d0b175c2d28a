"""Reads pieces of tars through descriptors that are kept open, from many threads."""

import errno
import os
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from xkd.pipelines.shards.read import UnreadableFile, pread_all
from xkd.pipelines.shards.shard_files import ShardFiles

MAX_OPEN = 128
TRIES = 3
SECONDS_BETWEEN_TRIES = 0.05
MAX_REMOVALS = 20  # of a tar from its cache before it could be read, in a row
# The fault of this process or machine, not of the file.
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class OpenFiles:
    """At most `limit` tars of a set open at a time, besides those that are being read; safe for several threads.

    A tar is asked for (`files.ensure`) when it is opened, and again when its cache has removed it, of which nothing is left then.
    `files` belong to whoever opened the shard set: `close` leaves them alone.
    """

    def __init__(self, files: ShardFiles, limit: int = MAX_OPEN):
        self._files = files
        self._limit = limit
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._open: dict[str, _Descriptor] = {}  # looked up without the lock, under which many threads would queue
        self._uses = count()

    def pread(self, path: Path, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer where the file ends before.

        Raises UnreadableFile after TRIES failures, and whatever `files.ensure` raises.
        """
        for remaining in reversed(range(TRIES)):
            try:
                return self._read(path.stem, offset, size)
            except OSError as error:
                self._forget(path.stem)
                if error.errno in OUT_OF_RESOURCES:
                    raise
                if not remaining:
                    raise UnreadableFile(error.strerror) from error
                time.sleep(SECONDS_BETWEEN_TRIES)

    def interrupt(self) -> None:
        """Have reads that wait for a tar give up, until `resume`."""
        self._stop.set()

    def resume(self) -> None:
        self._stop.clear()

    def close(self) -> None:
        """Close what nobody is reading; what is being read is closed after that."""
        with self._lock:
            self._open.clear()

    def _read(self, name: str, offset: int, size: int) -> bytes:
        for _ in range(MAX_REMOVALS):
            with suppress(FileNotFoundError):
                descriptor = self._descriptor(name)  # referred to until it is read
                data = pread_all(descriptor.number, offset, size)
                if len(data) == size or not descriptor.is_removed():
                    return data
                self._forget(name)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _descriptor(self, name: str) -> "_Descriptor":
        if descriptor := self._open.get(name):
            descriptor.last_use = next(self._uses)
            return descriptor
        return self._add(name, _Descriptor(self._files.ensure(name, self._stop)))

    def _add(self, name: str, opened: "_Descriptor") -> "_Descriptor":
        """The descriptor to use: another thread may have been first."""
        with self._lock:
            opened.last_use = next(self._uses)  # before others see it, who would take it for the one unused for longest
            for other in [other for other, descriptor in self._open.items() if descriptor.is_removed()]:
                del self._open[other]
            if name not in self._open and len(self._open) >= self._limit:
                del self._open[min(self._open, key=lambda other: self._open[other].last_use)]
            return self._open.setdefault(name, opened)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._open.pop(name, None)


class _Descriptor:
    """An open file that closes when nobody refers to it any more, hence never under a read."""

    def __init__(self, path: Path):
        self.number = os.open(path, os.O_RDONLY)
        self.last_use = 0

    def is_removed(self) -> bool:
        return os.fstat(self.number).st_nlink == 0

    def __del__(self):
        if hasattr(self, "number"):
            os.close(self.number)
