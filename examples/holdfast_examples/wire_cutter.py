"""A TCP proxy for the demo: it forwards between a client and a server, and breaks the connection on request."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

# SO_LINGER with a time of 0: close sends RST, as when a connection breaks.
_BREAK = struct.pack("ii", 1, 0)


class WireCutter:
    """Forwards a local port to `target`, and breaks a connection after a given number of bytes.

    `on_cut` is called at each cut, with the bytes that were forwarded since `cut_after`.

    Attributes:
        carried: bytes forwarded so far, in both directions, over all connections.
        cuts: number of connections broken so far.
        target: where later connections lead.
    """

    def __init__(self, target: tuple[str, int], on_cut: Callable[[int], None] = lambda carried: None) -> None:
        self.target = target
        self.carried = 0
        self.cuts = 0
        self._on_cut = on_cut
        self._from = 0
        self._marks: list[int] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        """URL for clients."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, *sizes: int) -> None:
        """Break the connection after so many more bytes: once for each size, counted from now."""
        with self._lock:
            self._from = self.carried
            self._marks = sorted(self.carried + size for size in sizes)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
        self._listener.close()
        for connection in list(self._open):
            _break(connection)
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="wire-cutter", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            self._start(self._carry, client, server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        pair = (client, server)
        self._open |= {client, server}
        back = threading.Thread(target=self._forward, args=(server, client, pair), name="wire-cutter-back", daemon=True)
        back.start()
        self._forward(client, server, pair)
        back.join()
        self._open -= {client, server}
        for connection in pair:
            connection.close()

    def _forward(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        try:
            while data := source.recv(65536):
                keep, carried = self._count(len(data))
                sink.sendall(data[:keep])
                if keep < len(data):
                    self._on_cut(carried)
                    raise ConnectionAbortedError
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for connection in pair:
                _break(connection)

    def _count(self, size: int) -> tuple[int, int]:
        """Return how many of the next `size` bytes are forwarded before a cut, and the sum since `cut_after`."""
        with self._lock:
            if self._marks and self._marks[0] <= self.carried + size - 1:
                size = max(0, self._marks.pop(0) - self.carried)
                self.cuts += 1
            self.carried += size
            return size, self.carried - self._from


def _break(connection: socket.socket) -> None:
    """Break a connection: reads and writes on it fail at once, and closing it sends RST."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _BREAK)
        connection.shutdown(socket.SHUT_RDWR)
