"""Places that shards are read from: URLs that fsspec opens, folders, and commands that print a file."""

import atexit
import io
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit, urlunsplit

PIPE = "pipe:"
# Of a file that is asked for in parts; also what is copied between two looks at whether to stop.
BLOCK_BYTES = 8 << 20
STALL_SECONDS = 60  # without a byte, after which a connection counts as broken
SHOWN_CHARACTERS = 500  # of what a failed command said

_EXTRAS = {"s3": "s3", "s3a": "s3"}  # protocol -> extra of this package that installs what opens it


class Remote(Protocol):
    """A folder that can be read from, a file at a time; `location` is for messages, without passwords and tokens."""

    location: str

    def describe(self, name: str) -> str:
        """Where a file is, likewise for messages."""

    def open(self, name: str, offset: int):
        """A context manager: the bytes of a file from `offset` on, to be read in order. Raises whatever its storage raises."""


def open_remote(location: str, allow_pipe: bool = False) -> Remote:
    """The place that a location names; ValueError if it cannot be opened here."""
    if location.startswith(PIPE):
        return Command(location, allow_pipe)
    return HttpFolder(location) if location.startswith(("http://", "https://")) else FsspecFolder(location)


class FsspecFolder:
    """A folder on a file system that fsspec opens; its files are asked for in blocks."""

    def __init__(self, location: str, **options):
        from fsspec.core import url_to_fs

        self.location = location.rstrip("/")
        try:
            self._file_system, self._root = url_to_fs(self.location, **options)
        except ImportError as error:
            protocol = location.partition("://")[0]
            extra = _EXTRAS.get(protocol)
            way_out = f'run pip install "xkd-train[{extra}]"' if extra else "install what it names"
            raise ValueError(f"{location}: what opens {protocol}:// is not installed ({error}); {way_out}") from None
        except ValueError as error:
            raise ValueError(f"{location}: {error}; give a folder or a URL that fsspec opens") from None

    def describe(self, name: str) -> str:
        return f"{self.location}/{name}"

    @contextmanager
    def open(self, name: str, offset: int) -> Iterator[BinaryIO]:
        with self._file_system.open(f"{self._root}/{name}", "rb", block_size=BLOCK_BYTES, cache_type="none") as file:
            file.seek(offset)
            yield file


class HttpFolder(FsspecFolder):
    """A folder on a web server; a file is one request, also where the server cannot start in the middle."""

    def __init__(self, location: str):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL_SECONDS, sock_read=STALL_SECONDS)
        super().__init__(location, client_kwargs={"timeout": timeout, "trust_env": True})
        self._parts = urlsplit(location)
        shown = self._parts._replace(netloc=self._parts.netloc.rpartition("@")[2], query="")
        self.location = urlunsplit(shown).rstrip("/")

    @contextmanager
    def open(self, name: str, offset: int) -> Iterator[BinaryIO]:
        url = urlunsplit(self._join(name))
        headers = {"Range": f"bytes={offset}-", "Accept-Encoding": "identity"} if offset else {"Accept-Encoding": "identity"}
        try:  # a size keeps it from asking for one
            file = self._file_system.open(url, "rb", block_size=0, size=1, headers=headers)
        except Exception as error:
            if offset and getattr(error, "status", None) == 416:  # the file ends before
                yield io.BytesIO()
                return
            raise
        with file:
            if file.r.status != 206:
                skip(file, offset)
            yield file

    def _join(self, name: str):
        return self._parts._replace(path=f"{self._parts.path.rstrip('/')}/{name}")


class Command:
    """`pipe:COMMAND`: the shell command prints the file whose name stands in place of {name}."""

    def __init__(self, location: str, allow_pipe: bool):
        self.location = location
        self._command = location.removeprefix(PIPE)
        if not allow_pipe:
            raise ValueError(f"{location}: would run a shell command; if you trust it, set data.allow_pipe: true")
        if "{name}" not in self._command:
            raise ValueError(f"{location}: does not say where the name of a file goes; write {{name}} in its place")

    def describe(self, name: str) -> str:
        return PIPE + self._command.replace("{name}", shlex.quote(name))

    @contextmanager
    def open(self, name: str, offset: int) -> Iterator[BinaryIO]:
        command = self._command.replace("{name}", shlex.quote(name))
        with tempfile.TemporaryFile() as told:
            process = _commands.start(command, told)
            try:
                skip(process.stdout, offset)
                yield process.stdout
                if not process.stdout.read(1) and process.wait():
                    told.seek(max(0, told.seek(0, os.SEEK_END) - SHOWN_CHARACTERS))
                    words = told.read().decode(errors="replace").strip()
                    raise OSError(f"the command ended with exit code {process.returncode}" + (f": {words}" if words else ""))
            finally:
                process.stdout.close()
                _commands.end(process)


class _Commands:
    """The commands that run; none outlives the interpreter's exit, whatever the threads that read them are at."""

    def __init__(self):
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._exiting = False
        atexit.register(self._end_all)

    def start(self, command: str, stderr: BinaryIO) -> subprocess.Popen:
        with self._lock:
            if self._exiting:
                raise OSError("the program ends")
            process = subprocess.Popen(
                command,
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def end(self, process: subprocess.Popen) -> None:
        """Kill a command with all that it started, if it still runs."""
        with self._lock:
            if process in self._running:
                self._running.remove(process)
                self._kill(process)

    def _end_all(self) -> None:
        with self._lock:
            self._exiting = True
            while self._running:
                self._kill(self._running.pop())

    @staticmethod
    def _kill(process: subprocess.Popen) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


_commands = _Commands()


def skip(stream: BinaryIO, count: int) -> None:
    """Read `count` bytes, or up to the end, and forget them."""
    while count and (block := stream.read(min(count, BLOCK_BYTES))):
        count -= len(block)
