"""The files of a server as an fsspec file system, so that pandas, pyarrow, Dask and zarr read and write them.

    import pandas

    pandas.read_csv("holdfast://data/flights.csv", storage_options={"base_url": "http://127.0.0.1:8000"})

Needs fsspec (the extra `fsspec`), which finds it by its entry point; `import holdfast` leaves it alone.
A path is a file's name on the server. Which server it is on, `base_url` and `token` say, else `HOLDFAST_URL` and
`HOLDFAST_TOKEN`. There are folders only where there are files: making and removing empty ones does nothing.
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

BLOCK = 8 << 20  # bytes that are gathered before they are sent
LINE = 8 << 10  # bytes in which the end of a line is looked for at a time
PAGE = 1000  # files that are asked for in one request
Mode = Literal["overwrite", "create"]


class _Environment:
    """fsspec keeps one file system for each set of arguments; what they leave to the environment counts, too."""

    def __get__(self, instance: object, owner: type) -> tuple[str | None, str | None]:
        return os.environ.get("HOLDFAST_URL"), os.environ.get("HOLDFAST_TOKEN")


class HoldfastFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """`holdfast://`. Everything is asked of the server anew: nothing is cached.

    Errors are those of the built-in `open`: `FileNotFoundError`, `FileExistsError`, `PermissionError`, `OSError` for a
    name that can't be; a server that can't be reached is a `holdfast.errors.TransportError`.

    Args:
        base_url: the server; else `HOLDFAST_URL`, else http://127.0.0.1:8000.
        token: its token; else `HOLDFAST_TOKEN`.
        timeout: seconds without a byte after which a request is given up.
        retries: how often what is safe to repeat is tried again.

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
        """The client it works with; a forked process makes one of its own, for connections can't be shared."""
        if self._process != os.getpid():
            self._client, self._process = self._connect(), os.getpid()
        return self._client

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return stripped.lstrip("/") if isinstance(stripped, str) else stripped

    # -- what there is

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """`name`, `size`, `type` (file or directory); of a file also `modified`, `etag`, `sha256`, `content_type`."""
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
        """Whether there is a file or folder of this name. Raises when the server can't be asked."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any
    ) -> Any:
        """All files below a folder, at most `maxdepth` levels, by name; with `withdirs` the folders, too."""
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
        """Return the entries of a folder, by name: one request for what fits into a page."""
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
        """All that is below a folder, by name, at most so many levels."""
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
        """What is in a folder, or the file itself. Raises `FileNotFoundError`."""
        name = self._strip_protocol(path)
        found = self._level(name)
        if name and not found:
            found[name] = self.info(name)
        return [*found.values()] if detail else [*found]

    def modified(self, path: str) -> datetime:
        """When the file was published."""
        info = self.info(path)
        if "modified" not in info:
            raise _os_error(errno.EISDIR, info["name"])
        changed: datetime = info["modified"]
        return changed

    def created(self, path: str) -> datetime:
        """When the file was published: it is not changed after that."""
        return self.modified(path)

    def checksum(self, path: str) -> int:
        """Changes whenever the content does."""
        return hash(self.info(path)["etag"])

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
        """A URL that gives the file to whoever has it, for so many seconds, without the token."""
        return self.client.files.download_link(self._strip_protocol(path), expires=expiration).url

    # -- folders, of which there are none

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Nothing to do: a folder is there as soon as a file is in it."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing to do, likewise."""

    def rmdir(self, path: str) -> None:
        """Nothing to do: a folder is gone with its last file."""

    # -- whole files

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """The bytes from `start` to `end`; either may count from the end, as in a slice."""
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
        """Publish `value` as a file. Raises `FileExistsError` when `mode` is `create` and there is one."""
        self._upload(value, self._strip_protocol(path), mode)

    def put_file(
        self, lpath: Any, rpath: str, callback: Callback = DEFAULT_CALLBACK, mode: Mode = "overwrite", **kwargs: Any
    ) -> None:
        """Send a file; the next call goes on with what one that was interrupted has sent."""
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
        """Fetch a file; the next call goes on with what one that was interrupted has fetched.

        Raises:
            DangerousName: it would land where programs run or trust it, and `allow_dangerous` is false.
        """
        name = self._strip_protocol(rpath)
        if outfile is not None or isfilelike(lpath):
            super().get_file(name, lpath, callback=callback, outfile=outfile)
        elif self.isdir(name):
            os.makedirs(lpath, exist_ok=True)
        else:
            with _as_os_errors(name):
                transfer = self.client.files.download(name, lpath, overwrite=True, allow_dangerous=allow_dangerous)
                _bring(transfer, callback)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file, through here."""
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
            except errors.BadRequest as error:  # what no file can be called is not there
                raise _os_error(errno.ENOENT, name) from error

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete files; with `recursive`, all that are below a folder."""
        names = self.expand_path(path)
        if recursive:
            names = sorted({file for name in names for file in self.find(name, maxdepth=maxdepth)})
        if not names:
            raise _os_error(errno.ENOENT, path)
        for name in names:
            self.rm_file(name)

    def _upload(self, content: Any, name: str, mode: Mode, callback: Callback = DEFAULT_CALLBACK) -> None:
        if mode == "create":
            self._see_that_there_is_none(name)
        with _as_os_errors(name):
            _bring(self.client.files.upload(content, name, overwrite=mode != "create"), callback)

    def _see_that_there_is_none(self, name: str) -> None:
        """An upload without `overwrite` refuses to replace another content; the same one is refused here."""
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
        """For reading, ranges of one version; for writing, an upload that is published when the file is closed."""
        if mode == "rb":
            return ReadFile(self, path, block_size, cache_options=cache_options, **kwargs)
        if mode == "xb":
            self._see_that_there_is_none(path)
        file = WrittenFile(self, path, mode, block_size or BLOCK, autocommit)
        if mode == "ab" and self.exists(path):
            # A published file never changes: what is appended to is sent again, and replaced as a whole.
            with self.open(path, "rb") as before:
                while piece := before.read(BLOCK):
                    file.write(piece)
        return file


class GrowingReadAhead(BaseCache):  # type: ignore[misc]  # fsspec has no types
    """Keeps the bytes around the last read, and reads the further ahead the longer reads follow each other."""

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
            raise errors.RemoteChanged(f"{self.path!r} has changed on the server since it was opened") from error

    def readline(self, size: int | None = -1) -> bytes:
        """The next line, or its first `size` bytes."""
        line: bytes = self.readuntil(blocks=LINE)
        if size is not None and 0 <= size < len(line):
            self.loc -= len(line) - size
            return line[:size]
        return line


class WrittenFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file that is being written. What is small goes in one request when it is closed, the rest goes on the way.

    It gets its name when it is closed, or, in a transaction, when that is committed. A `with` block that ends by an
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
        """Publish it."""
        with _as_os_errors(self.path):
            if self._transfer is None:
                _bring(self.fs.client.files.upload(self._last, self.path, overwrite=self._overwrite))
            else:
                self._send(self._last)
                self._send(None)
                self._transfer.wait()

    def discard(self) -> None:
        """Give it up; what was there before stays."""
        self.closed = True
        if self._transfer is not None:
            self._pieces.give_up()
            self._transfer.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _Pieces:
    """What is written on one thread and sent by another."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[bytes | None] = queue.Queue(maxsize=1)
        self._given_up = False

    def put(self, piece: bytes | None) -> bool:
        """Hand a piece on, None after the last; False when nobody took the one before within a moment."""
        try:
            self._waiting.put(piece, timeout=0.2)
        except queue.Full:
            return False
        return True

    def give_up(self) -> None:
        """Wake up whoever waits for a piece, with an error."""
        self._given_up = True
        self.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._waiting.get()) is not None and not self._given_up:
            yield piece
        if self._given_up:
            raise errors.TransferCancelled("the file was given up while it was written")


def _bring(transfer: Transfer[T], callback: Callback = DEFAULT_CALLBACK) -> T:
    """Wait for a transfer, telling the callback how far it is. Interrupted, it stops, and can be gone on with."""

    def tell(transfer: Transfer[T]) -> None:
        progress = transfer.progress
        if progress.total is not None:
            callback.set_size(progress.total)
        callback.absolute_update(progress.done)

    end: Callable[[], None] = transfer.on_change(tell) if callback is not DEFAULT_CALLBACK else lambda: None
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
    """What the server refuses, as `open` would say it; the original is the cause."""
    try:
        yield
    except errors.HoldfastError as error:
        for kind, number in _NUMBERS:
            if isinstance(error, kind):
                raise OSError(number, str(error), name) from error
        raise
