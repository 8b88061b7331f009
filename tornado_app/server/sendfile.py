"""Sends parts of open files as a response body: by sendfile on plain sockets, else in pieces.

This module alone uses private attributes of Tornado's connection; its tests fail when Tornado changes them. Pieces that
are read in a worker thread work with any connection.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import termios
from array import array
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPConnection
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError

from tornado_app.files import metrics
from tornado_app.files.readahead import FIRST_WINDOW, bring_into_memory
from tornado_app.files.store.interface import FileReader
from tornado_app.files.store.optional_powers import HasDescriptor
from tornado_app.files.store.page_cache import in_memory, lives_in_memory

PIECE = 1 << 20
"""Bytes that one download holds in memory at most."""

STEP = 4 << 20
"""Bytes that one call of sendfile moves at most: about half a millisecond of the loop."""

WINDOW = 16 << 20
"""Bytes that are loaded into memory at most before sendfile gets them, so that the loop never waits for the disk."""

UNSENT = 64 << 10
"""About how many bytes wait in a socket beside those that are on their way: a slow client needs no more memory."""

UNSENT_OF_FAST = 1 << 30
"""The same for a client that reads `FAST` bytes a second: no limit but that of the system.

To be woken for each 64 KiB costs up to twice as much of the server's processor as what nginx does, which fills the
socket: what is there already is sent when the client acknowledges, at nobody's cost here. On loopback the client pays
for that, and 64 KiB cost a tenth less of both together (0.44 s a GiB for 0.49; nginx 0.54).
"""

FAST = 64 << 20

UNSENT_OF_MANY = 512 << 10
"""The same from `MANY` downloads at once on: what waits has left the processor's cache by the time it goes."""

MANY = 8


class RunBlocking(Protocol):
    """Calls a blocking function in a worker thread."""

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Awaitable[Any]: ...


class StalledError(Exception):
    """The client is connected, but has read nothing for too long."""


class FileChangedError(Exception):
    """The open file was written to while it was sent, so the rest is of another version."""


class Transmission:
    """Sends one answer's bytes. Headers have been flushed before; `abort` may be called at any time.

    A client that reads slowly keeps a socket and a descriptor busy, and at most one piece of memory.
    """

    _under_way = 0

    def __init__(
        self, connection: HTTPConnection, reader: FileReader, run: RunBlocking, *, is_ready: bool, timeout: float
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._run = run
        self._is_ready = is_ready
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._gone = False
        self._taken = 0

    def abort(self) -> None:
        """End `send` and `write` with a `StreamClosedError`, because the client has left."""
        self._gone = True
        self._wake()

    async def write(self, data: bytes) -> None:
        """Send bytes that are not of the file. Raises `StreamClosedError`."""
        await self._written(self._connection.write(data))

    async def send(self, offset: int, count: int, *, last: bool) -> None:
        """Send `count` bytes of the file from `offset`.

        With `last` nothing follows: before the end is sent, the file is checked to be of one version.

        Raises:
            StreamClosedError: the client has left.
            StalledError: it has read nothing for `timeout` seconds.
            FileChangedError: the file is shorter than it was, or has been written to.
        """
        stream = plain_stream(self._connection)
        if stream is not None and isinstance(self._reader, HasDescriptor):
            offset, count = await self._zero_copy(stream, self._reader.fileno(), offset, count, last)
        while count:
            data: bytes = await self._run(self._read, offset, min(count, PIECE), last and count <= PIECE)
            await self.write(data)
            metrics.SENT.inc(len(data))
            offset += len(data)
            count -= len(data)

    def _read(self, offset: int, count: int, last: bool) -> bytes:
        data = self._reader.read(offset, count)
        if not data or (last and self._reader.changed()):
            raise FileChangedError
        return data

    def _make_ready(self, fd: int, offset: int, count: int, last: bool) -> bool:
        """Load a window into memory; return whether the whole file stays there, so that no other window needs this."""
        bring_into_memory(fd, offset, count)
        if last and self._reader.changed():
            raise FileChangedError
        return lives_in_memory(os.fstat(fd).st_dev)

    async def _zero_copy(self, stream: IOStream, fd: int, offset: int, count: int, last: bool) -> tuple[int, int]:
        """Send by sendfile as much as possible; return the offset and count of the rest."""
        await self._flushed(stream)
        try:
            # The loop polls a descriptor for one owner, and the stream still polls its own for the end.
            own = stream.socket.dup()
        except OSError:
            return offset, count  # out of descriptors; pieces need none
        Transmission._under_way += 1
        try:
            with own as sock:
                sock.setblocking(False)
                return await self._send_windows(sock, fd, offset, count, last)
        finally:
            Transmission._under_way -= 1

    async def _send_windows(self, sock: socket.socket, fd: int, offset: int, count: int, last: bool) -> tuple[int, int]:
        limit = WINDOW if self._is_ready else FIRST_WINDOW
        unsent = UNSENT
        while count:
            limit_unsent(sock, unsent if Transmission._under_way < MANY else UNSENT_OF_MANY)
            window = min(count, limit)
            ends = last and window == count
            if ends or not (self._is_ready or in_memory(fd, offset, window)):
                self._is_ready = await self._run(self._make_ready, fd, offset, window, ends)
            began = self._loop.time()
            sent = await self._send_window(sock.fileno(), fd, offset, window)
            unsent = UNSENT_OF_FAST if sent >= FAST * (self._loop.time() - began) else UNSENT
            account(self._connection, sent)
            metrics.SENT.inc(sent)
            offset += sent
            count -= sent
            if sent < window:
                break  # no sendfile between this file and socket
            limit = min(2 * limit, WINDOW)
        return offset, count

    async def _send_window(self, sock: int, fd: int, offset: int, count: int) -> int:
        """Return the number of bytes sent; fewer than `count` only if sendfile can't use this file and socket."""
        sent = 0
        failure: OSError | None = None

        def step() -> None:
            nonlocal sent, failure
            try:
                moved = os.sendfile(sock, fd, offset + sent, min(STEP, count - sent))
            except BlockingIOError:
                return
            except OSError as error:
                failure = error
                self._wake()
                return
            sent += moved
            self._taken += moved
            if not moved or sent == count:
                self._wake()

        if self._gone:
            raise StreamClosedError
        step()
        if sent < count and failure is None:
            self._loop.add_writer(sock, step)
            try:
                await self._wait()
            finally:
                self._loop.remove_writer(sock)
        if isinstance(failure, ConnectionError):
            raise StreamClosedError(failure) from failure
        if sent < count and failure is None:
            raise FileChangedError
        return sent

    async def _flushed(self, stream: IOStream) -> None:
        """Wait until the stream has sent what was written to it, such as the headers."""
        while stream.writing():
            await self._written(stream.write(b""))
        if stream.closed():  # its socket is closed, and `abort` is about to be called
            raise StreamClosedError

    async def _written(self, written: asyncio.Future[None]) -> None:
        """Wait for a write. Tornado leaves its future pending when the connection ends, so `abort` wakes this."""
        if not written.done():
            written.add_done_callback(self._wake)
            await self._wait()
        elif self._gone or written.exception() is not None:
            raise StreamClosedError

    async def _wait(self) -> None:
        """Wait for `_wake`. Raises `StreamClosedError`, or `StalledError` if the client reads nothing."""
        if self._gone:
            raise StreamClosedError
        self._waiter = self._loop.create_future()
        self._timer = self._loop.call_later(self._timeout, self._check_stall, self._progress())
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._timer.cancel()
        if self._gone:
            raise StreamClosedError

    def _check_stall(self, before: int) -> None:
        now = self._progress()
        if now != before:
            self._timer = self._loop.call_later(self._timeout, self._check_stall, now)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(StalledError())

    def _progress(self) -> int:
        """Return a number that changes with every byte that the client reads."""
        stream = getattr(self._connection, "stream", None)
        written = self._taken + getattr(stream, "_total_write_done_index", 0)
        return written - waiting(stream.socket) if isinstance(stream, IOStream) and stream.socket else written

    def _wake(self, _: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def plain_stream(connection: HTTPConnection) -> IOStream | None:
    """Return the stream of a connection if bytes may be written to its socket directly, else None."""
    if not hasattr(os, "sendfile") or not isinstance(connection, HTTP1Connection):
        return None
    stream = connection.stream
    # TLS encrypts between file and socket.
    if not isinstance(stream, IOStream) or isinstance(stream, SSLIOStream):
        return None
    if not isinstance(getattr(connection, "_expected_content_remaining", None), int):
        return None
    return stream


def account(connection: HTTPConnection, count: int) -> None:
    """Subtract sent bytes from the connection's expected content. This private attribute is used here alone."""
    connection._expected_content_remaining -= count  # type: ignore[attr-defined]


def waiting(sock: socket.socket) -> int:
    """Return the bytes in a socket that the client has not acknowledged; 0 if the system does not report them."""
    count = array("i", [0])
    try:
        fcntl.ioctl(sock, termios.TIOCOUTQ, count)
    except OSError:
        return 0
    return count[0]


def limit_unsent(sock: socket.socket, most: int) -> None:
    """Limit the unsent bytes in a socket. Bytes in flight are not limited, so distant clients stay as fast."""
    if sock.family != socket.AF_UNIX and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most)
