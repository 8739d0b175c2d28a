"""A web server for shard folders that fails in the ways of real ones."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer: a status in place of it, an end after some bytes, a wait then, a changed byte."""

    status: int | None = None
    cut: int | None = None  # of the bytes of this answer
    stall_seconds: float = 0.0  # after `cut` bytes; the rest follows
    linger_seconds: float = 0.0  # likewise; the rest does not follow
    flip: int | None = None  # place in the file


class ShardServer:
    """Serves a folder on this machine. `faults[name]` gives one Fault (or None) for each request; `served` is what was sent."""

    def __init__(self, folder: Path, ranges: bool = True):
        self.folder, self.ranges = folder, ranges
        self.faults: dict[str, Iterator[Fault | None]] = {}
        self.served: list[tuple[str, int, int]] = []  # (name, offset, bytes sent)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._closed = threading.Event()
        self.url = f"http://127.0.0.1:{self._server.server_port}/set"

    def __enter__(self) -> "ShardServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def of(self, name: str) -> list[tuple[int, int]]:
        """(offset, bytes sent) of each request for a file."""
        return [(offset, sent) for served, offset, sent in self.served if served == name]

    def _handler(owner) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                name = self.path.partition("?")[0].rpartition("/")[2]
                fault = next(owner.faults.get(name, iter(())), None) or Fault()
                path = owner.folder / self.path.partition("?")[0].removeprefix("/set/")
                status = fault.status or (200 if path.exists() else 404)
                data = bytearray(path.read_bytes()) if status == 200 else bytearray()
                if fault.flip is not None:
                    data[fault.flip] ^= 1
                begin = 0
                if owner.ranges and status == 200 and (asked := self.headers.get("Range")):
                    begin = int(asked.removeprefix("bytes=").partition("-")[0])
                    status = 206 if begin < len(data) else 416
                    data = data[begin:]
                first = bytes(data if fault.cut is None else data[: fault.cut])
                rest = bytes(data[len(first) :]) if fault.stall_seconds else b""
                owner.served.append((name, begin, len(first) + len(rest)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(first)
                if fault.stall_seconds and not owner._closed.wait(fault.stall_seconds):
                    self.wfile.write(rest)
                owner._closed.wait(fault.linger_seconds)
                self.close_connection |= fault.cut is not None

        return Handler
