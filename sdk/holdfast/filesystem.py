"""The files of a server as an fsspec file system, so that pandas, pyarrow, Dask and zarr read and write them.

    import pandas

    pandas.read_csv("holdfast://data/flights.csv", storage_options={"base_url": "http://127.0.0.1:8000"})

Needs fsspec (the extra `fsspec`), which finds it by its entry point; `import holdfast` does not import it.
A path is the name of a file on the server. `base_url` and `token` name the server, by default `HOLDFAST_URL` and
`HOLDFAST_TOKEN`. A folder exists only while it has files: creating and removing empty folders does nothing.
"""

from __future__ import annotations

import errno
import os
import queue
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, BinaryIO, Literal, TypeVar

from fsspec.caching import BaseCache, register_cache
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from fsspec.utils import isfilelike

from holdfast import errors, wire
from holdfast._sync.client import Client
from holdfast._transfers.handles import Transfer, TransferState
from holdfast._transfers.reader import FIRST, MOST

T = TypeVar("T")

BLOCK = 8 << 20  # bytes that are collected before they are sent
LINE = 8 << 10  # bytes that are read at a time to find the end of a line
PAGE = 1000  # files in one request
Mode = Literal["overwrite", "create"]


class _Environment:
    """Environment variables, as part of the key by which fsspec caches file systems."""

    def __get__(self, instance: object, owner: type) -> tuple[str | None, str | None]:
        return os.environ.get("HOLDFAST_URL"), os.environ.get("HOLDFAST_TOKEN")


class HoldfastFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """File system for `holdfast://`. Listings are not cached.

    Errors are those of the built-in `open`: `FileNotFoundError`, `FileExistsError`, `PermissionError`, `OSError` for an
    invalid name. A server that can't be reached raises `holdfast.errors.TransportError`.

    Args:
        base_url: URL of the server; default `HOLDFAST_URL`, else http://127.0.0.1:8000.
        token: token of the server; default `HOLDFAST_TOKEN`.
        timeout: seconds without a byte after which a request fails.
        retries: how often a request that is safe to repeat is sent again.

    Raises:
        ValueError: `base_url` is not an http or https URL.
    """

    protocol = "holdfast"
    environment = _Environment()
    _extra_tokenize_attributes = ("environment",)

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int | None = None,
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        self._connect = partial(Client, base_url, token, timeout=timeout, retries=retries)
        self._client, self._process = self._connect(), os.getpid()
        weakref.finalize(self, self._client.close)

    @property
    def client(self) -> Client:
        """The client in use. A forked process makes its own, because connections can't be shared."""
        if self._process != os.getpid():
            self._client, self._process = self._connect(), os.getpid()
        return self._client

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return stripped.lstrip("/") if isinstance(stripped, str) else stripped

    # -- listings

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return `name`, `size` and `type`, for a file also `modified`, `etag`, `sha256` and `content_type`."""
        name = self._strip_protocol(path)
        if not name:
            return _folder("")
        with _as_os_errors(name):
            try:
                return _file(self.client.files.info(name))
            except errors.NotFound as error:
                if next(self.client.files.list(name + "/", page_size=1), None) is not None:
                    return _folder(name)
                raise _os_error(errno.ENOENT, name) from error

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Return whether there is a file or folder of this name. Raises if the server can't be reached."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any
    ) -> Any:
        """Return all files below a folder, at most `maxdepth` levels, by name; with `withdirs`, also the folders."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        base = self._strip_protocol(path)
        found = self._level(base) if maxdepth == 1 else self._tree(base, maxdepth)
        if not withdirs:
            found = {name: item for name, item in found.items() if item["type"] == "file"}
        elif found and base:
            found[base] = _folder(base)
        if not found and base and self.exists(base):
            item = self.info(base)
            if item["type"] == "file" or withdirs:
                found[base] = item
        return dict(sorted(found.items())) if detail else sorted(found)

    def _level(self, folder: str) -> dict[str, dict[str, Any]]:
        """Return the entries of a folder, by name, with one request for each page."""
        found: dict[str, dict[str, Any]] = {}
        with _as_os_errors(folder):
            for item in self.client.files.list_folder(folder, page_size=PAGE):
                if isinstance(item, wire.Folder):
                    name = item.name.removesuffix("/")
                    found[name] = _folder(name)
                else:
                    found[item.name] = _file(item)
        return found

    def _tree(self, folder: str, maxdepth: int | None) -> dict[str, dict[str, Any]]:
        """Return everything below a folder, by name, at most `maxdepth` levels."""
        prefix = folder + "/" if folder else ""
        found: dict[str, dict[str, Any]] = {}
        with _as_os_errors(folder):
            for file in self.client.files.list(prefix, page_size=PAGE):
                parts = file.name.removeprefix(prefix).split("/")
                folders = ["/".join(parts[:depth]) for depth in range(1, len(parts))][:maxdepth]
                found |= {prefix + name: _folder(prefix + name) for name in folders if prefix + name not in found}
                if maxdepth is None or len(parts) <= maxdepth:
                    found[file.name] = _file(file)
        return found

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        """List a folder, or return the file itself. Raises `FileNotFoundError`."""
        name = self._strip_protocol(path)
        found = self._level(name)
        if name and not found:
            found[name] = self.info(name)
        return [*found.values()] if detail else [*found]

    def modified(self, path: str) -> datetime:
        """Return the time when the file was published."""
        info = self.info(path)
        if "modified" not in info:
            raise _os_error(errno.EISDIR, info["name"])
        changed: datetime = info["modified"]
        return changed

    def created(self, path: str) -> datetime:
        """Return the time when the file was published: published files do not change."""
        return self.modified(path)

    def checksum(self, path: str) -> int:
        """Return a number that changes whenever the content changes."""
        return hash(self.info(path)["etag"])

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
        """Return a URL by which anybody can read the file without the token, for `expiration` seconds."""
        return self.client.files.download_link(self._strip_protocol(path), expires=expiration).url

    # -- folders, which exist only as prefixes of names

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Do nothing: a folder exists as soon as it has a file."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing, as `mkdir`."""

    def rmdir(self, path: str) -> None:
        """Do nothing: a folder is gone with its last file."""

    # -- whole files

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Return the bytes from `start` to `end`; negative numbers count from the end, as in a slice."""
        name = self._strip_protocol(path)
        with _as_os_errors(name):
            if start is None and end is None:
                return self.client.files.read(name)
            if (start or 0) >= 0 and (end is None or end > (start or 0)):
                try:
                    return self.client.files.read(name, start or 0, end)
                except errors.RangeNotSatisfiable:
                    return b""
            file = self.client.files.info(name)
            begin, stop, _ = slice(start, end).indices(file.size)
            return self.client.files.read(name, begin, stop, etag=file.etag) if begin < stop else b""

    def pipe_file(self, path: str, value: bytes, mode: Mode = "overwrite", **kwargs: Any) -> None:
        """Publish `value` as a file. Raises `FileExistsError` if `mode` is `create` and the file exists."""
        self._upload(value, self._strip_protocol(path), mode)

    def put_file(
        self, lpath: Any, rpath: str, callback: Callback = DEFAULT_CALLBACK, mode: Mode = "overwrite", **kwargs: Any
    ) -> None:
        """Upload a file. After an interrupted call, the next one continues."""
        if not os.path.isdir(lpath):
            self._upload(lpath, self._strip_protocol(rpath), mode, callback)

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Callback = DEFAULT_CALLBACK,
        outfile: BinaryIO | None = None,
        allow_dangerous: bool = False,
        **kwargs: Any,
    ) -> None:
        """Download a file. After an interrupted call, the next one continues.

        Raises:
            DangerousName: programs run or trust the target, and `allow_dangerous` is false.
        """
        name = self._strip_protocol(rpath)
        if outfile is not None or isfilelike(lpath):
            super().get_file(name, lpath, callback=callback, outfile=outfile)
        elif self.isdir(name):
            os.makedirs(lpath, exist_ok=True)
        else:
            with _as_os_errors(name):
                transfer = self.client.files.download(name, lpath, overwrite=True, allow_dangerous=allow_dangerous)
                _wait_for(transfer, callback)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file, by way of this client."""
        source = self._strip_protocol(path1)
        if self.isdir(source):
            return
        with _as_os_errors(source), self.client.files.open(source) as file:
            self._upload(file, self._strip_protocol(path2), "overwrite")

    def rm_file(self, path: str) -> None:
        """Delete a file."""
        name = self._strip_protocol(path)
        with _as_os_errors(name):
            try:
                self.client.files.delete(name)
            except errors.BadRequest as error:  # a file with an invalid name does not exist
                raise _os_error(errno.ENOENT, name) from error

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete files; with `recursive`, all files below a folder."""
        names = self.expand_path(path)
        if recursive:
            names = sorted({file for name in names for file in self.find(name, maxdepth=maxdepth)})
        if not names:
            raise _os_error(errno.ENOENT, path)
        for name in names:
            self.rm_file(name)

    def _upload(self, content: Any, name: str, mode: Mode, callback: Callback = DEFAULT_CALLBACK) -> None:
        if mode == "create":
            self._refuse_existing(name)
        with _as_os_errors(name):
            _wait_for(self.client.files.upload(content, name, overwrite=mode != "create"), callback)

    def _refuse_existing(self, name: str) -> None:
        """Raise `FileExistsError` if the file exists. An upload without `overwrite` accepts the same content."""
        if self.exists(name):
            raise _os_error(errno.EEXIST, name)

    # -- open files

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Open for reading, by ranges of one version, or for writing, as an upload that `close` publishes."""
        if mode == "rb":
            return ReadFile(self, path, block_size, cache_options=cache_options, **kwargs)
        if mode == "xb":
            self._refuse_existing(path)
        file = WrittenFile(self, path, mode, block_size or BLOCK, autocommit)
        if mode == "ab" and self.exists(path):
            # A published file never changes: to append, its content is sent again and the file replaced.
            with self.open(path, "rb") as before:
                while piece := before.read(BLOCK):
                    file.write(piece)
        return file


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
        fs: HoldfastFileSystem,
        path: str,
        block_size: int | None = None,
        cache_type: str = GrowingReadAhead.name,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("size", None)  # what a cache remembers may be of another version
        details = fs.info(path)
        if details["type"] != "file":
            raise _os_error(errno.EISDIR, path)
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
            with _as_os_errors(self.path):
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


class WrittenFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file open for writing. A small one is sent in one request by `close`, a bigger one while it is written.

    It is published when it is closed, or, in a transaction, when that is committed. A `with` block that ends with an
    exception publishes nothing.
    """

    def __init__(self, fs: HoldfastFileSystem, path: str, mode: str, block_size: int, autocommit: bool) -> None:
        super().__init__(fs, path, mode, block_size, autocommit)
        self._overwrite = mode != "xb"
        self._last = b""
        self._pieces = _Pieces()
        self._transfer: Transfer[wire.FileInfo] | None = None

    def _upload_chunk(self, final: bool = False) -> bool:
        piece: bytes = self.buffer.getvalue()
        if final:
            self._last = piece
            if self.autocommit:
                self.commit()
        else:
            with _as_os_errors(self.path):
                self._send(piece)
        return True

    def _send(self, piece: bytes | None) -> None:
        if self._transfer is None:
            self._transfer = self.fs.client.files.upload(self._pieces, self.path, overwrite=self._overwrite)
        while not self._pieces.put(piece):
            if self._transfer.state is TransferState.FAILED:
                self._transfer.wait()

    def commit(self) -> None:
        """Publish the file."""
        with _as_os_errors(self.path):
            if self._transfer is None:
                _wait_for(self.fs.client.files.upload(self._last, self.path, overwrite=self._overwrite))
            else:
                self._send(self._last)
                self._send(None)
                self._transfer.wait()

    def discard(self) -> None:
        """Discard the upload. A file that was published before stays."""
        self.closed = True
        if self._transfer is not None:
            self._pieces.abort()
            self._transfer.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _Pieces:
    """Pieces that one thread writes and another one sends."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[bytes | None] = queue.Queue(maxsize=1)
        self._aborted = False

    def put(self, piece: bytes | None) -> bool:
        """Pass a piece on, None after the last. Return False if the piece before was not taken within 0.2 s."""
        try:
            self._waiting.put(piece, timeout=0.2)
        except queue.Full:
            return False
        return True

    def abort(self) -> None:
        """Raise an error on the thread that waits for a piece."""
        self._aborted = True
        self.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._waiting.get()) is not None and not self._aborted:
            yield piece
        if self._aborted:
            raise errors.TransferCancelled("the file was discarded while it was written")


def _wait_for(transfer: Transfer[T], callback: Callback = DEFAULT_CALLBACK) -> T:
    """Wait for a transfer and report its progress. A keyboard interrupt pauses it, so that it can be resumed."""

    def report(transfer: Transfer[T]) -> None:
        progress = transfer.progress
        if progress.total is not None:
            callback.set_size(progress.total)
        callback.absolute_update(progress.done)

    end: Callable[[], None] = transfer.on_change(report) if callback is not DEFAULT_CALLBACK else lambda: None
    try:
        return transfer.wait()
    except KeyboardInterrupt:
        transfer.pause()
        raise
    finally:
        end()


def _file(file: wire.FileInfo) -> dict[str, Any]:
    return {
        "name": file.name,
        "size": file.size,
        "type": "file",
        "modified": file.modified,
        "etag": file.etag,
        "sha256": file.sha256,
        "content_type": file.content_type,
    }


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}


def _os_error(number: int, name: str) -> OSError:
    return OSError(number, os.strerror(number), name)


_NUMBERS: list[tuple[type[errors.HoldfastError], int]] = [
    (errors.NotFound, errno.ENOENT),
    (errors.FileExists, errno.EEXIST),
    (errors.Unauthorized, errno.EACCES),
    (errors.Forbidden, errno.EACCES),
    (errors.BadRequest, errno.EINVAL),
    (errors.NoSpace, errno.ENOSPC),
    (errors.TooLarge, errno.EFBIG),
]


@contextmanager
def _as_os_errors(name: str) -> Iterator[None]:
    """Translate errors of the server into those of the built-in `open`; the original is the cause."""
    try:
        yield
    except errors.HoldfastError as error:
        for kind, number in _NUMBERS:
            if isinstance(error, kind):
                raise OSError(number, str(error), name) from error
        raise
