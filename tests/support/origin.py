"""An HTTP server to fetch from: one file with a version, and every way to misbehave that a test asks for."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY_AND_CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Of a server named localhost, signed by itself, for tests alone; good for a hundred years."""


class Origin:
    """Serves `data` under every path but those in `redirects` and `statuses`. Use as a context manager."""

    def __init__(self, data: bytes = b"", *, tls: bool = False) -> None:
        self.data = data
        self.etag: str | None = '"v1"'
        self.dates: dict[str, str] = {}
        self.ranges = True
        self.if_range = True
        self.length = True
        self.cut_after: list[int] = []  # bytes of the body after which each of the next answers is cut
        self.most_of_a_range: int | None = None
        self.more_than_the_range = 0  # bytes that a part has beyond its Content-Range
        self.coding = ""
        self.changes = False  # another version at each request
        self.redirects: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.gate: Callable[[int], None] = lambda sent: None  # called before each piece
        self.asked: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(KEY_AND_CERTIFICATE)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Origin:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(origin: Origin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def date_time_string(self, timestamp: float | None = None) -> str:
            return origin.dates.get("Date") or super().date_time_string(timestamp)

        def do_GET(self) -> None:
            origin.asked.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
            if self.path in origin.redirects or self.path in origin.statuses:
                self.send_response(302 if self.path in origin.redirects else origin.statuses[self.path])
                if self.path in origin.redirects:
                    self.send_header("Location", origin.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if origin.changes:
                origin.etag = f'"v{len(origin.asked)}"'
            self._send(self._start())

        def _start(self) -> int | None:
            wanted = self.headers.get("Range")
            if not wanted or not origin.ranges:
                return None
            version = origin.etag or origin.dates.get("Last-Modified")
            if origin.if_range and self.headers.get("If-Range") != version:
                return None
            return int(wanted.removeprefix("bytes=").rstrip("-"))

        def _send(self, start: int | None) -> None:
            body = origin.data[start or 0 :]
            if start is not None and start >= len(origin.data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(origin.data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if start is not None and origin.most_of_a_range:
                body = body[: origin.most_of_a_range]
            self.send_response(200 if start is None else 206)
            if start is not None:
                size = len(origin.data) if origin.length else "*"
                last = start + len(body) - 1 - origin.more_than_the_range
                self.send_header("Content-Range", f"bytes {start}-{last}/{size}")
            if origin.coding:
                self.send_header("Content-Encoding", origin.coding)
            if origin.etag:
                self.send_header("ETag", origin.etag)
            if "Last-Modified" in origin.dates:
                self.send_header("Last-Modified", origin.dates["Last-Modified"])
            self.send_header(
                *(("Content-Length", str(len(body))) if origin.length else ("Transfer-Encoding", "chunked"))
            )
            self.end_headers()
            cut = origin.cut_after.pop(0) if origin.cut_after else None
            self._write(body if cut is None else body[:cut])
            if cut is not None:
                self.close_connection = True
            elif not origin.length:
                self.wfile.write(b"0\r\n\r\n")

        def _write(self, body: bytes) -> None:
            for at in range(0, len(body), 65536):
                origin.gate(at)
                piece = body[at : at + 65536]
                try:
                    self.wfile.write(piece if origin.length else b"%x\r\n%s\r\n" % (len(piece), piece))
                except OSError:  # the client has gone
                    self.close_connection = True
                    return

    return Handler


def held(event: threading.Event, at: int) -> Callable[[int], None]:
    """A gate that lets pieces before byte `at` through, and waits for `event` there."""

    def gate(sent: int) -> None:
        if sent >= at:
            event.wait(20)
            time.sleep(0)

    return gate
