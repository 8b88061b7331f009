"""One request and its response between Jupyter and the Holdfast server, streamed both ways.

A piece is read when the other side has taken the piece before it, so that neither direction piles up here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import cast

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError

from holdfast.jupyter.headers import INNER_HOST

PIECE = 1 << 20
"""Bytes of a body that are read and written at once."""

ANY_SIZE = 1 << 50
BODY_METHODS = ("POST", "PUT", "PATCH")

_MAX_HEAD = 256 << 10
_MAX_SHORT = 1 << 20
_CONNECT_S = 10.0
_INTERIM = (b"HTTP/1.1 1", b"HTTP/1.0 1")
_CONTINUE = (b"HTTP/1.1 100", b"HTTP/1.0 100")


class NoServerError(Exception):
    """No server listens at an address, or it closed the connection before its response was complete."""


class ServerStream(IOStream):
    """Connection to the server that hands out interim (1xx) responses, and leaves the final one to Tornado.

    Tornado refuses a response that comes after more than ten of them, and a long resumable upload has thousands.
    """

    on_interim: Callable[[bytes], None] | None = None

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Return the head of the final response."""
        return self._final_head(regex, max_bytes)

    async def _final_head(self, regex: bytes, max_bytes: int | None) -> bytes:
        while True:
            head = await super().read_until_regex(regex, max_bytes)
            if not head.startswith(_INTERIM):
                return head
            if self.on_interim is not None:
                self.on_interim(head)


async def connect(address: str) -> ServerStream:
    """Connect to a server at `/a/socket` or `host:port`. Raises `NoServerError`."""
    target: str | tuple[str, int] = address
    family = socket.AF_UNIX
    if not address.startswith("/"):
        host, _, port = address.rpartition(":")
        target = (host.strip("[]"), int(port))
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
    stream = ServerStream(sock, max_buffer_size=8 * PIECE, read_chunk_size=PIECE)
    try:
        async with asyncio.timeout(_CONNECT_S):
            await stream.connect(target)
    except (StreamClosedError, OSError, TimeoutError) as error:
        stream.close()
        raise NoServerError(str(getattr(error, "real_error", None) or error or "no answer in time")) from error
    return stream


class Exchange(HTTPMessageDelegate):
    """One request to the server, whose response goes to callbacks as it comes. Each is awaited before the next.

    The callbacks raise nothing, and may `close` the exchange.
    """

    def __init__(
        self,
        stream: ServerStream,
        on_head: Callable[[ResponseStartLine, HTTPHeaders], Awaitable[None]],
        on_piece: Callable[[bytes], Awaitable[None]],
        on_interim: Callable[[bytes], None] = lambda head: None,
    ) -> None:
        self._stream = stream
        self._on_head = on_head
        self._on_piece = on_piece
        self._on_interim = on_interim
        stream.on_interim = self._pass_interim
        parameters = HTTP1ConnectionParameters(chunk_size=PIECE, max_header_size=_MAX_HEAD, max_body_size=ANY_SIZE)
        self._connection = HTTP1Connection(stream, True, parameters)
        self._may_send = asyncio.Event()
        self._is_over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._reading: asyncio.Task[None] | None = None
        self._sending: Awaitable[None] | None = None
        self._has_ended_request = False

    def begin(self, method: str, uri: str, headers: HTTPHeaders) -> None:
        """Send the head of the request, and read the response from now on."""
        self._connection.write_headers(RequestStartLine(method, uri, "HTTP/1.1"), headers)
        self._reading = asyncio.create_task(self._read())

    async def admitted(self) -> None:
        """Wait until the server wants the body (100 Continue), or has answered without it."""
        await self._may_send.wait()

    @property
    def is_over(self) -> bool:
        """Return whether the response is complete, or there will be none."""
        return self._is_over.done()

    async def send(self, piece: bytes) -> None:
        """Send a piece of the body and wait until the system has taken it."""
        with contextlib.suppress(StreamClosedError):  # the response, or its absence, says why
            self._sending = self._connection.write(piece)
            await self._sending

    def end_request(self) -> None:
        """Note that the body is complete."""
        if not (self.is_over or self._has_ended_request):
            self._has_ended_request = True
            self._connection.finish()

    async def response(self) -> None:
        """Wait until the response has been passed on whole. Raises `NoServerError`."""
        is_complete = await asyncio.shield(self._is_over)
        self.close()
        if not is_complete:
            raise NoServerError("the server closed the connection")

    async def cut(self) -> None:
        """End the exchange as its client has ended: what has come reaches the server, and nothing after it."""
        if self._sending is not None:
            with contextlib.suppress(StreamClosedError):
                await self._sending
        self.close()

    def close(self) -> None:
        """Close the connection to the server at once."""
        self._stream.close()

    async def _read(self) -> None:
        try:
            await self._connection.read_response(self)
        except StreamClosedError:
            pass
        finally:
            self._may_send.set()
            if not self._is_over.done():
                self._is_over.set_result(False)

    def _pass_interim(self, head: bytes) -> None:
        if head.startswith(_CONTINUE):
            self._may_send.set()  # Jupyter's own server says it to the client
        else:
            self._on_interim(head)

    # -- called by Tornado

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._may_send.set()
        return self._on_head(cast(ResponseStartLine, start_line), headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._on_piece(chunk)

    def finish(self) -> None:
        if not self._is_over.done():
            self._is_over.set_result(True)


async def fetch(address: str, uri: str) -> tuple[int, bytes]:
    """Return status and body of a GET with a short response. Raises `NoServerError`."""
    status, body = 0, bytearray()

    async def on_head(start_line: ResponseStartLine, headers: HTTPHeaders) -> None:
        nonlocal status
        status = start_line.code

    async def on_piece(piece: bytes) -> None:
        body.extend(piece)
        if len(body) > _MAX_SHORT:
            exchange.close()

    exchange = Exchange(await connect(address), on_head, on_piece)
    try:
        exchange.begin("GET", uri, HTTPHeaders({"Host": INNER_HOST, "Connection": "close"}))
        exchange.end_request()
        await exchange.response()
    finally:
        exchange.close()
    return status, bytes(body)
