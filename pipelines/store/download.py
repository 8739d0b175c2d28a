"""Reads a file of a remote to its end, through faults that pass, and checks what came."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO

from xkd.pipelines.shards.shard_files import Stopped, StorageError
from xkd.pipelines.store.remote import BLOCK_BYTES, Remote

COPIES = 3  # of a file that comes with a wrong checksum, a different one each time
POLL_SECONDS = 0.1  # between two looks at whether to stop
_PASSING_STATUS = (408, 425, 429)  # of http, among those that name a fault of the request

Stop = Callable[[], bool]  # whether to give up


@dataclass(frozen=True)
class Patience:
    """How often a fault is met with another try before it counts as lasting: `tries` in a row without a byte."""

    tries: int = 8
    first_wait_seconds: float = 0.25
    longest_wait_seconds: float = 10.0

    def wait_seconds(self, failures: int) -> float:
        return min(self.longest_wait_seconds, self.first_wait_seconds * 2 ** (failures - 1))


PATIENCE = Patience()


@dataclass(frozen=True)
class FileRecord:
    """A file by its name, its size and its checksum in the manifest."""

    name: str
    size: int
    sha256: str


def blocks(remote: Remote, name: str, size: int | None, patience: Patience, stop: Stop) -> Iterator[bytes]:
    """The bytes of a file; after a fault or an early end they go on where they ended. Raises StorageError, and Stopped."""
    offset = failures = 0
    while True:
        try:
            with remote.open(name, offset) as stream:
                while block := stream.read(BLOCK_BYTES):
                    pause(0, stop, remote.describe(name))
                    offset, failures = offset + len(block), 0
                    yield block
            if size is not None and offset < size:
                raise EOFError(f"it ends after {offset} bytes, but has {size} in the manifest")
            return
        except Stopped:
            raise
        except Exception as error:  # each storage has its own
            failures += 1
            if failures == patience.tries or _lasting(error):
                tried = f", {failures} times in a row" if failures > 1 else ""
                raise StorageError(
                    f"{remote.describe(name)}: cannot be read{tried} ({_words(error)}); see that it is there and whole,"
                    " and start again"
                ) from error
            pause(patience.wait_seconds(failures), stop, remote.describe(name))


def copy_file(
    remote: Remote, record: FileRecord, file: BinaryIO, patience: Patience, stop: Stop, *, keep_damaged: bool = False
) -> None:
    """Copy a file of a remote, checked against its record.

    A copy with a wrong checksum is made again. If two are wrong in the same way, the remote's own file is: with `keep_damaged` it
    is taken as it is, with a warning. Raises StorageError, and Stopped.
    """
    wrong = None
    for _ in range(COPIES):
        file.seek(0)
        digest, written = sha256(), 0
        for block in blocks(remote, record.name, record.size, patience, stop):
            written += len(block)
            if written > record.size:
                raise StorageError(
                    f"{remote.describe(record.name)}: has more than its {record.size} bytes of the manifest; copy the shard set"
                    " there again"
                )
            file.write(block)
            digest.update(block)
        if digest.hexdigest() == record.sha256:
            return
        if digest.digest() == wrong:
            if not keep_damaged:
                break
            warnings.warn(
                f"{remote.describe(record.name)}: is damaged where it lies (its sha256 is not that of the manifest); its damaged"
                " samples will be left out. Copy the shard set there again",
                stacklevel=2,
            )
            return
        wrong = digest.digest()
    raise StorageError(
        f"{remote.describe(record.name)}: its sha256 is not that of the manifest, however often it is read; copy the shard set"
        " there again"
    )


def _lasting(error: Exception) -> bool:
    status = getattr(error, "status", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in _PASSING_STATUS
    return refused or isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError)


def _words(error: Exception) -> str:
    """What an error says; some say nothing, and some print the whole URL, with what is secret in it."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return f"http status {status}"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return str(error) or type(error).__name__


def pause(seconds: float, stop: Stop, what: object) -> None:
    """Wait. Raises Stopped if there is no need to."""
    end = time.monotonic() + seconds
    while not stop():
        if (left := end - time.monotonic()) <= 0:
            return
        time.sleep(min(left, POLL_SECONDS))
    raise Stopped(f"{what}: nobody waits for it any more")
