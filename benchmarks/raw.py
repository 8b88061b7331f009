"""A client on bare sockets, so that what is measured is the server and not the client."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from benchmarks.harness import MIB

_DISCARD = getattr(socket, "MSG_TRUNC", 0)
"""On Linux: throw received bytes away without copying them."""


class Connection:
    """One keep-alive connection to a server on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sock = socket.create_connection(("127.0.0.1", port), 60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._scratch = bytearray(MIB)

    def close(self) -> None:
        """End it."""
        self.sock.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send_head(self, method: str, path: str, headers: Mapping[str, object] | None = None, body: bytes = b"") -> None:
        """Send a request's head, with a short body that may go with it."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case) of the next final answer."""
        while True:
            while b"\r\n\r\n" not in self._buffer:
                piece = self.sock.recv(65536)
                if not piece:
                    raise ConnectionError("the server closed the connection")
                self._buffer += piece
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            status = int(first.split()[1])
            if status >= 200:
                pairs = (line.split(":", 1) for line in lines)
                return status, {name.lower(): value.strip() for name, value in pairs}

    def discard(self, count: int) -> None:
        """Receive so many bytes of a body and throw them away."""
        taken = min(count, len(self._buffer))
        self._buffer = self._buffer[taken:]
        count -= taken
        while count:
            received = self.sock.recv_into(self._scratch, min(count, len(self._scratch)), _DISCARD)
            if not received:
                raise ConnectionError("the server closed the connection")
            count -= received

    def ask(
        self, method: str, path: str, headers: Mapping[str, object] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str]]:
        """A request with a short body and its answer, whose body is thrown away."""
        self.send_head(method, path, headers, body)
        status, answer = self.read_head()
        if answer.get("transfer-encoding") == "chunked":
            self._discard_chunks()
        elif method != "HEAD":
            self.discard(int(answer.get("content-length", 0)))
        return status, answer

    def _discard_chunks(self) -> None:
        while True:
            while b"\r\n" not in self._buffer:
                self._buffer += self.sock.recv(65536)
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            self.discard(int(size, 16) + 2)
            if int(size, 16) == 0:
                return

    def send_file(self, file: BinaryIO, count: int) -> None:
        """Send so many bytes of a file as a body."""
        offset = 0
        self.sock.settimeout(None)  # sendfile wants a blocking socket
        while offset < count:
            offset += os.sendfile(self.sock.fileno(), file.fileno(), offset, min(count - offset, 8 * MIB))
        self.sock.settimeout(60)


def check(status: int, wanted: Sequence[int], what: str) -> None:
    """Raise unless an answer was one of those wanted: a benchmark of failures is none."""
    if status not in wanted:
        raise RuntimeError(f"{what}: status {status}, not {' or '.join(map(str, wanted))}")


def tus_create(connection: Connection, path: str, length: int, name: str) -> str:
    """A new tus upload; its path."""
    import base64

    metadata = f"filename {base64.b64encode(name.encode()).decode()}"
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": length, "Upload-Metadata": metadata, "Content-Length": 0}
    status, answer = connection.ask("POST", path, headers)
    check(status, [201], f"POST {path}")
    location = answer["location"]
    return "/" + location.split("/", 3)[3] if "://" in location else location


def patch_headers(offset: int, length: int) -> dict[str, object]:
    """The headers of a tus PATCH."""
    return {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": offset,
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": length,
    }


def send(port: int, method: str, path: str, source: Path, headers: Mapping[str, object]) -> None:
    """One request whose body is a whole file."""
    size = source.stat().st_size
    with Connection(port) as connection, source.open("rb") as file:
        connection.send_head(method, path, {"Content-Length": size, **headers})
        connection.send_file(file, size)
        status, _ = connection.read_head()
        check(status, [200, 201, 204], f"{method} {path}")


def fetch_all(port: int, paths: Sequence[str]) -> None:
    """GET every path at the same time, a connection each."""
    selector = selectors.DefaultSelector()
    scratch = bytearray(MIB)
    left: dict[socket.socket, int] = {}
    connections = [Connection(port) for _ in paths]
    for connection, path in zip(connections, paths, strict=True):
        connection.send_head("GET", path)
    for connection in connections:
        status, headers = connection.read_head()
        check(status, [200], "GET")
        left[connection.sock] = int(headers["content-length"]) - len(connection._buffer)
        connection.sock.setblocking(False)
        selector.register(connection.sock, selectors.EVENT_READ)
    while left:
        for key, _ in selector.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            received = sock.recv_into(scratch, min(left[sock], MIB), _DISCARD)
            if not received:
                raise ConnectionError("the server closed a connection")
            left[sock] -= received
            if not left[sock]:
                selector.unregister(sock)
                del left[sock]
    for connection in connections:
        connection.close()


def latencies(port: int, path: str, stop: Path, every: float = 0.01) -> list[float]:
    """Return the seconds that each small request takes, sent one after another until the file `stop` exists."""
    taken = []
    with Connection(port) as connection:
        while not stop.exists():
            start = time.perf_counter()
            connection.ask("GET", path)
            taken.append(time.perf_counter() - start)
            time.sleep(every)
    return taken
