"""Sources of uploads: files, bytes and streams; and digests of files. Blocks."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from holdfast._local_files.pipes import is_of_this_process, is_stream, pieces_of
from holdfast.errors import LocalChanged, TransferError

PIECE = 1 << 20
HASHED = 256 << 10  # bytes that are read and hashed together, so that they fit into the cache of the processor
HEAD = 64 << 10  # bytes at the start whose digest shows whether a file is still that of a record


class LocalSource(ABC):
    """Content of an upload. `size` is None while it is not known. Several threads may read."""

    size: int | None

    def stat(self) -> LocalSource:
        """Find out `size` and return the source to read, which may be another one. Raises `OSError`."""
        return self

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`; fewer only at the end."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Read into a buffer; return how many bytes."""
        data = self.read(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def forget(self, offset: int) -> None:  # noqa: B027 - most have nothing to do
        """Release the bytes before `offset`: the server has them, so they are not read again."""

    def close(self) -> None:  # noqa: B027 - likewise
        """Release open files; another read opens them again."""


class FileSource(LocalSource):
    """File by its path. A change since the first `stat` raises `LocalChanged`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.size: int | None = None
        self.modified_ns = 0
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()

    def stat(self) -> FileSource:
        """Find out size and time of the file. Raises `IsADirectoryError` for a folder."""
        if self.size is not None:
            return self
        status = self.path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder. Use upload_folder to send it", str(self.path))
        self.modified_ns, self.size = status.st_mtime_ns, status.st_size
        return self

    def has_changed(self) -> bool:
        """Return whether the file at the path is another one than at `stat`. Raises `OSError`."""
        status = self.path.stat()
        return self.size is not None and (status.st_size, status.st_mtime_ns) != (self.size, self.modified_ns)

    def read(self, offset: int, size: int) -> bytes:
        """Raises `LocalChanged` if the file has changed."""
        return os.pread(self._unchanged(), size, offset)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Raises `LocalChanged` if the file has changed."""
        return os.preadv(self._unchanged(), [buffer], offset)

    def _unchanged(self) -> int:
        with self._lock:
            if self._file is None:
                self._file = self.path.open("rb")
            number = self._file.fileno()
        status = os.fstat(number)
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified_ns):
            raise LocalChanged(
                f"{self.path} has changed since its upload began. Pass restart=True to send it as it is now"
            )
        return number

    def head_digest(self) -> str:
        """Return the SHA-256 of the first bytes, as hex."""
        return hashlib.sha256(self.read(0, HEAD)).hexdigest()

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


class BytesSource(LocalSource):
    """Bytes in memory."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self.size = len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._data[offset : offset + size])


class SeekableSource(LocalSource):
    """Open, seekable binary file, from its current position to its end. It is not closed: it belongs to the caller."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._begin = file.tell()
        self.size: int = file.seek(0, os.SEEK_END) - self._begin

    def read(self, offset: int, size: int) -> bytes:
        found = bytearray()
        with self._lock:
            self._file.seek(self._begin + offset)
            # An unbuffered file may return less than asked for.
            while len(found) < size and (piece := self._file.read(size - len(found))):
                found += _as_bytes(piece)
        return bytes(found)


class StreamSource(LocalSource):
    """Bytes that can be read only once. Those that the server has not confirmed are kept in memory."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.size = None
        self._pieces = iter(pieces)
        self._begin = 0
        self._window = bytearray()
        self._failure: BaseException | None = None

    def read(self, offset: int, size: int) -> bytes:
        if offset < self._begin:
            raise TransferError(
                f"the server asks for byte {offset} again, but bytes before {self._begin} are gone. "
                "Upload from a path, which can be read again"
            )
        while len(self._window) < offset - self._begin + size:
            piece = self._next()
            if piece is None:
                break
            self._window += piece
        return bytes(self._window[offset - self._begin : offset - self._begin + size])

    def _next(self) -> bytes | None:
        """Whoever asks again after a failure gets it again: a generator that has raised looks like one at its end."""
        if self._failure is not None:
            raise self._failure
        try:
            piece = next(self._pieces, None)
            return None if piece is None else _as_bytes(piece)
        except BaseException as failure:
            self._failure = failure
            raise

    def forget(self, offset: int) -> None:
        del self._window[: max(0, offset - self._begin)]
        self._begin = max(self._begin, offset)


class PathSource(LocalSource):
    """Path that was not opened yet: a file, a pipe or a device."""

    size = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path if is_of_this_process(path) else Path(path).absolute()

    def stat(self) -> LocalSource:
        """Return the source for what the path is. Raises `OSError`."""
        if is_stream(self._path):
            return StreamSource(pieces_of(self._path))
        return FileSource(os.path.realpath(self._path) if is_of_this_process(self._path) else self._path).stat()

    def read(self, offset: int, size: int) -> bytes:
        return self.stat().read(offset, size)


Content = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes]


def source_of(content: Content) -> LocalSource:
    """Return the source for what a user passes to `upload`. A path is not opened yet. Raises `TypeError`."""
    if isinstance(content, (str, os.PathLike)):
        return PathSource(content)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return BytesSource(content)
    given: object = content  # callers may ignore the types
    if isinstance(given, io.TextIOBase):
        raise TypeError('the file is open in text mode. Open it with mode "rb"')
    read = getattr(content, "read", None)
    if read is not None:
        seekable = getattr(content, "seekable", None)
        if seekable is not None and seekable():
            return SeekableSource(content)  # type: ignore[arg-type]  # it can read and seek, which is enough
        return StreamSource(_pieces_of(read))
    if isinstance(content, Iterable):
        return StreamSource(content)
    raise TypeError(f"upload takes a path, bytes, a binary file or an iterable of bytes, not {type(content).__name__}")


def _as_bytes(piece: Any) -> bytes:
    if isinstance(piece, str):
        raise TypeError("the content is text, not bytes. Encode it, or open the file in binary mode")
    found: bytes = piece
    return found


def name_of(content: Content) -> str:
    """Return the file name of content that has one. Raises `ValueError` if it has none."""
    path = content if isinstance(content, (str, os.PathLike)) else getattr(content, "name", None)
    named = isinstance(path, (str, os.PathLike)) and not is_of_this_process(path)
    name = Path(path).name if named and path is not None else ""
    if not name:
        raise ValueError("the content has no file name. Pass the name for the server: name=...")
    return name


def _pieces_of(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(PIECE):
        yield piece


class HashWorker:
    """Computes the SHA-256 of a file on a thread while the transfer runs.

    It reads written bytes back from the page cache, which works for segments in any order and for bytes that an earlier
    run has left.
    """

    def __init__(self, read_into: Callable[[int, memoryview], int]) -> None:
        self._read_into = read_into
        self._digest = hashlib.sha256()
        self._at = 0
        self._limit = 0
        self._stopped = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def advance(self, limit: int) -> None:
        """Allow reading of everything before `limit`."""
        with self._changed:
            self._limit = max(self._limit, limit)
            if self._limit - self._at < PIECE:
                return
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="holdfast-digest", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or self._limit - self._at >= PIECE)
                    limit = self._limit
                    if self._stopped:
                        return
                self._hash(limit)
        except BaseException as error:
            self._failure = error

    def _hash(self, limit: int) -> None:
        buffer = memoryview(bytearray(min(HASHED, limit - self._at)))
        while self._at < limit and not self._stopped:
            count = self._read_into(self._at, buffer[: limit - self._at])
            if not count:
                raise TransferError(f"the file ends at {self._at}, before byte {limit}")
            self._digest.update(buffer[:count])
            self._at += count

    def finish(self, size: int) -> str:
        """Hash the rest and return the digest of all `size` bytes, as hex."""
        self.stop()
        if self._failure is not None:
            raise self._failure
        self._stopped = False
        self._hash(size)
        return self._digest.hexdigest()

    def stop(self) -> None:
        """Stop the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()


def is_at(number: int, path: Path) -> bool:
    """Return whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
