"""A web server that gives out the files of a folder at a limited rate, as a shared file system under load does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BLOCK_BYTES = 64 << 10


class _Slow(SimpleHTTPRequestHandler):
    def __init__(self, *arguments, wait, **named):
        self._wait = wait
        super().__init__(*arguments, **named)

    def copyfile(self, source, outputfile) -> None:
        while block := source.read(BLOCK_BYTES):
            self._wait(len(block))
            outputfile.write(block)

    def log_message(self, *arguments) -> None:
        pass


@contextmanager
def slow_server(folder: Path, bytes_per_second: float) -> Iterator[str]:
    """Serves a folder on this machine while it is open, all connections together at this rate; yields its URL."""
    lock, free = threading.Lock(), [time.monotonic()]

    def wait(size: int) -> None:
        with lock:
            free[0] = max(free[0], time.monotonic()) + size / bytes_per_second
            until = free[0]
        time.sleep(max(0.0, until - time.monotonic()))

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Slow, directory=str(folder), wait=wait)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
