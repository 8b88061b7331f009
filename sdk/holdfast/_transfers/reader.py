"""Published file as a Python file: seekable, buffered, with read-ahead by range requests, of one version."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from holdfast import calls, plans
from holdfast.errors import NotFound, PreconditionFailed, RemoteChanged
from holdfast.plans import Plan, Retries, read

FIRST = 64 << 10  # bytes of the first request: enough for a header or a footer
READ_SIZE = 64 << 10  # size of the buffer
MOST = 8 << 20  # maximum bytes of one request, reached by doubling while reads are sequential


class Reading:
    """Position and buffer of a reader. The sync and the async reader run its plans."""

    def __init__(self, name: str, retries: Retries) -> None:
        self.name = name
        self.size = 0
        self.etag: str | None = None
        self.at = 0
        self._retries = retries
        self._begin = 0
        self._block = b""
        self._ahead = FIRST

    def open(self) -> Plan[None]:
        """Fetch the size and the version. Raises `NotFound`."""
        head: calls.FileHead = yield from plans.head(self.name, self._retries)
        self.size, self.etag = head.size, head.etag

    def read(self, size: int) -> Plan[bytes]:
        """Return the next bytes, at most `size`; fewer only at the end of a block, none only at the end of the file.

        Raises:
            RemoteChanged: the file was replaced since it was opened.
        """
        if self.at >= self.size or size <= 0:
            return b""
        if not self._begin <= self.at < self._begin + len(self._block):
            follows = self.at == self._begin + len(self._block) and bool(self._block)
            self._ahead = min(self._ahead * 2, MOST) if follows else FIRST
            yield from self._fetch(max(size, self._ahead))
        begin = self.at - self._begin
        data = self._block[begin : begin + size]
        self.at += len(data)
        return data

    def _fetch(self, size: int) -> Plan[None]:
        end = min(self.size, self.at + size)
        try:
            block = yield from read(self.name, self.at, end, self.etag, self._retries)
            self._begin, self._block = self.at, block
        except (PreconditionFailed, NotFound) as error:
            raise RemoteChanged(
                f"{self.name!r} has changed on the server since it was opened. Open it again"
            ) from error

    def seek(self, offset: int, whence: int) -> int:
        """Set the position and return it. Raises `ValueError` for one before the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence is {whence}. It must be 0, 1 or 2")
        if base + offset < 0:
            raise ValueError(f"byte {base + offset} is before the start of the file")
        self.at = base + offset
        return self.at


class RemoteFile(io.RawIOBase):
    """Unbuffered reader of a published file. `RemoteReader` adds the buffer."""

    def __init__(self, reading: Reading, run: Callable[[Plan[bytes]], bytes]) -> None:
        super().__init__()
        self._reading = reading
        self._run = run
        self.name = reading.name
        self.size = reading.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check()
        return self._reading.seek(offset, whence)

    def tell(self) -> int:
        self._check()
        return self._reading.at

    def readinto(self, buffer: object) -> int:
        self._check()
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # any writable buffer
        data = self._run(self._reading.read(len(view)))
        view[: len(data)] = data
        return len(data)

    def _check(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")


class RemoteReader(io.BufferedReader):
    """A published file, open for reading: seekable, buffered, with read-ahead, always of one version.

    `name` is the name of the file on the server, `size` its length in bytes. Reading raises `RemoteChanged` after the
    file was replaced.
    """

    def __init__(self, file: RemoteFile) -> None:
        super().__init__(file, READ_SIZE)
        self.size = file.size


class AsyncRemoteFile:
    """A published file, open for reading in async code. An async context manager, as files are."""

    def __init__(self, reading: Reading, run: Callable[[Plan[bytes]], Awaitable[bytes]]) -> None:
        self._reading = reading
        self._run = run
        self.name = reading.name
        self.size = reading.size

    async def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, by default all that are left. Raises `RemoteChanged`."""
        left = self.size - self._reading.at if size < 0 else size
        pieces: list[bytes] = []
        while left > 0 and (piece := await self._run(self._reading.read(left))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position and return it. Raises `ValueError` for one before the start."""
        return self._reading.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._reading.at

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing: no connection is kept between reads."""
