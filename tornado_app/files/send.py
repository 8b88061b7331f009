"""Sends parts of open files as the body of an answer: by sendfile where nothing stands between file and socket.

This is the one module that knows what lies behind a Tornado connection; its tests fail when Tornado changes that, and
the pieces that are read off the loop work with any connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Protocol

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPConnection
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError

from tornado_app.files import metrics
from tornado_app.files.store import FileReader, HasDescriptor

PIECE = 1 << 20
"""Most bytes that one download holds in memory."""

STEP = 4 << 20
"""Most bytes that one call of sendfile moves, about half a millisecond: then the loop serves others."""

WINDOW = 16 << 20
"""Most bytes that are brought into memory before sendfile gets them, so that the loop never waits for the disk."""

_FIRST_WINDOW = 1 << 20  # the first bytes should not wait for those that follow
_WIDE = 4 << 20
_FAST = WINDOW / 0.1  # bytes a second


class Run(Protocol):
    """Calls a blocking function in a worker thread."""

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Awaitable[Any]: ...


class FileChangedError(Exception):
    """The open file was written to while it was sent: what is left does not belong to what went out."""


class Transmission:
    """Sends one answer's bytes. Headers have been flushed before; `abort` may be called at any time.

    A client that reads slowly keeps a socket and a descriptor busy, and at most one piece of memory.
    """

    def __init__(self, connection: HTTPConnection, reader: FileReader, run: Run) -> None:
        self._connection = connection
        self._reader = reader
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._gone = False

    def abort(self) -> None:
        """The client has gone: whoever is in `send` or `write` gets a `StreamClosedError`."""
        self._gone = True
        self._wake()

    async def write(self, data: bytes) -> None:
        """Bytes that are not the file's. Raises `StreamClosedError`."""
        await self._written(self._connection.write(data))

    async def send(self, offset: int, count: int, *, last: bool) -> None:
        """Send `count` bytes of the file from `offset`.

        With `last` nothing follows: before the end goes out it is made sure that all of it was of one version.

        Raises:
            StreamClosedError: the client has gone.
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
        """Whether all of the file is in memory for good, so that no further window needs this."""
        bring_into_memory(fd, offset, count)
        if last and self._reader.changed():
            raise FileChangedError
        return lives_in_memory(os.fstat(fd).st_dev)

    async def _zero_copy(self, stream: IOStream, fd: int, offset: int, count: int, last: bool) -> tuple[int, int]:
        """Send by sendfile what can be sent so; what is left, offset and count, is for somebody else."""
        while stream.writing():  # the headers go first
            await self._written(stream.write(b""))
        # The loop watches a descriptor for one owner, and the stream goes on watching its own for the end.
        with stream.socket.dup() as sock:
            sock.setblocking(False)
            limit, ready, wide = _FIRST_WINDOW, False, False
            while count:
                window = min(count, limit)
                ends = last and window == count
                if ends or not (ready or in_memory(fd, offset, window)):
                    ready = await self._run(self._make_ready, fd, offset, window, ends)
                begun = self._loop.time()
                sent = await self._send_window(sock.fileno(), fd, offset, window)
                if sent == WINDOW and not wide and self._loop.time() - begun < sent / _FAST:
                    wide = True
                    widen(sock)
                _account(self._connection, sent)
                metrics.SENT.inc(sent)
                offset += sent
                count -= sent
                if sent < window:
                    break  # no sendfile between these two: read and write do it
                limit = min(2 * limit, WINDOW)
        return offset, count

    async def _send_window(self, sock: int, fd: int, offset: int, count: int) -> int:
        """The bytes that were sent: fewer only where this file and socket can't do it."""
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

    async def _written(self, written: asyncio.Future[None]) -> None:
        """Until a write is through. Tornado leaves its future alone when the connection ends; `abort` does not."""
        if not written.done():
            written.add_done_callback(self._wake)
            await self._wait()
        elif self._gone or written.exception() is not None:
            raise StreamClosedError

    async def _wait(self) -> None:
        if self._gone:
            raise StreamClosedError
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._gone:
            raise StreamClosedError

    def _wake(self, _: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def plain_stream(connection: HTTPConnection) -> IOStream | None:
    """The stream below a connection when bytes may go straight to its socket, else None."""
    if not hasattr(os, "sendfile") or not isinstance(connection, HTTP1Connection):
        return None
    stream = connection.stream
    # TLS puts something between file and socket.
    if not isinstance(stream, IOStream) or isinstance(stream, SSLIOStream):
        return None
    if not isinstance(getattr(connection, "_expected_content_remaining", None), int):
        return None
    return stream


def _account(connection: HTTPConnection, count: int) -> None:
    """Tell the connection that this much of its Content-Length has gone out: the private attribute of this module."""
    connection._expected_content_remaining -= count  # type: ignore[attr-defined]


def widen(sock: socket.socket) -> None:
    """Let a socket hold more, for a reader that is fast: half as many turns of the loop, and less CPU for both sides.

    Others keep what the kernel finds right for them, so that a slow reader does not pin much of the page cache.
    """
    if _most_buffered() >= _WIDE:  # else it would be less than what the kernel gives by itself
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _WIDE)


@lru_cache(maxsize=1)
def _most_buffered() -> int:
    try:
        with open("/proc/sys/net/core/wmem_max", encoding="ascii") as limit:
            return int(limit.read())
    except (OSError, ValueError):
        return 0


def in_memory(fd: int, offset: int, count: int) -> bool:
    """Whether a part of a file can be read without waiting; False where there is no telling. Never blocks."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    byte = bytearray(1)
    try:
        return all(os.preadv(fd, [byte], place, os.RWF_NOWAIT) == 1 for place in (offset, offset + count - 1))
    except OSError:
        return False


def bring_into_memory(fd: int, offset: int, count: int) -> None:
    """Read a part of a file ahead, and return when its end is there. Blocks."""
    if hasattr(os, "posix_fadvise"):
        # Twice the window: the next one comes while this one goes.
        os.posix_fadvise(fd, offset, 2 * count, os.POSIX_FADV_WILLNEED)
    os.pread(fd, 1, offset + count - 1)


@lru_cache(maxsize=64)
def lives_in_memory(device: int) -> bool:
    """Whether a device is a file system without a disk, which `in_memory` can't see. Blocks the first time."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for mount in mounts:
                fields, _, kind = mount.partition(" - ")
                if fields.split()[2] == wanted:
                    return kind.split()[0] in ("tmpfs", "ramfs")
    except OSError:
        pass  # no Linux: there is no telling
    return False
