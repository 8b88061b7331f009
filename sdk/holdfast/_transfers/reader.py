"""A published file as a Python file: seekable, buffered, read ahead over ranges, always of one version."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from holdfast import calls, plans
from holdfast.errors import NotFound, PreconditionFailed, RemoteChanged
from holdfast.plans import Plan, Retries, read

FIRST = 64 << 10  # bytes of the first read: enough for a footer or a header
READ_SIZE = 64 << 10  # bytes that the buffer in front asks for
MOST = 8 << 20  # bytes of one read at most, reached by doubling while reads follow each other


class Reading:
    """Where a reader stands and what it has fetched; both faces run its plans."""

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
        """Learn the size and the version. Raises `NotFound`."""
        head: calls.FileHead = yield from plans.head(self.name, self._retries)
        self.size, self.etag = head.size, head.etag

    def read(self, size: int) -> Plan[bytes]:
        """The next bytes, at most `size`; fewer only where a block ends, none only at the end.

        Raises:
            RemoteChanged: the file is another version than the one that was opened.
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
            raise RemoteChanged(f"{self.name!r} has changed on the server since it was opened") from error

    def seek(self, offset: int, whence: int) -> int:
        """Stand elsewhere. Raises `ValueError` for a place before the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence is 0, 1 or 2, not {whence}")
        if base + offset < 0:
            raise ValueError(f"byte {base + offset} is before the start of the file")
        self.at = base + offset
        return self.at


class RemoteFile(io.RawIOBase):
    """A published file for reading, over ranges. Wrapped by `RemoteReader` where users get it."""

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
    """A published file, open for reading: seekable, buffered, read ahead over ranges, always of one version.

    `name` is the file's name on the server, `size` its length in bytes. Reading raises `RemoteChanged` once the file
    was replaced.
    """

    def __init__(self, file: RemoteFile) -> None:
        super().__init__(file, READ_SIZE)
        self.size = file.size


class AsyncRemoteFile:
    """A published file for reading in async code, over ranges. An async context manager, like a file."""

    def __init__(self, reading: Reading, run: Callable[[Plan[bytes]], Awaitable[bytes]]) -> None:
        self._reading = reading
        self._run = run
        self.name = reading.name
        self.size = reading.size

    async def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, or all that are left; fewer only at the end. Raises `RemoteChanged`."""
        left = self.size - self._reading.at if size < 0 else size
        pieces: list[bytes] = []
        while left > 0 and (piece := await self._run(self._reading.read(left))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Stand elsewhere; where that is. Raises `ValueError` for a place before the start."""
        return self._reading.seek(offset, whence)

    def tell(self) -> int:
        """Where it stands."""
        return self._reading.at

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held between reads."""
