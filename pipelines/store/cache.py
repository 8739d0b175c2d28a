"""Keeps the shards of a slow or remote set on a node's own disk, for all processes of the node together."""

import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from xkd.pipelines.background import Background, call_for_all
from xkd.pipelines.shards.manifest import MANIFEST, Manifest, parse_manifest
from xkd.pipelines.shards.new_file import NewFile
from xkd.pipelines.shards.shard_files import Stopped, StorageError
from xkd.pipelines.store.cache_room import MAX_FILE_BYTES, SET_NAME_LENGTH, TAR, Refusal, Room
from xkd.pipelines.store.download import PATIENCE, FileRecord, Patience, Stop, blocks, copy_file, pause
from xkd.pipelines.store.remote import Remote

SIDECAR = ".safetensors"
NUM_THREADS = 4  # that copy at a time, for each process
FAILED_SECONDS = 10.0  # in which a file that could not be copied is not tried again: all who wait for it fail at once
POLL_SECONDS = 0.02  # between two looks at what another process does
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class ShardCache:
    """The files of one remote set in a folder of its own below `folder`: manifest, sidecars, and the tars that are there.

    A shard is copied when it is needed or announced, by one process for all. With `limit_bytes` the tars below `folder` take no
    more than that, those being written included; those unused for longest make way. Without `evicts` none is ever removed.
    """

    def __init__(
        self, remote: Remote, folder: Path, limit_bytes: int | None = None, *, evicts: bool = True, patience: Patience = PATIENCE
    ):
        """Fetches the manifest and the sidecars. Raises StorageError, and ValueError where the set does not fit the cache."""
        self._remote, self._patience = remote, patience
        self._ended = threading.Event()
        self.capacity_bytes = limit_bytes
        self.manifest, data = fetch_manifest(remote, patience)
        self.location = remote.location
        self.folder = folder / sha256(remote.location.encode() + b"\n" + data).hexdigest()[:SET_NAME_LENGTH]
        shards = self.manifest.shards
        self._sidecars = [FileRecord(shard.name + SIDECAR, shard.sidecar_bytes, shard.sidecar_sha256) for shard in shards]
        self._tars = {shard.name: FileRecord(shard.name + TAR, shard.tar_bytes, shard.tar_sha256) for shard in shards}
        self._check_sizes()
        with _local(folder):
            self._room = Room(folder, limit_bytes, evicts)
            self.folder.mkdir(exist_ok=True)
            self._room.sweep(self.folder)
            self._put_manifest(data)
            self._drop_what_changed()
        self._turns = {name: threading.Lock() for name in self._tars}
        self._failures: dict[str, tuple[float, str]] = {}  # when, and what was said
        self._background = Background(self._fill, NUM_THREADS, self._ended)
        self._obtain_all(list(self._sidecars))

    def ensure(self, name: str, stop: threading.Event | None = None) -> Path:
        path = self.folder / self._tars[name].name
        if not _touch(path):

            def stopped() -> bool:
                return self._ended.is_set() or (stop is not None and stop.is_set())

            with _turn(self._turns[name], stopped, path):
                call_for_all(self._obtain, [self._tars[name]], 1, stopped)  # a thread, for the storage may stall
        return path

    def ahead(self, names: Iterable[str]) -> None:
        names = list(names)
        paths = [self.folder / self._tars[name].name for name in names]
        self._room.want(paths)
        there = [_touch(path) for path in reversed(paths)][::-1]  # what is needed soonest was then touched last
        self._background.replace([name for name, is_there in zip(names, there, strict=True) if not is_there])

    def stage(self) -> None:
        """Copy all tars that are not there, together with the other processes that do so. Raises StorageError."""
        with _local(self.folder):
            self._room.check_space({self.folder / tar.name: tar.size for tar in self._tars.values()})
        self._obtain_all(list(self._tars.values()))

    def close(self) -> None:
        self._background.close()

    @property
    def total_bytes(self) -> int:
        """Size of all tars of the set."""
        return sum(tar.size for tar in self._tars.values())

    def _check_sizes(self) -> None:
        largest = max((tar.size for tar in self._tars.values()), default=0)
        if largest > MAX_FILE_BYTES:
            raise ValueError(f"{self._remote.location}: a shard of {largest} bytes is too large to be kept; write smaller shards")
        if self.capacity_bytes is not None and self.capacity_bytes < largest:
            raise ValueError(
                f"data.cache_bytes: {self.capacity_bytes} is less than the largest shard of {self._remote.location} takes,"
                f" {largest}; set data.cache_bytes to several times that"
            )

    def _put_manifest(self, data: bytes) -> None:
        path = self.folder / MANIFEST
        with self._room.alone():
            if not path.exists() or path.read_bytes() != data:
                with NewFile(path) as new_file:
                    new_file.file.write(data)
                    new_file.store()
                    new_file.publish()

    def _drop_what_changed(self) -> None:
        """Remove the tars and sidecars, kept from before, that are not what they were; a tar is not read for that."""
        with self._room.alone():
            for record in self._tars.values():
                if _size(self.folder / record.name) not in (None, record.size):
                    (self.folder / record.name).unlink()
        for record in self._sidecars:
            path = self.folder / record.name
            if not _is_whole(path, record):
                with self._room.alone():  # another process may have put it right
                    if not _is_whole(path, record):
                        path.unlink(missing_ok=True)

    def _obtain_all(self, records: list[FileRecord]) -> None:
        """Have all files; those that other processes copy are waited for last."""
        call_for_all(self._try, records, NUM_THREADS, self._ended.is_set)
        call_for_all(self._obtain, records, NUM_THREADS, self._ended.is_set)

    def _obtain(self, record: FileRecord, stopped: Stop) -> None:
        """Have a file, copied here or by another holder."""
        while self._try(record, stopped) is not Refusal.THERE:
            pause(POLL_SECONDS, stopped, self.folder / record.name)

    def _fill(self, name: str) -> bool:
        """Copy a shard ahead of its use; False if there is no room yet. A fault is left to whoever needs the shard."""
        with suppress(StorageError):
            return self._try(self._tars[name], self._ended.is_set, urgent=False) is not Refusal.FULL
        return True

    @contextmanager
    def _noting_failure(self, record: FileRecord) -> Iterator[None]:
        try:
            yield
        except Stopped:
            raise
        except StorageError as error:
            self._failures[record.name] = time.monotonic(), str(error)
            raise

    def _try(self, record: FileRecord, stopped: Stop, urgent: bool = True) -> Refusal:
        """Copy a file now unless something is in the way; THERE once it is there."""
        path = self.folder / record.name
        when, failure = self._failures.get(record.name, (0.0, ""))
        if failure and time.monotonic() < when + FAILED_SECONDS:
            raise StorageError(failure)
        with self._noting_failure(record), _local(path), self._room.writing(path, record.size, urgent=urgent) as writing:
            if isinstance(writing, Refusal):
                return writing
            copy_file(self._remote, record, writing.file, self._patience, stopped, keep_damaged=path.suffix == TAR)
            writing.publish()
            return Refusal.THERE


@contextmanager
def _local(path: Path) -> Iterator[None]:
    """Faults of the folder of the cache, as one sentence each."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be kept here ({error.strerror or error}); data.stage_dir and data.cache_dir need a folder on a disk of"
            " this machine, with room, that may be written to"
        ) from error


@contextmanager
def _turn(lock: threading.Lock, stopped: Stop, path: Path) -> Iterator[None]:
    """Hold a lock, unless it takes so long that nobody waits any more."""
    while not lock.acquire(timeout=0.1):
        pause(0, stopped, path)
    try:
        yield
    finally:
        lock.release()


def _touch(path: Path) -> bool:
    """Note that a file is used; False if it is not there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def _is_whole(path: Path, record: FileRecord) -> bool:
    """Whether a file is there with the bytes of its record."""
    return path.exists() and sha256(path.read_bytes()).hexdigest() == record.sha256


def fetch_manifest(remote: Remote, patience: Patience = PATIENCE) -> tuple[Manifest, bytes]:
    """The manifest of a remote, and its bytes. Raises StorageError; ValueError if it is none, or names files that lie elsewhere."""
    where = remote.describe(MANIFEST)
    data = b"".join(blocks(remote, MANIFEST, None, patience, lambda: False))
    manifest = parse_manifest(data, where)
    for shard in manifest.shards:
        if not _NAME.fullmatch(shard.name):
            raise ValueError(f"{where}: names a shard {shard.name!r}; a name has letters, digits and . _ -, and no . in front")
    return manifest, data
