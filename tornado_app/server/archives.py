"""Sends archives: small parts and parts of many files in one go, by sendfile where the socket is plain."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
import time
from enum import Enum, auto

from tornado.httputil import HTTPConnection
from tornado.iostream import IOStream, StreamClosedError

from tornado_app.files import metrics
from tornado_app.files.archives.reading import ArchiveChangedError, ArchiveReader, FilePart
from tornado_app.server import sendfile
from tornado_app.server.sendfile import FileChangedError, RunBlocking, Transmission

_MORE = getattr(socket, "MSG_MORE", 0)
_TRIP = 64 << 20
"""Bytes that one call in a worker thread sends at most: others wait for the thread."""
_PATIENCE_MS = 20
"""How long a worker thread waits for a client that reads quickly; for others the event loop waits."""
_MOST_PATIENT = threading.BoundedSemaphore(2)  # threads that wait at once


class _State(Enum):
    """State of a sending after one call in a worker thread."""

    DONE = auto()
    TURN = auto()  # it is the turn of others
    BLOCKED = auto()  # the socket is full
    UNUSABLE = auto()  # no sendfile between this file and socket


class ArchiveTransmission(Transmission):
    """Sends one archive; `abort` may be called at any time.

    To a plain socket a worker thread sends part after part: it opens a file, sends it and closes it, while the event
    loop rests. To pass each from a thread to the loop costs twice as much, most of it in turns of the GIL.
    """

    def __init__(self, connection: HTTPConnection, reader: ArchiveReader, run: RunBlocking, *, timeout: float) -> None:
        super().__init__(connection, None, run, is_ready=True, timeout=timeout)  # type: ignore[arg-type]
        self._archive = reader
        self._left: memoryview | FilePart | None = None

    def abort(self) -> None:
        """See `Transmission`."""
        self._archive.stop()
        super().abort()

    async def send_all(self) -> None:
        """Send all that the reader gives. Raises as `Transmission.send`; before the end all members are verified."""
        stream = sendfile.plain_stream(self._connection)
        try:
            if stream is None or not await self._send_directly(stream):
                await self._send_pieces()
        except ArchiveChangedError:
            raise FileChangedError from None
        finally:
            self._archive.stop()
            await self._run(self._archive.close)

    async def _send_pieces(self) -> None:
        """Send by Tornado's own way. The next piece is read while one is sent."""
        reading = asyncio.ensure_future(self._run(self._read_piece))
        try:
            while data := await reading:
                reading = asyncio.ensure_future(self._run(self._read_piece))
                await self.write(data)
                metrics.SENT.inc(len(data))
        finally:
            self._archive.stop()
            if not reading.done():
                await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()

    def _read_piece(self) -> bytes:
        """Return the next bytes, none after the last. Blocks."""
        data = bytearray()
        while len(data) < sendfile.PIECE and (part := self._advance()) is not None:
            self._left = None
            if isinstance(part, FilePart):
                read = os.pread(part.fd, min(part.size, sendfile.PIECE), part.offset)
                if not read:
                    raise FileChangedError
                if len(read) < part.size:
                    self._left = FilePart(part.fd, part.offset + len(read), part.size - len(read))
                data += read
            else:
                data += part
        return bytes(data)

    def _advance(self) -> memoryview | FilePart | None:
        """Return what is left of a part, else the next one, None after the last. Blocks."""
        if self._left is None:
            part = self._archive.next_part()
            self._left = part if part is None or isinstance(part, FilePart) else memoryview(part)
        return self._left

    async def _send_directly(self, stream: IOStream) -> bool:
        """Send by system calls of the socket; return False where sendfile can't be used, and parts are left."""
        await self._flushed(stream)
        try:
            own = stream.socket.dup()
        except OSError:
            return False  # out of descriptors: Tornado's own way needs none
        with own as sock:
            sock.setblocking(False)
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            unsent = sendfile.UNSENT_OF_MANY
            while True:
                if self._gone:
                    raise StreamClosedError
                sendfile.limit_unsent(sock, unsent)
                before, began = self._taken, time.monotonic()
                try:
                    state = await self._run(self._send_some, sock, poll)
                except ConnectionError as error:
                    raise StreamClosedError(error) from error
                finally:
                    sent = self._taken - before
                    sendfile.account(self._connection, sent)
                    metrics.SENT.inc(sent)
                if state is _State.DONE:
                    if sock.family != socket.AF_UNIX:  # what waits for more, see `_MORE`, goes now
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return True
                if state is not _State.BLOCKED:
                    if state is _State.UNUSABLE:
                        return False
                    is_fast = sent >= sendfile.FAST * (time.monotonic() - began)
                    unsent = sendfile.UNSENT_OF_FAST if is_fast else sendfile.UNSENT_OF_MANY
                    continue
                self._loop.add_writer(sock, self._wake)
                try:
                    await self._wait()
                finally:
                    self._loop.remove_writer(sock)

    def _send_some(self, sock: socket.socket, poll: select.poll) -> _State:
        """Send until the socket stays full, or others have waited long enough. Blocks."""
        fd, end = sock.fileno(), self._taken + _TRIP
        while self._taken < end and not self._gone:
            if (part := self._advance()) is None:
                return _State.DONE
            try:
                if isinstance(part, FilePart):
                    moved = self._send_file(fd, part)
                else:
                    moved = sock.send(part, _MORE)
                    self._left = part[moved:] if moved < len(part) else None
            except BlockingIOError:
                if not _becomes_writable(poll):
                    return _State.BLOCKED
                continue
            if moved < 0:
                return _State.UNUSABLE
            self._taken += moved
        return _State.TURN

    def _send_file(self, sock: int, part: FilePart) -> int:
        """Send of a file what the socket takes; return how much, -1 where sendfile can't be used."""
        try:
            moved = os.sendfile(sock, part.fd, part.offset, min(part.size, sendfile.STEP))
        except (BlockingIOError, ConnectionError):
            raise
        except OSError:
            return -1
        if not moved:
            raise FileChangedError
        self._left = FilePart(part.fd, part.offset + moved, part.size - moved) if moved < part.size else None
        return moved


def _becomes_writable(poll: select.poll) -> bool:
    """Return whether the socket takes more within moments. Blocks."""
    if not _MOST_PATIENT.acquire(blocking=False):
        return False
    try:
        return bool(poll.poll(_PATIENCE_MS))
    finally:
        _MOST_PATIENT.release()
