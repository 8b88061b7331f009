"""Reads long bodies from the socket into pooled buffers, which go to the store without a copy.

Also here: problem details in place of the responses that Tornado sends without a handler, and accepting connections
while descriptors are exhausted.
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
from tornado.web import Application, RequestHandler, _HandlerDelegate, _has_stream_request_body

from tornado_app import problems
from tornado_app.files.buffers import POOL, SIZE
from tornado_app.problems import ProblemError
from tornado_app.server.response import SECURITY_HEADERS

MAX_BODY = 64 << 10
"""Bytes of a body that its handler does not take. Handlers that take a body raise this limit."""

MAX_HEAD = 64 << 10
"""Bytes of a request line with its headers."""

log = logging.getLogger("holdfast.server")

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BACKOFF_S = 0.2
_LOG_INTERVAL_S = 60.0
_MIN_POOLED = 16 * 1024
_END_OF_HEAD = len(b"\r\n\r\n")
_FIRST_READ = 64 * 1024
_LINGER_S = 5.0
_HEAD_S = 3600.0
_BUDGET_S = 0.004
"""Seconds of one iteration of the loop in which long bodies are read: nothing else waits much longer."""

_TORNADO_400 = next(
    (
        constant
        for function in vars(HTTP1Connection).values()
        for constant in getattr(getattr(function, "__code__", None), "co_consts", ())
        if constant == b"HTTP/1.1 400 Bad Request\r\n\r\n"
    ),
    None,
)
"""The response of Tornado to a malformed request: the very object, because a file may contain the same bytes."""


def _render(problem: ProblemError, root: str) -> bytes:
    """Return a complete response with problem details, after which the connection is closed."""
    body = msgspec.json.encode(problem.body(root))
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


class Refusals:
    """Responses to what is no request: whole, with the connection's end. Its headers are not known."""

    def __init__(self, root: str = "") -> None:
        """`root` is the path before every address of the server."""
        malformed = problems.BAD_REQUEST(
            f"the request is not HTTP/1.1 (RFC 9112), or its body is longer than {MAX_BODY} bytes; "
            "send it well-formed, or shorter"
        )
        long_head = problems.HEAD_TOO_LONG(
            f"the request line and headers are longer than {MAX_HEAD} bytes. Send less, such as fewer cookies"
        )
        long_chunk = problems.BAD_REQUEST(
            "a chunk of the body begins with a line that is too long. Send it without chunk extensions"
        )
        self.malformed = _render(malformed, root)
        self.head_too_long = _render(long_head, root)
        self.chunk_too_long = _render(long_chunk, root)


_lingering: set[asyncio.Task[None]] = set()


async def _linger(sock: socket.socket) -> None:
    """Read and drop what a client sends after its last response, until it closes or `_LINGER_S` have passed.

    Closing a connection with unread bytes resets it before the client has read the response (RFC 9112, section 9.6).
    """
    loop = asyncio.get_running_loop()
    try:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                sock.shutdown(socket.SHUT_WR)
                while await loop.sock_recv(sock, _FIRST_READ):
                    pass
    finally:
        sock.close()


class _BodilessDelegate(_HandlerDelegate):
    """Drops the body of a request whose handler does not stream it."""

    def data_received(self, data: bytes) -> None:
        """Drop a piece of the body."""


class StreamingApplication(Application):
    """Application whose handlers get a body only if they stream it."""

    def get_handler_delegate(
        self,
        request: HTTPServerRequest,
        target_class: type[RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: list[bytes] | None = None,
        path_kwargs: dict[str, bytes] | None = None,
    ) -> _HandlerDelegate:
        streams = _has_stream_request_body(target_class)
        kind = _HandlerDelegate if streams else _BodilessDelegate
        return kind(self, request, target_class, target_kwargs, path_args, path_kwargs)


class ReadBudget:
    """Time budget for long bodies in one iteration of the loop.

    Without it, hundreds of senders would be read in every iteration, and all other requests would wait.
    """

    def __init__(self) -> None:
        self._ends: float | None = None

    @property
    def is_spent(self) -> bool:
        """Return whether readers must wait for the next iteration. The first call of an iteration starts it."""
        now = time.monotonic()
        if self._ends is None:
            self._ends = now + _BUDGET_S
            asyncio.get_running_loop().call_soon(self._end)
        return now > self._ends

    def _end(self) -> None:
        self._ends = None


class BodyStream(IOStream):
    """Stream whose long partial reads, such as those of bodies, return memoryviews of pooled buffers.

    Tornado's own read copies each byte twice more. The size of a read follows the size of the last one, so that a slow
    sender does not hold a whole buffer.
    """

    _read_size = _FIRST_READ
    _has_nodelay = False
    _lingers = False
    _searched = 0
    _has_responded = False
    _head_since: float | None = None
    _head_timer: asyncio.TimerHandle | None = None

    def __init__(
        self, sock: socket.socket, budget: ReadBudget, head_timeout: float, refusals: Refusals, **options: Any
    ) -> None:
        """`head_timeout`: seconds in which a head has to come, from the end of the request before it."""
        super().__init__(sock, **options)
        self.budget = budget
        self._refusals = refusals
        self._head_timeout = head_timeout

    @property
    def buffered(self) -> int:
        """Return how many bytes have come and were not read, such as of a body that came with its head."""
        return self._read_buffer_size

    def set_nodelay(self, value: bool) -> None:
        """Set TCP_NODELAY once: Tornado would set and reset it for every request, and small writes are rare here."""
        if value and not self._has_nodelay:
            self._has_nodelay = True
            super().set_nodelay(True)

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        self._has_responded = True
        return super().write(self._refusals.malformed if data is _TORNADO_400 else data)

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        self._searched = 0
        self._has_responded = False
        self._head_since = time.monotonic()
        if self._head_timer is None:
            self._head_timer = asyncio.get_running_loop().call_later(self._head_timeout, self._check_head)
        return super().read_until_regex(regex, max_bytes)

    def _check_head(self) -> None:
        """Close an idle connection. One timer a connection, where Tornado makes one a request."""
        left = self._head_timeout
        if self._head_since is not None:
            left += self._head_since - time.monotonic()
        if left > 0:
            self._head_timer = asyncio.get_running_loop().call_later(left, self._check_head)
        else:
            self.close()

    def _find_read_pos(self) -> int | None:
        # Tornado searches the whole head again whenever bytes of it arrive.
        if self._read_regex is None or self._read_bytes is not None or self._read_delimiter is not None:
            return super()._find_read_pos()
        found = self._read_regex.search(self._read_buffer, max(0, self._searched - _END_OF_HEAD))
        self._searched = len(self._read_buffer)
        end = self._searched if found is None else found.end()
        if self._read_max_bytes is not None and end > self._read_max_bytes:
            self._check_max_bytes(self._read_regex, end)
        if found is None:
            return None
        self._head_since = None
        return end

    def _check_max_bytes(self, delimiter: bytes | re.Pattern[bytes], size: int) -> None:
        # Tornado closes without a response if a head, or the line that begins a chunk, is too long.
        try:
            super()._check_max_bytes(delimiter, size)
        except UnsatisfiableReadError:
            if not (self._lingers or self._has_responded):
                self._lingers = True
                with contextlib.suppress(OSError):
                    is_chunk = isinstance(delimiter, bytes)
                    self.socket.send(self._refusals.chunk_too_long if is_chunk else self._refusals.head_too_long)
            raise

    def close_fd(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        if self._lingers and self.socket is not None:
            task = asyncio.get_running_loop().create_task(_linger(self.socket.dup()))
            _lingering.add(task)
            task.add_done_callback(_lingering.discard)
        super().close_fd()

    def read_bytes(self, num_bytes: int, partial: bool = False) -> Awaitable[bytes]:
        if not partial or num_bytes < _MIN_POOLED:
            return super().read_bytes(num_bytes, partial)
        return self._read_pooled(num_bytes)

    async def _read_pooled(self, num_bytes: int) -> bytes:
        while self.budget.is_spent:  # noqa: ASYNC110 - no event marks the next iteration
            await asyncio.sleep(0)
        size = min(num_bytes, self._read_size)
        buffer = POOL.take() if size > _FIRST_READ else None
        view = memoryview(buffer or bytearray(min(size, _FIRST_READ)))[:size]
        count = 0
        if not self._read_buffer_size and self.socket is not None:
            with contextlib.suppress(OSError):  # past Tornado's buffer, which else tells what comes next
                count = self.socket.recv_into(view)
        if not count:
            # The annotation says bytearray; by the documentation any writable buffer will do.
            count = await self.read_into(cast(bytearray, view), partial=True)
        if count == len(view):
            self._read_size = SIZE
        elif count < _FIRST_READ:
            self._read_size = _FIRST_READ
        return cast(bytes, view[:count])


class BackoffListener(socket.socket):
    """Listening socket that backs off while no descriptor is left for another connection.

    The connection stays in the queue; Tornado would retry, fail and log thousands of times a second.
    """

    _logged_at = -_LOG_INTERVAL_S

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            now = time.monotonic()
            if now - self._logged_at >= _LOG_INTERVAL_S:
                self._logged_at = now
                log.warning("new connections wait: %s; raise the limit of open files (ulimit -n)", error.strerror)
            loop = IOLoop.current()
            loop.update_handler(self, 0)
            loop.call_later(_BACKOFF_S, self._resume, loop)
            raise BlockingIOError from error

    def _resume(self, loop: IOLoop) -> None:
        if self.fileno() >= 0:  # not closed meanwhile
            loop.update_handler(self, IOLoop.READ)


class StreamingServer(HTTPServer):
    """HTTP server on `BodyStream`s, for plain sockets; a proxy in front has TLS."""

    def initialize(self, *arguments: Any, refusals: Refusals | None = None, **options: Any) -> None:
        super().initialize(*arguments, **options)
        self._refusals = refusals or Refusals()
        self._budget = ReadBudget()
        self._head_timeout = self.conn_params.header_timeout or _HEAD_S
        self.conn_params.header_timeout = None  # `BodyStream` has a cheaper one

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections from these sockets, and own them."""
        super().add_sockets([BackoffListener(fileno=sock.detach()) for sock in sockets])

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        if type(stream) is IOStream:
            # Every other read, such as of headers, clears a buffer of this size first.
            stream = BodyStream(
                stream.socket,
                self._budget,
                self._head_timeout,
                self._refusals,
                max_buffer_size=self.max_buffer_size,
                read_chunk_size=_FIRST_READ,
            )
        super().handle_stream(stream, address)
