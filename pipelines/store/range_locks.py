"""Locks on byte ranges of a file, held by threads and processes alike, that end with their holder however it ends."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid


class LockFile:
    """One holder of locks on the ranges of a file. Two holders exclude each other, be they in one thread or in two processes.

    Ranges need not exist in the file. The locks of a holder end when it is closed, collected, or its process ends.
    """

    _descriptor: int | None = None

    def __init__(self, path: Path):
        """Raises OSError where the file cannot be made or its file system has no such locks."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def __enter__(self) -> "LockFile":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Release everything."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    @contextmanager
    def held(self, start: int, length: int) -> Iterator[None]:
        """Wait for a range and hold it."""
        self._set(fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, start, length)
        try:
            yield
        finally:
            self.release(start, length)

    def try_lock(self, start: int, length: int) -> bool:
        """Take a range if nobody else holds any of it."""
        try:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, start, length)
        except BlockingIOError:
            return False
        return True

    def share(self, start: int, length: int) -> None:
        """Hold a range together with others that share it."""
        self._set(fcntl.F_OFD_SETLKW, fcntl.F_RDLCK, start, length)

    def release(self, start: int, length: int) -> None:
        """Give a range up; harmless once this is closed, which at the interpreter's exit may come first."""
        if self._descriptor is not None:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, start, length)

    def held_by_others(self, start: int, length: int) -> Iterator[tuple[int, int]]:
        """The (start, length) of every range within this one that another holder has, in no order."""
        todo = [(start, length)]
        while todo:
            start, length = todo.pop()
            request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            kind, _, begin, size, _ = struct.unpack(_FLOCK, fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, request))
            if kind != fcntl.F_UNLCK:  # the kernel tells of one of them
                yield begin, size
                todo += [(a, b - a) for a, b in ((start, begin), (begin + size, start + length)) if a < b]

    def _set(self, command: int, kind: int, start: int, length: int) -> None:
        fcntl.fcntl(self._descriptor, command, struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0))
