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
import weakref
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO, Literal

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import AbstractFileSystem
from fsspec.utils import isfilelike

from holdfast import errors, wire
from holdfast._fsspec.os_errors import as_os_errors, os_error
from holdfast._fsspec.read_file import ReadFile
from holdfast._fsspec.waiting import wait_for
from holdfast._fsspec.written_file import WrittenFile
from holdfast._sync.client import Client

BLOCK = 8 << 20  # bytes that are collected before they are sent
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

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._client.base_url}>"

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
        """Return `name`, `size` and `type`, for a file also `modified`, `etag`, digests and `content_type`."""
        name = self._strip_protocol(path)
        if not name:
            return _folder("")
        with as_os_errors(name):
            try:
                return _file(self.client.files.info(name))
            except errors.NotFound as error:
                if next(self.client.files.list(name + "/", page_size=1), None) is not None:
                    return _folder(name)
                raise os_error(errno.ENOENT, name) from error

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
        with as_os_errors(folder):
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
        with as_os_errors(folder):
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
            raise os_error(errno.EISDIR, info["name"])
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
        with as_os_errors(name):
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
            with as_os_errors(name):
                transfer = self.client.files.download(name, lpath, overwrite=True, allow_dangerous=allow_dangerous)
                wait_for(transfer, callback)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file, by way of this client."""
        source = self._strip_protocol(path1)
        if self.isdir(source):
            return
        with as_os_errors(source), self.client.files.open(source) as file:
            self._upload(file, self._strip_protocol(path2), "overwrite")

    def rm_file(self, path: str) -> None:
        """Delete a file."""
        name = self._strip_protocol(path)
        with as_os_errors(name):
            try:
                self.client.files.delete(name)
            except errors.BadRequest as error:  # a file with an invalid name does not exist
                raise os_error(errno.ENOENT, name) from error

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete files; with `recursive`, all files below a folder."""
        names = self.expand_path(path)
        if recursive:
            names = sorted({file for name in names for file in self.find(name, maxdepth=maxdepth)})
        if not names:
            raise os_error(errno.ENOENT, path)
        for name in names:
            self.rm_file(name)

    def _upload(self, content: Any, name: str, mode: Mode, callback: Callback = DEFAULT_CALLBACK) -> None:
        if mode == "create":
            self._refuse_existing(name)
        with as_os_errors(name):
            wait_for(self.client.files.upload(content, name, overwrite=mode != "create"), callback)

    def _refuse_existing(self, name: str) -> None:
        """Raise `FileExistsError` if the file exists. An upload without `overwrite` accepts the same content."""
        if self.exists(name):
            raise os_error(errno.EEXIST, name)

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


def _file(file: wire.FileInfo) -> dict[str, Any]:
    return {
        "name": file.name,
        "size": file.size,
        "type": "file",
        "modified": file.modified,
        "etag": file.etag,
        "sha256": file.sha256,
        "block_digest": file.block_digest,
        "content_type": file.content_type,
    }


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}
