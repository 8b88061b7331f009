"""Receiving long bodies cheaply: the socket is read into pooled buffers, which go to the store without a copy.

And the one answer that Tornado gives without asking a handler, in the shape of all others; and receiving connections
patiently, when there are more of them than descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import logging
import re
import socket
import time
from collections.abc import Awaitable, Iterable
from typing import Any, cast

import msgspec
from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, UnsatisfiableReadError
from tornado.web import Application, RequestHandler, _HandlerDelegate

from tornado_app import problems
from tornado_app.files.buffers import POOL, SIZE
from tornado_app.problems import ProblemError
from tornado_app.server.security_headers import SECURITY_HEADERS

MOST = 64 << 10
"""Bytes of a body that its handler does not take; those that take one raise it for themselves."""

MOST_HEAD = 64 << 10
"""Bytes of a request line with its headers."""

log = logging.getLogger("holdfast.server")

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_REST_S = 0.2
_QUIET_S = 60.0
_LEAST = 16 * 1024
_END_OF_HEAD = len(b"\r\n\r\n")
_FIRST = 64 * 1024
_FAREWELL_S = 5.0
_TURN_S = 0.004
"""Seconds of a turn of the loop in which long bodies are read: what else waits is late by little more than that."""

_BARE = next(
    (
        constant
        for function in vars(HTTP1Connection).values()
        for constant in getattr(getattr(function, "__code__", None), "co_consts", ())
        if constant == b"HTTP/1.1 400 Bad Request\r\n\r\n"
    ),
    None,
)
"""What Tornado writes before it closes on what it can't read: the object itself, for a file may hold its like."""


def _answer(problem: ProblemError) -> bytes:
    """A whole answer of problem details, after which the connection is closed."""
    body = msgspec.json.encode(problem.body())
    headers = {
        **SECURITY_HEADERS,
        "Cache-Control": "no-store",
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    status = problem.kind.status
    lines = [
        f"HTTP/1.1 {status} {http.client.responses[status]}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


_TOLD = _answer(
    problems.BAD_REQUEST(
        f"the request is not HTTP/1.1 as RFC 9112 has it, or its body is longer than the {MOST} bytes that fit here"
    )
)
_HEAD_TOO_LONG = _answer(
    problems.HEAD_TOO_LONG(
        f"the request line and the headers have more than {MOST_HEAD} bytes together: send less, such as fewer cookies"
    )
)

_CHUNK_TOO_LONG = _answer(
    problems.BAD_REQUEST("a chunk of the body begins with a line that is too long: send it without chunk extensions")
)


_farewells: set[asyncio.Task[None]] = set()


async def _take_leave(sock: socket.socket) -> None:
    """Drop what a client still sends after its last answer, until it closes, or for a while.

    Closing on unread bytes would reset the connection before the client could read the answer.
    """
    loop = asyncio.get_running_loop()
    try:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                sock.shutdown(socket.SHUT_WR)
                while await loop.sock_recv(sock, _FIRST):
                    pass
    finally:
        sock.close()


class _Undemanding(_HandlerDelegate):
    """Drops bodies that a handler does not take, as they come. Those that take one stream it."""

    def data_received(self, data: bytes) -> Awaitable[None] | None:
        return super().data_received(data) if self.stream_request_body else None


class BulkApplication(Application):
    """An application whose handlers get a body only if they stream it."""

    def get_handler_delegate(
        self,
        request: HTTPServerRequest,
        target_class: type[RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: list[bytes] | None = None,
        path_kwargs: dict[str, bytes] | None = None,
    ) -> _HandlerDelegate:
        return _Undemanding(self, request, target_class, target_kwargs, path_args, path_kwargs)


class Turn:
    """One turn of the loop: how long it has been at long bodies.

    Hundreds of senders at once would keep everybody else waiting, if each were read from in every turn.
    """

    def __init__(self) -> None:
        self._ends: float | None = None

    @property
    def is_long(self) -> bool:
        """Whether who reads now should rather wait for the next turn."""
        now = time.monotonic()
        if self._ends is None:
            self._ends = now + _TURN_S
            asyncio.get_running_loop().call_soon(self._end)
        return now > self._ends

    def _end(self) -> None:
        self._ends = None


class BulkStream(IOStream):
    """A stream whose long partial reads, such as those of bodies, come as memoryviews of pooled buffers.

    Tornado's own read copies each byte twice more. How much is asked for follows what comes, so that many slow senders
    do not hold a whole buffer each.
    """

    _ask = _FIRST
    _is_undelayed = False
    _takes_leave = False
    _searched = 0
    _has_answered = False

    def __init__(self, sock: socket.socket, turn: Turn, **options: Any) -> None:
        super().__init__(sock, **options)
        self.turn = turn

    def set_nodelay(self, value: bool) -> None:
        """Once and for all: Tornado would turn it on and off for every request, and nothing here goes out in dribs."""
        if value and not self._is_undelayed:
            self._is_undelayed = True
            super().set_nodelay(True)

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        self._has_answered = True
        return super().write(_TOLD if data is _BARE else data)

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        self._searched = 0
        self._has_answered = False
        return super().read_until_regex(regex, max_bytes)

    def _find_read_pos(self) -> int | None:
        # Tornado looks through all of a head again at every byte that comes of it.
        if self._read_regex is None or self._read_bytes is not None or self._read_delimiter is not None:
            return super()._find_read_pos()
        found = self._read_regex.search(self._read_buffer, max(0, self._searched - _END_OF_HEAD))
        self._searched = len(self._read_buffer)
        self._check_max_bytes(self._read_regex, self._searched if found is None else found.end())
        return None if found is None else found.end()

    def _check_max_bytes(self, delimiter: bytes | re.Pattern[bytes], size: int) -> None:
        # Tornado closes without a word when a head is too long, or the line that begins a chunk.
        try:
            super()._check_max_bytes(delimiter, size)
        except UnsatisfiableReadError:
            if not (self._takes_leave or self._has_answered):
                self._takes_leave = True
                with contextlib.suppress(OSError):
                    self.socket.send(_CHUNK_TOO_LONG if isinstance(delimiter, bytes) else _HEAD_TOO_LONG)
            raise

    def close_fd(self) -> None:
        if self._takes_leave and self.socket is not None:
            task = asyncio.get_running_loop().create_task(_take_leave(self.socket.dup()))
            _farewells.add(task)
            task.add_done_callback(_farewells.discard)
        super().close_fd()

    def read_bytes(self, num_bytes: int, partial: bool = False) -> Awaitable[bytes]:
        if not partial or num_bytes < _LEAST:
            return super().read_bytes(num_bytes, partial)
        return self._read_bulk(num_bytes)

    async def _read_bulk(self, num_bytes: int) -> bytes:
        while self.turn.is_long:  # noqa: ASYNC110 - no event ends it: it is over when the next one begins
            await asyncio.sleep(0)
        size = min(num_bytes, self._ask)
        buffer = POOL.take() if size > _FIRST else None
        view = memoryview(buffer or bytearray(min(size, _FIRST)))[:size]
        # The annotation says bytearray; what is needed is a writable buffer, as the documentation has it.
        count = await self.read_into(cast(bytearray, view), partial=True)
        if count == len(view):
            self._ask = SIZE
        elif count < _FIRST:
            self._ask = _FIRST
        return cast(bytes, view[:count])


class PatientListener(socket.socket):
    """A listening socket that rests a moment when there is no descriptor for another connection.

    The connection goes on waiting in the queue; Tornado would try again, and fail and log, thousands of times a second.
    """

    _told = -_QUIET_S

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            now = time.monotonic()
            if now - self._told >= _QUIET_S:
                self._told = now
                log.warning("connections have to wait: %s; raise the limit (ulimit -n)", error.strerror)
            loop = IOLoop.current()
            loop.update_handler(self, 0)
            loop.call_later(_REST_S, self._go_on, loop)
            raise BlockingIOError from error

    def _go_on(self, loop: IOLoop) -> None:
        if self.fileno() >= 0:  # not closed meanwhile
            loop.update_handler(self, IOLoop.READ)


class BulkServer(HTTPServer):
    """An HTTP server on such streams. TLS streams stay as they are: their bytes are copied by TLS anyway."""

    def initialize(self, *arguments: Any, **options: Any) -> None:
        super().initialize(*arguments, **options)
        self._turn = Turn()

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Take connections from these, which belong to the server from now on."""
        super().add_sockets([PatientListener(fileno=sock.detach()) for sock in sockets])

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        if type(stream) is IOStream:
            # Each read of anything else, such as headers, clears a buffer of this size first.
            stream = BulkStream(stream.socket, self._turn, max_buffer_size=self.max_buffer_size, read_chunk_size=_FIRST)
        super().handle_stream(stream, address)
