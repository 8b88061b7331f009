"""Files that are read over ranges, always in one version, with a read-ahead that grows."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from fsspec.caching import BaseCache, register_cache
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from holdfast import errors
from holdfast._fsspec.os_errors import as_os_errors, os_error
from holdfast._transfers.reader import FIRST, MOST

LINE = 8 << 10  # bytes that are read at a time to find the end of a line


class GrowingReadAhead(BaseCache):  # type: ignore[misc]  # fsspec has no types
    """Cache of the bytes around the last read. Read-ahead grows while reads are sequential."""

    name = "holdfast"

    def __init__(self, blocksize: int, fetcher: Callable[[int, int], bytes], size: int) -> None:
        super().__init__(blocksize, fetcher, size)
        self._begin = 0
        self._block: bytes = b""
        self._ahead = FIRST

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        start = max(0, start or 0)
        stop = self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return b""
        end = self._begin + len(self._block)
        follows = bool(self._block) and self._begin <= start <= end
        head = self._block[start - self._begin : stop - self._begin] if follows else b""
        if len(head) == stop - start:
            self.hit_count += 1
            return head
        self.miss_count += 1
        self._ahead = min(self._ahead * 2, MOST) if follows else FIRST
        begin = start + len(head)
        block = self.fetcher(begin, min(self.size, max(stop, begin + self._ahead)))
        self.total_requested_bytes += len(block)
        self._begin, self._block = begin, block
        data: bytes = head + block[: stop - begin]
        return data


register_cache(GrowingReadAhead, clobber=True)


class ReadFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file that is read over ranges, always in the version that was opened: else reading is `RemoteChanged`."""

    def __init__(
        self,
        fs: AbstractFileSystem,
        path: str,
        block_size: int | None = None,
        cache_type: str = GrowingReadAhead.name,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("size", None)  # what a cache remembers may be of another version
        details = fs.info(path)
        if details["type"] != "file":
            raise os_error(errno.EISDIR, path)
        self._details, self.name = details, path
        super().__init__(
            fs,
            path,
            "rb",
            block_size,
            cache_type=cache_type,
            cache_options=cache_options,
            size=details["size"],
            **kwargs,
        )

    def _fetch_range(self, start: int, end: int) -> bytes:
        try:
            with as_os_errors(self.path):
                return self.fs.client.files.read(self.path, start, end, etag=self._details["etag"])  # type: ignore[no-any-return]
        except (errors.PreconditionFailed, FileNotFoundError) as error:
            raise errors.RemoteChanged(
                f"{self.path!r} has changed on the server since it was opened. Open it again"
            ) from error

    def readline(self, size: int | None = -1) -> bytes:
        """Return the next line, or its first `size` bytes."""
        line: bytes = self.readuntil(blocks=LINE)
        if size is not None and 0 <= size < len(line):
            self.loc -= len(line) - size
            return line[:size]
        return line
