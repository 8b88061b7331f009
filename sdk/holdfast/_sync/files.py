"""`client.files`, `client.transfers` and `client.seed` of the sync face."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast import calls, plans, wire
from holdfast._client import display
from holdfast._client.core import SyncCore
from holdfast._client.download_link import DownloadLink
from holdfast._client.process_view import Paths, file_page, level_page, upload_page
from holdfast._local_files.records import ResumeRecord, pending, records_dir
from holdfast._local_files.sources import Content, name_of, source_of
from holdfast._local_files.walk import Links
from holdfast._transfers.download import DownloadJob, Target
from holdfast._transfers.folder import DownloadFolder, SentFolder, UploadFolder, job_of
from holdfast._transfers.handles import Transfer
from holdfast._transfers.job import R, TransferContext, TransferJob
from holdfast._transfers.reader import Reading, RemoteFile, RemoteReader
from holdfast._transfers.upload import UploadJob

if TYPE_CHECKING:
    from holdfast.notebook._upload_box import UploadBox


class Files:
    """`client.files`."""

    def __init__(self, core: SyncCore) -> None:
        self._core = core
        self._context = TransferContext(core.base_url, core.patience)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return display.current().server(self._core, "files")

    def upload(
        self,
        content: Content,
        name: str | None = None,
        *,
        overwrite: bool = False,
        restart: bool = False,
        segments: int | None = None,
        limit: float | None = None,
    ) -> Transfer[wire.FileInfo]:
        """Send a file in the background; `wait()` gives the file as the server has it.

        What an earlier kernel or process has sent of the same file is not sent again. Content that is published under
        this name already is done at once.

        Args:
            content: a path, bytes, a binary file or an iterable of bytes. Only a path can be gone on with by another
                process. Of what can't be sought, what the server has not confirmed is kept in memory: about 8 MiB.
            name: the file's name on the server; else the last part of the path.
            overwrite: replace another file of that name; else that is `FileExists`.
            restart: begin at byte 0, whatever there is.
            segments: connections at once; as many as pay, found out by measuring, when left out.
            limit: bytes a second at most.

        Raises:
            OSError: the path can't be read.
            ValueError: there is no name, and none can be told from `content`.
            TypeError: `content` is none of these, or a file that is open as text.
        """
        return _start(
            self._core,
            UploadJob(
                self._context,
                source_of(content),
                name or name_of(content),
                overwrite=overwrite,
                restart=restart,
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
    ) -> Transfer[Path]:
        """Fetch a file in the background; `wait()` gives the path.

        What an earlier kernel or process left of the same download is gone on with. A target that is the same file
        already is done at once.

        Args:
            name: the file's name on the server.
            to: a file, or a folder, which is there or ends in a slash; else the working directory.
            overwrite: replace another file that is there; else that is `LocalExists`.
            restart: begin at byte 0, whatever there is.
            allow_dangerous: let it land where programs would run or trust it, such as `.bashrc` and `.ssh/...` in a
                home folder, or `.git/hooks/...`; else that is `DangerousName`.
            segments: connections at once; as many as pay, found out by measuring, when left out.
            limit: bytes a second at most.
        """
        return _start(
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

    def uploads(self, *, page_size: int | None = None) -> Iterator[wire.UploadInfo]:
        """Uploads in the making, of every client, and finished ones that the server still remembers."""
        page = partial(upload_page, page_size)
        return self._core.iterate(plans.pages(page, self._core.retries))

    def upload_folder(
        self,
        folder: str | os.PathLike[str],
        prefix: str = "",
        *,
        overwrite: bool = False,
        restart: bool = False,
        links: Links = "inside",
        limit: float | None = None,
    ) -> Transfer[SentFolder]:
        """Send every file below a folder, a few at a time; what is there and equal is not sent again.

        Hidden files go along. Symbolic links are followed where they lead to something inside the folder; `links` says
        otherwise: `"follow"` all, `"skip"` all, or have any be an error (`"error"`). What is left out, broken links,
        pipes and empty folders among it, is in the result by name and reason. A file that is there and differs is
        `FileExists` without `overwrite`. `restart` begins files that are half sent at byte 0, whatever has changed.
        """
        job = UploadFolder(
            self._context,
            Path(folder),
            prefix,
            overwrite=overwrite,
            restart=restart,
            links=links,
            limit=limit,
        )
        return _start(self._core, job)

    def download_folder(
        self,
        prefix: str,
        to: str | os.PathLike[str] | None = None,
        *,
        overwrite: bool = False,
        restart: bool = False,
        allow_dangerous: bool = False,
        limit: float | None = None,
    ) -> Transfer[Paths]:
        """Fetch every file whose name begins with `prefix/` into the folder `to`, else the working directory.

        What is there and equal is not fetched again; what differs is `LocalExists` without `overwrite`. `restart`
        begins files that are half there at byte 0, whatever has changed. A prefix that no file has is `NotFound`.

        Nothing is fetched when a name would be dangerous where it lands, or a link leads out of the folder: that is
        `DangerousName` without `allow_dangerous`.
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
        return _start(self._core, job)

    def open(self, name: str) -> RemoteReader:
        """A file of the server for reading, as if it were here: seekable, buffered, read ahead, always of one version.

        Good for pandas, pyarrow and zipfile. Raises `NotFound`; reading raises `RemoteChanged` once it was replaced.
        """
        reading = Reading(name, self._core.retries)
        self._core.run(reading.open())
        return RemoteReader(RemoteFile(reading, self._core.run))

    def get_upload(self, id: str) -> wire.UploadInfo:
        """An upload as it stands. Raises `NotFound`."""
        return self._core.request(calls.get_upload(id))

    def cancel_upload(self, id: str) -> None:
        """Give up an upload in the making, whoever began it; a file that it became stays. Raises `NotFound`."""
        self._core.run(plans.forget(calls.delete_upload(id), self._core.retries))

    def list(self, prefix: str = "", *, page_size: int | None = None) -> Iterator[wire.FileInfo]:
        """Published files whose names begin with `prefix`, by name; pages are fetched as the iteration reaches them."""
        page = partial(file_page, prefix, page_size)
        return self._core.iterate(plans.pages(page, self._core.retries))

    def list_folder(self, folder: str = "", *, page_size: int | None = None) -> Iterator[wire.FileInfo | wire.Folder]:
        """List what is in a folder, by name: its files, and the folders in it, however much is below those.

        One request for up to 100 of them (or `page_size`), then one for every 1,000. The top level is "".
        """
        page = partial(level_page, folder, page_size)
        return self._core.iterate(plans.levels(page, self._core.retries))

    def info(self, name: str) -> wire.FileInfo:
        """Size, entity tag, digest and type of a file. Raises `NotFound`."""
        return self._core.run(plans.info(name, self._core.retries))

    def read(self, name: str, begin: int = 0, end: int | None = None, *, etag: str | None = None) -> bytes:
        """The bytes of a file from `begin` up to, not including, `end`, in memory; none where `end` is not after it.

        Raises:
            PreconditionFailed: `etag` is given and the file is another version.
            RangeNotSatisfiable: `begin` is at or past the end of the file.
            ProtocolError: something on the way ignores Range.
        """
        return self._core.run(plans.read(name, begin, end, etag, self._core.retries))

    def write(self, name: str, data: bytes, *, overwrite: bool = False, etag: str | None = None) -> wire.FileInfo:
        """Publish `data` as a file in one request. Bigger ones go better by `upload`.

        Raises:
            PreconditionFailed: the file exists and `overwrite` is false, or it is not the version of `etag`.
        """
        absent = not overwrite and etag is None
        return self._core.run(plans.put(name, data, etag, absent, self._core.retries))

    def delete(self, name: str, *, etag: str | None = None) -> None:
        """Remove a file; with `etag`, only while it is that version. Raises `NotFound`, `PreconditionFailed`."""
        self._core.run(plans.forget(calls.delete_file(name, etag=etag), self._core.retries))

    def download_link(self, name: str, *, expires: float = 3600.0, base_url: str | None = None) -> DownloadLink:
        """Sign a link that any browser follows, and resumes, without the token. As a last line it can be clicked.

        Args:
            name: the file's name on the server.
            expires: seconds that it is good for, 7 days at most unless the server has another limit. Whoever has the
                link can read the file.
            base_url: the server as the browser reaches it, where that is not `client.base_url`.
        """
        link = self._core.request(calls.sign_link(name, expires))
        return DownloadLink((base_url or self._core.base_url).rstrip("/"), link)

    def revoke_links(self) -> None:
        """Make all links that were signed so far worthless."""
        self._core.request(calls.revoke_links())

    def upload_box(self, prefix: str = "", *, overwrite: bool = False) -> UploadBox:
        """Return a box for a notebook that takes files from the person's own machine, of any size, and resumes itself.

        The browser sends them straight to the server, which must let the notebook's page do so (`--allow-origin`;
        a `local_server()` does); else they go through the kernel, up to a size that the box shows. Its trait `files`
        lists what has arrived. Needs the extra `notebook`.

        Args:
            prefix: put before each file's name, such as "raw/".
            overwrite: replace files of the same name; else they are refused.
        """
        box: UploadBox = display.current().upload_box(self._core, prefix, overwrite)
        return box


class Transfers:
    """`client.transfers`: what was begun with this server from this machine and is not over."""

    def __init__(self, core: SyncCore) -> None:
        self._core = core
        self._context = TransferContext(core.base_url, core.patience)

    def pending(self) -> list[ResumeRecord]:
        """Transfers that can be gone on with, oldest first: paused, failed, cut off by the end of a kernel or process.

        Those that are running now are among them.
        """
        return [*pending(records_dir(), self._core.base_url)]

    def resume(self, record: ResumeRecord) -> Transfer[Any]:
        """Go on with one of `pending()`, in the background. Raises `OSError` when the local file is gone."""
        return _start(self._core, job_of(record, self._context))

    def cancel(self, record: ResumeRecord) -> None:
        """Give one of `pending()` up, and remove what there is of it on both sides; its local file may be gone.

        Raises:
            TransferBusy: it is running, here or in another process.
        """
        self._core.run(job_of(record, self._context).discard())


class Seed:
    """`client.seed`: the seed's endpoints, one request a method."""

    def __init__(self, core: SyncCore) -> None:
        self._core = core

    def start(self, id: str, work_type: str | None = None, **params: Any) -> wire.Process:
        """`GET /{id}/process/`: start it, or see how it stands."""
        return self._core.request(calls.seed_start(id, work_type, params))

    def pause(self, id: str) -> wire.Process:
        """`POST /{id}/process/pause/`."""
        return self._core.request(calls.seed_pause(id))

    def resume(self, id: str, work_types: list[str] | None = None) -> wire.Process:
        """`POST /{id}/process/resume/`."""
        return self._core.request(calls.seed_resume(id, work_types))

    def cancel(self, id: str) -> wire.Process:
        """`POST /{id}/process/cancel/`."""
        return self._core.request(calls.seed_cancel(id))

    def download(
        self, file_name: str, bytes_read: int = 0, *, encoding: calls.Encoding = "text", etag: str | None = None
    ) -> wire.DownloadPiece:
        """`GET /download/`: the piece at `bytes_read`."""
        return self._core.request(calls.seed_download(file_name, bytes_read, encoding=encoding, etag=etag))

    def upload_status(self, file_name: str) -> wire.UploadStatus:
        """`GET /upload/`: where to go on."""
        return self._core.request(calls.seed_upload_status(file_name))

    def upload(
        self,
        file_name: str,
        bytes_read: int,
        data: bytes,
        *,
        encoding: calls.Encoding = "text",
        file_size: int | None = None,
        overwrite: bool = False,
        is_complete: bool | None = None,
    ) -> wire.UploadStatus:
        """`POST /upload/`: append `data` at `bytes_read`."""
        call = calls.seed_upload(
            file_name,
            bytes_read,
            data,
            encoding=encoding,
            file_size=file_size,
            overwrite=overwrite,
            is_complete=is_complete,
        )
        return self._core.request(call)

    def upload_cancel(self, file_name: str) -> wire.UploadCancelled:
        """`POST /upload/cancel/`: delete the intermediate file."""
        return self._core.request(calls.seed_upload_cancel(file_name))


def _start(core: SyncCore, job: TransferJob[R]) -> Transfer[R]:
    job.look()
    transfer = Transfer(job, core.driver)
    transfer.resume()
    return transfer
