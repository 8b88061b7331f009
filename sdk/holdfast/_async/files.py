"""`client.files` of the async face."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast import calls, plans, wire
from holdfast._async.transfers import start
from holdfast._client import display
from holdfast._client.core import AsyncCore
from holdfast._client.download_link import DownloadLink
from holdfast._client.process_view import Paths, file_page, level_page, upload_page
from holdfast._local_files.sources import Content, name_of, source_of
from holdfast._local_files.target import Target
from holdfast._local_files.walk import Links
from holdfast._transfers.archive import ArchiveDownload, send_archive
from holdfast._transfers.download import DownloadJob
from holdfast._transfers.folder.download import DownloadFolder
from holdfast._transfers.folder.upload import SentFolder, UploadFolder
from holdfast._transfers.handles import AsyncTransfer
from holdfast._transfers.job import TransferContext
from holdfast._transfers.reader import AsyncRemoteFile, Reading
from holdfast._transfers.upload.job import UploadJob

if TYPE_CHECKING:
    from holdfast.notebook._page._upload_box import UploadBox


class AsyncFiles:
    """`client.files`."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core
        self._context = TransferContext(core.base_url, core.patience)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._core.connection.shown_url}>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return display.current().server(self._core, "files")

    def upload(
        self,
        content: Content,
        name: str | None = None,
        *,
        overwrite: bool = False,
        restart: bool = False,
        delta: bool = False,
        segments: int | None = None,
        limit: float | None = None,
    ) -> AsyncTransfer[wire.FileInfo]:
        """Upload a file in the background; awaiting it returns its `FileInfo`.

        Bytes that an earlier process sent of the same file are not sent again. If the same content is published under
        this name already, the transfer succeeds at once.

        Args:
            content: a path, bytes, a binary file or an iterable of bytes. Only the upload of a path can be resumed by
                another process. For an iterable or a pipe, about 8 MiB that the server has not confirmed are kept in
                memory.
            name: name of the file on the server; by default the last part of the path.
            overwrite: replace another file of that name. Without it, that raises `FileExists`.
            restart: begin at byte 0 and ignore what an earlier transfer left.
            delta: replace the published version, and send only the blocks (of 1 MiB) that differ from it; `sent` of the
                transfer says how many bytes these were. If the file is replaced by others meanwhile, it raises
                `RemoteChanged`. If there is no such file, all is sent.
            segments: number of connections; by default it is measured how many make the transfer faster.
            limit: maximum rate, in bytes per second.

        Raises:
            OSError: the path can't be read.
            ValueError: `name` is missing and can't be derived from `content`.
            TypeError: `content` is of another type, or a file that is open in text mode.
        """
        return start(
            self._core,
            UploadJob(
                self._context,
                source_of(content),
                name or name_of(content),
                overwrite=overwrite,
                restart=restart,
                delta=delta,
                segments=segments,
                limit=limit,
            ),
        )

    def download(
        self,
        name: str,
        to: str | os.PathLike[str] | None = None,
        *,
        overwrite: bool = False,
        restart: bool = False,
        allow_dangerous: bool = False,
        segments: int | None = None,
        limit: float | None = None,
    ) -> AsyncTransfer[Path]:
        """Download a file in the background; awaiting it returns the path.

        Bytes that an earlier process fetched of the same file are not fetched again. If the target is the same file
        already, the transfer succeeds at once.

        Args:
            name: name of the file on the server.
            to: a file, an existing folder, or a path that ends in a slash; by default the working directory.
            overwrite: replace another file at the target. Without it, that raises `LocalExists`.
            restart: begin at byte 0 and ignore what an earlier transfer left.
            allow_dangerous: allow a target that programs run or trust, such as `.bashrc` and `.ssh/...` in a home
                folder, or `.git/hooks/...`. Without it, that raises `DangerousName`.
            segments: number of connections; by default it is measured how many make the transfer faster.
            limit: maximum rate, in bytes per second.
        """
        return start(
            self._core,
            DownloadJob(
                self._context,
                name,
                Target.of(to),
                overwrite=overwrite,
                restart=restart,
                allow_dangerous=allow_dangerous,
                segments=segments,
                limit=limit,
            ),
        )

    def uploads(self, *, page_size: int | None = None) -> AsyncIterator[wire.UploadInfo]:
        """Iterate over unfinished uploads of all clients, and finished ones that the server still remembers."""
        page = partial(upload_page, page_size)
        return self._core.iterate(plans.pages(page, self._core.retries))

    def upload_folder(
        self,
        folder: str | os.PathLike[str],
        prefix: str = "",
        *,
        overwrite: bool = False,
        restart: bool = False,
        delta: bool = False,
        links: Links = "inside",
        limit: float | None = None,
    ) -> AsyncTransfer[SentFolder]:
        """Upload every file below a folder, a few at a time. Files that the server has already are skipped.

        Hidden files are included. Symbolic links are followed if they lead to something inside the folder; `links` can
        be `"follow"` (follow all), `"skip"` (skip all) or `"error"` (any link is an error) instead. The result names
        what was left out, with the reason: broken links, pipes and empty folders, for example. A file of that name with
        other content raises `FileExists` without `overwrite`. `restart` sends unfinished files from byte 0 again.
        """
        job = UploadFolder(
            self._context,
            Path(folder),
            prefix,
            overwrite=overwrite,
            restart=restart,
            delta=delta,
            links=links,
            limit=limit,
        )
        return start(self._core, job)

    def download_folder(
        self,
        prefix: str,
        to: str | os.PathLike[str] | None = None,
        *,
        overwrite: bool = False,
        restart: bool = False,
        allow_dangerous: bool = False,
        limit: float | None = None,
    ) -> AsyncTransfer[Paths]:
        """Download every file whose name begins with `prefix/` into the folder `to`, by default the working directory.

        Files that are equal already are skipped; a file that differs raises `LocalExists` without `overwrite`.
        `restart` fetches unfinished files from byte 0 again. A prefix that no file has raises `NotFound`.

        If a target is one that programs run or trust, or a link leads out of the folder, nothing is fetched and
        `DangerousName` is raised, unless `allow_dangerous` is true.
        """
        target = Path(to) if to is not None else Path()
        job = DownloadFolder(
            self._context,
            prefix,
            target,
            overwrite=overwrite,
            restart=restart,
            allow_dangerous=allow_dangerous,
            limit=limit,
        )
        return start(self._core, job)

    def download_archive(
        self,
        folder: str,
        to: str | os.PathLike[str] | None = None,
        *,
        format: calls.ArchiveFormat = "zip",
        overwrite: bool = False,
        restart: bool = False,
        allow_dangerous: bool = False,
        segments: int | None = None,
        limit: float | None = None,
    ) -> AsyncTransfer[Path]:
        """Download all files below a folder as one uncompressed archive; awaiting it returns the path.

        It can be paused and resumed as the download of a file. If a file in it changes on the server meanwhile, that
        raises `RemoteChanged`. The folder "" holds all files. Other arguments are those of `download`.
        """
        return start(
            self._core,
            ArchiveDownload(
                self._context,
                calls.archive_name(folder, format),
                Target.of(to),
                overwrite=overwrite,
                restart=restart,
                allow_dangerous=allow_dangerous,
                segments=segments,
                limit=limit,
            ),
        )

    async def upload_archive(self, tar: Content, folder: str = "", *, overwrite: bool = False) -> wire.ArchiveReceipt:
        """Send a tar archive in one request; the server publishes its regular files below a folder.

        Each of them lands whole or not at all. The receipt says which members were refused, and why: links, devices,
        names that no file can have and, without `overwrite`, files that exist already. A request that is cut is not
        repeated: what was whole has landed.

        Args:
            tar: a path, bytes, a binary file or an iterable of bytes; uncompressed.
            folder: the folder on the server; "" is the top.
            overwrite: replace files that exist.
        """
        return await self._core.run(send_archive(folder, source_of(tar), overwrite, self._core.retries))

    async def open(self, name: str) -> AsyncRemoteFile:
        """A file of the server for reading, as if it were here: seekable, read ahead, always of one version.

        Reading raises `RemoteChanged` once the file has been replaced. Raises `NotFound`.
        """
        reading = Reading(name, self._core.retries)
        await self._core.run(reading.open())
        return AsyncRemoteFile(reading, self._core.run)

    async def get_upload(self, id: str) -> wire.UploadInfo:
        """Return the state of an upload. Raises `NotFound`."""
        return await self._core.request(calls.get_upload(id))

    async def cancel_upload(self, id: str) -> None:
        """Delete an unfinished upload of any client. A file that was published stays. Raises `NotFound`."""
        await self._core.run(plans.forget(calls.delete_upload(id), self._core.retries))

    def list(self, prefix: str = "", *, page_size: int | None = None) -> AsyncIterator[wire.FileInfo]:
        """Iterate over the files whose names begin with `prefix`, by name. Pages are fetched as they are needed."""
        page = partial(file_page, prefix, page_size)
        return self._core.iterate(plans.pages(page, self._core.retries))

    def list_folder(
        self, folder: str = "", *, page_size: int | None = None
    ) -> AsyncIterator[wire.FileInfo | wire.Folder]:
        """Iterate over the files and folders of one level, by name.

        The first request fetches up to 100 entries (or `page_size`), each further one 1,000. The top level is "".
        """
        page = partial(level_page, folder, page_size)
        return self._core.iterate(plans.levels(page, self._core.retries))

    async def info(self, name: str, *, sha256: bool = False) -> wire.FileInfo:
        """Return the size, entity tag, digests and type of a file. Raises `NotFound`.

        Args:
            name: name of the file on the server.
            sha256: wait until the server has made the SHA-256 of the file, which may take seconds for each GB. Without
                it, and of a server that makes none (`--no-digest-uploads`), `sha256` is None while it is not known.
        """
        return await self._core.run(plans.info(name, self._core.retries, sha256=sha256))

    async def digests(self, name: str, *, etag: str | None = None) -> wire.BlockDigests:
        """Return the digests of all blocks of a file, which the server makes if need be; see `holdfast.digests`.

        Raises:
            PreconditionFailed: `etag` is given, and the file is no longer that version.
        """
        return await self._core.request(calls.file_digests(name, etag=etag))

    async def read(self, name: str, begin: int = 0, end: int | None = None, *, etag: str | None = None) -> bytes:
        """Return the bytes of a file from `begin` up to, not including, `end`; b"" if `end` is not after `begin`.

        Raises:
            PreconditionFailed: `etag` is given and the file is another version.
            RangeNotSatisfiable: `begin` is at or past the end of the file.
            ProtocolError: a proxy on the way ignores Range.
        """
        return await self._core.run(plans.read(name, begin, end, etag, self._core.retries))

    async def write(self, name: str, data: bytes, *, overwrite: bool = False, etag: str | None = None) -> wire.FileInfo:
        """Publish `data` as a file in one request. Use `upload` for big files.

        Raises:
            PreconditionFailed: the file exists and `overwrite` is false, or it is not the version of `etag`.
        """
        absent = not overwrite and etag is None
        return await self._core.run(plans.put(name, data, etag, absent, self._core.retries))

    async def delete(self, name: str, *, etag: str | None = None) -> None:
        """Delete a file; with `etag`, only that version. Raises `NotFound`, `PreconditionFailed`."""
        await self._core.run(plans.forget(calls.delete_file(name, etag=etag), self._core.retries))

    async def download_link(
        self,
        name: str,
        *,
        expires: float = 3600.0,
        base_url: str | None = None,
        archive: calls.ArchiveFormat | None = None,
    ) -> DownloadLink:
        """Return a signed link that a browser can download, and resume, without the token. A notebook displays it.

        Args:
            name: the file's name on the server; with `archive` that of a folder.
            expires: seconds that it is valid, 7 days at most unless the server has another limit. Anybody who has the
                link can read the file.
            base_url: URL of the server for the browser. Without it, a notebook shows a link by the address that works.
            archive: "zip" or "tar" for a link to all files below the folder, as one archive.
        """
        link = await self._core.request(calls.sign_link(name, expires, archive=archive))
        if base_url is not None:
            return DownloadLink(base_url.rstrip("/"), link)
        return DownloadLink(self._core.base_url, link, self._core)

    async def revoke_links(self) -> None:
        """Revoke all links that were signed so far."""
        await self._core.request(calls.revoke_links())

    def upload_box(self, prefix: str = "", *, overwrite: bool = False) -> UploadBox:
        """Return a box for a notebook that takes files from the person's own machine, of any size, and resumes itself.

        The browser sends them by JupyterLab's own address where the extension of `holdfast[jupyter]` is, else straight
        to the server, which must let the notebook's page do so (`--allow-origin`; a `local_server()` does); else they
        go through the kernel. The trait `files` of the box lists what has arrived. Needs the extra `notebook`.

        Args:
            prefix: put before each file's name, such as "raw/".
            overwrite: replace files of the same name; else the box asks.
        """
        box: UploadBox = display.current().upload_box(self._core, prefix, overwrite)
        return box
