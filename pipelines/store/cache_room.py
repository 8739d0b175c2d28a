"""The disk room of a cache folder, shared by all processes that keep shards there: who writes what, and what makes way.

A tar is counted from before its first byte is written until it is removed. What must be known of other processes is in the locks
on one file, `lock`, so a process that is killed leaves no claim behind: the byte ACCOUNTING is held while anything changes; a tar
that is being written holds a range at IN_FLIGHT, as long as the tar (other files one byte: they do not count); a tar that is needed
soon has one byte at WANTED, shared by all who need it.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256
from pathlib import Path

from xkd.pipelines.shards.new_file import PARTIAL, NewFile
from xkd.pipelines.shards.shard_files import StorageError
from xkd.pipelines.store.range_locks import LockFile

LOCK = "lock"
TAR = ".tar"
SET_NAME_LENGTH = 16  # hex digits, by which the folders of sets are told from others that lie beside them
ACCOUNTING = (0, 1)
WANTED = 1 << 41
IN_FLIGHT = 1 << 62
MAX_FILE_BYTES = (1 << 37) - 1
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Refusal(Enum):
    """Why a file is not to be written now."""

    THERE = auto()
    BUSY = auto()  # another holder writes it
    FULL = auto()  # there is no room until another holder is done


@dataclass(frozen=True)
class Tar:
    path: Path
    size: int
    used_ns: int  # when it was last asked for


class Room:
    """The room of one folder. Its tars take at most `limit_bytes`, if that is given; `evicts`: old ones make way for new ones."""

    def __init__(self, folder: Path, limit_bytes: int | None, evicts: bool):
        """Raises OSError where the folder cannot be made, or has no locks."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._limit_bytes, self._evicts = folder, limit_bytes, evicts
        self._wants = LockFile(folder / LOCK)
        self._wanted: set[Path] = set()

    @contextmanager
    def alone(self) -> Iterator[LockFile]:
        """Keep every other holder from changing anything."""
        with LockFile(self._folder / LOCK) as holder, holder.held(*ACCOUNTING):
            yield holder

    @contextmanager
    def writing(self, path: Path, size: int, *, urgent: bool = True) -> Iterator["Writing | Refusal"]:
        """Take the room for a file of the folder and the right to write it, if that can be done at once.

        Other tars are removed for it, those unused for longest first; those that some process wants only if it is `urgent`.
        Raises StorageError where the disk is full.
        """
        with LockFile(self._folder / LOCK) as holder:
            with holder.held(*ACCOUNTING):
                found = self._begin(holder, path, size, urgent)
            if isinstance(found, Refusal):
                yield found
                return
            with found:
                yield Writing(holder, path, size, found)

    def want(self, paths: Iterable[Path]) -> None:
        """Say which tars this process needs soon, in place of what it said before."""
        wanted = set(paths)
        for path in self._wanted - wanted:
            self._wants.release(*_wanted_byte(path))
        for path in wanted - self._wanted:
            self._wants.share(*_wanted_byte(path))
        self._wanted = wanted

    def check_space(self, sizes: dict[Path, int]) -> None:
        """StorageError if the disk has no room for those of these files that are not there yet and that nobody writes yet."""
        with self.alone() as holder:
            needed = sum(size for path, size in sizes.items() if not path.exists()) - _bytes_in_flight(holder)
            if needed > self._free_bytes():
                raise StorageError(self._disk_is_full(self._folder, needed))

    def sweep(self, folder: Path) -> None:
        """Remove what killed processes left of files that they could not write without a name."""
        with self.alone() as holder:
            for path in folder.glob(f"*{PARTIAL}"):
                if holder.try_lock(*_in_flight_range(path.with_suffix(""), 1)):
                    path.unlink()

    def _begin(self, holder: LockFile, path: Path, size: int, urgent: bool) -> NewFile | Refusal:
        if path.exists():
            return Refusal.THERE
        if not holder.try_lock(*_in_flight_range(path, size)):
            return Refusal.BUSY
        others_bytes = _bytes_in_flight(holder)
        tars = self._tars()
        removable = self._removable(holder, tars, urgent) if self._evicts else []
        if self._limit_bytes is not None and path.suffix == TAR:
            excess = others_bytes + sum(tar.size for tar in tars) + size - self._limit_bytes
            if excess > sum(tar.size for tar in removable):
                return Refusal.FULL
            while excess > 0:
                excess -= _remove(removable)
        return self._new_file(path, size, removable, urgent and not others_bytes)

    def _new_file(self, path: Path, size: int, removable: list[Tar], last_chance: bool) -> NewFile | Refusal:
        """A file with its room on the disk, for which further tars make way where others than we have filled it."""
        file = NewFile(path)
        try:
            while True:
                try:
                    file.reserve(size)
                    return file
                except OSError as error:
                    if error.errno not in _DISK_FULL:
                        raise
                if removable:
                    free_bytes = self._free_bytes()
                    _remove(removable)
                    if self._free_bytes() <= free_bytes:
                        break  # it has other names, or is given back later: look again before another is lost
                elif last_chance:
                    raise StorageError(self._disk_is_full(path, size))
                else:
                    break
        except BaseException:
            file.close()
            raise
        file.close()
        return Refusal.FULL

    def _disk_is_full(self, path: Path, size: int) -> str:
        return (
            f"{path}: the disk is full ({size} bytes needed, {self._free_bytes()} free); make room there, or choose"
            " another folder (data.stage_dir, data.cache_dir)"
        )

    def _free_bytes(self) -> int:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    def _tars(self) -> list[Tar]:
        """All tars of the folder, those unused for longest first."""
        found = []
        for path in self._folder.glob(f"{'[0-9a-f]' * SET_NAME_LENGTH}/*{TAR}"):
            status = path.stat()
            found.append(Tar(path, status.st_size, status.st_mtime_ns))
        return sorted(found, key=lambda tar: tar.used_ns)

    def _removable(self, holder: LockFile, tars: list[Tar], urgent: bool) -> list[Tar]:
        """The tars that may make way, in this order."""
        wanted = [tar for tar in tars if next(holder.held_by_others(*_wanted_byte(tar.path)), None)]
        free = [tar for tar in tars if tar not in wanted]
        return free + wanted if urgent else free


class Writing:
    """A file that this holder writes: `file` is to be filled, and `publish` gives it its name."""

    def __init__(self, holder: LockFile, path: Path, size: int, new_file: NewFile):
        self.file = new_file.file
        self._holder, self._range, self._new_file = holder, _in_flight_range(path, size), new_file

    def publish(self) -> None:
        """Let the file appear once it is on the disk; from then on it counts as a finished one, and is closed.

        If it stayed open, its room would stay taken after another process had removed it.
        """
        self._new_file.store()
        with self._holder.held(*ACCOUNTING):
            self._new_file.publish()
            self._new_file.close()
            self._holder.release(*self._range)


def _remove(removable: list[Tar]) -> int:
    """Remove the first of them; its size. Its room is free at once, even where it is open: readers find nothing in it any more."""
    tar = removable.pop(0)
    with suppress(OSError), tar.path.open("r+b", buffering=0) as file:  # another user's has a name only, for us
        tar.path.unlink()
        if not os.fstat(file.fileno()).st_nlink:
            file.truncate(0)
    tar.path.unlink(missing_ok=True)
    return tar.size


def _bytes_in_flight(holder: LockFile) -> int:
    """What others are writing."""
    return sum(length for _, length in holder.held_by_others(IN_FLIGHT, IN_FLIGHT))


def _number(path: Path) -> int:
    """40 bits that stand for a file of the folder; if ever two have the same, one waits for the other."""
    return int.from_bytes(sha256(f"{path.parent.name}/{path.name}".encode()).digest()[:5], "big")


def _wanted_byte(path: Path) -> tuple[int, int]:
    return WANTED + _number(path), 1


def _in_flight_range(path: Path, size: int) -> tuple[int, int]:
    assert size <= MAX_FILE_BYTES, size
    return IN_FLIGHT + (_number(path) >> 15) * (MAX_FILE_BYTES + 1), max(size, 1) if path.suffix == TAR else 1
