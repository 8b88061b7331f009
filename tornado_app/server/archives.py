"""Sends archives: small parts and parts of many files in one go, by sendfile where the socket is plain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque

from tornado.httputil import HTTPConnection
from tornado.iostream import StreamClosedError

from tornado_app.files import metrics
from tornado_app.files.archives.reading import ArchiveBatch, ArchiveChangedError, ArchiveReader, FilePart, Part
from tornado_app.server import sendfile
from tornado_app.server.sendfile import FileChangedError, RunBlocking, Transmission

_MORE = getattr(socket, "MSG_MORE", 0)
_STEP_PARTS = 32
"""Parts that go out in one turn of the loop at most."""


class ArchiveTransmission(Transmission):
    """Sends one archive. The next batch is read while one is sent; `abort` may be called at any time."""

    def __init__(self, connection: HTTPConnection, reader: ArchiveReader, run: RunBlocking, *, timeout: float) -> None:
        super().__init__(connection, None, run, is_ready=True, timeout=timeout)  # type: ignore[arg-type]
        self._archive = reader
        self._socket: socket.socket | None = None

    def abort(self) -> None:
        """See `Transmission`."""
        self._archive.stop()
        super().abort()

    async def send_all(self) -> None:
        """Send all that the reader gives. Raises as `Transmission.send`; before the end all members are verified."""
        reading: asyncio.Future[ArchiveBatch] = asyncio.ensure_future(self._run(self._archive.advance, None))
        sent: ArchiveBatch | None = None
        try:
            while True:
                batch = await reading
                if batch.is_last:
                    break
                reading = asyncio.ensure_future(self._run(self._archive.advance, sent))
                await self._send_parts(batch.parts)
                sent = batch
            if batch.parts:
                await self._send_parts(batch.parts[:-1], more=True)
                await self._run(self._archive.check)
                await self._send_parts(batch.parts[-1:])
        except ArchiveChangedError:
            raise FileChangedError from None
        finally:
            self._archive.stop()
            if not reading.done():
                await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()
            if self._socket is not None:
                self._socket.close()
            await self._run(self._archive.close)

    async def _send_parts(self, parts: list[Part], *, more: bool = False) -> None:
        left = deque(memoryview(part) if isinstance(part, bytearray) else part for part in parts)
        stream = sendfile.plain_stream(self._connection)
        if stream is not None and left:
            await self._flushed(stream)
            if self._socket is None:
                with contextlib.suppress(OSError):  # out of descriptors: Tornado's own way needs none
                    self._socket = stream.socket.dup()
                    self._socket.setblocking(False)
            if self._socket is not None:
                await self._send_directly(self._socket, left, more)
        while left:
            part = left.popleft()
            if isinstance(part, FilePart):
                data = await self._run(os.pread, part.fd, min(part.count, sendfile.PIECE), part.offset)
                if not data:
                    raise FileChangedError
                if len(data) < part.count:
                    left.appendleft(FilePart(part.fd, part.offset + len(data), part.count - len(data)))
            else:
                data = bytes(part)
            await self.write(data)
            metrics.SENT.inc(len(data))

    async def _send_directly(self, sock: socket.socket, left: deque[memoryview | FilePart], more: bool) -> None:
        """Send parts by system calls of the socket until none is `left`, or sendfile can't use a file."""
        failure: BaseException | None = None
        unusable = False
        total = 0

        def step() -> None:
            nonlocal failure, unusable, total
            moved_now = 0
            try:
                for _ in range(_STEP_PARTS):
                    if not left or moved_now >= sendfile.STEP:
                        break
                    part = left[0]
                    if isinstance(part, FilePart):
                        moved = os.sendfile(sock.fileno(), part.fd, part.offset, part.count)
                        if not moved:
                            raise FileChangedError
                        rest: memoryview | FilePart | None = None
                        if moved < part.count:
                            rest = FilePart(part.fd, part.offset + moved, part.count - moved)
                    else:
                        moved = sock.send(part, _MORE if more or len(left) > 1 else 0)
                        rest = part[moved:] if moved < len(part) else None
                    moved_now += moved
                    if rest is None:
                        left.popleft()
                    else:
                        left[0] = rest
            except BlockingIOError:
                pass
            except (ConnectionError, FileChangedError) as error:
                failure = error
            except OSError:
                unusable = True
            total += moved_now
            self._taken += moved_now
            if failure is not None or unusable or not left:
                self._wake()

        if self._gone:
            raise StreamClosedError
        sendfile.limit_unsent(sock, sendfile.UNSENT_OF_MANY)
        step()
        try:
            if left and failure is None and not unusable:
                self._loop.add_writer(sock, step)
                try:
                    await self._wait()
                finally:
                    self._loop.remove_writer(sock)
        finally:
            sendfile.account(self._connection, total)
            metrics.SENT.inc(total)
        if isinstance(failure, ConnectionError):
            raise StreamClosedError(failure) from failure
        if failure is not None:
            raise failure
