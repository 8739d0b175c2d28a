"""A file that has no name until it is whole."""

import errno
import os
from contextlib import suppress
from pathlib import Path

PARTIAL = ".part"
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS)


class NewFile:
    """A file to be written, which gets its name by `publish`; if that does not happen, nothing is left of it.

    It has no name at all where the file system can do that; else it is NAME.part until then, which only a kill leaves behind.
    """

    def __init__(self, path: Path, anonymous: bool = True):
        self._path = path
        self._part: Path | None = None
        try:
            if not anonymous:
                raise OSError(errno.EOPNOTSUPP, "not wanted")
            descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._part = path.with_name(path.name + PARTIAL)
            descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self.file = open(descriptor, "wb")  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> "NewFile":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; if it has no name by now, it is gone."""
        with suppress(OSError):  # of bytes that could not be written; the file closes all the same
            self.file.close()
        if self._part:
            self._part.unlink(missing_ok=True)

    def reserve(self, size: int) -> None:
        """Take room for `size` bytes on the disk. Raises OSError if there is not so much."""
        if size:
            os.posix_fallocate(self.file.fileno(), 0, size)

    def store(self) -> None:
        """Wait until what was written is on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def publish(self) -> None:
        """Give the file its name, in place of one that is there already."""
        self._path.unlink(missing_ok=True)
        if self._part:
            os.rename(self._part, self._path)
            self._part = None
            return
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # only with a folder's descriptor does this follow the link to the file
            os.link(f"/proc/self/fd/{self.file.fileno()}", self._path.name, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)
