"""The files of the seed's endpoints: text pieces of a download, and uploads identified by the name of their file."""

from __future__ import annotations

import asyncio
import base64
import codecs
import hashlib
import time
from collections.abc import Callable
from typing import Literal

from holdfast.wire import DownloadPiece, UploadCancelled, UploadStatus
from tornado_app import problems
from tornado_app.files import names
from tornado_app.files.store.interface import FileStat, FileStore
from tornado_app.files.uploads.service import Uploads
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.files.uploads.writer import Writer
from tornado_app.settings import Settings

Encoding = Literal["text", "base64"]


class SeedFiles:
    """The service behind the seed's endpoints for files."""

    def __init__(self, settings: Settings, store: FileStore, uploads: Uploads) -> None:
        self._settings = settings
        self._store = store
        self._uploads = uploads
        self._creating = asyncio.Lock()

    # -- download

    async def piece(self, name: str, bytes_read: int, encoding: Encoding = "text", etag: str = "") -> DownloadPiece:
        """Return the piece of a file that starts at `bytes_read`, of at most `chunk_size` bytes.

        Raises:
            ProblemError: NO_SUCH_FILE; FILE_CHANGED when `etag` is given and not the file's any more;
                BAD_PARAMETERS past the end; NOT_ACCEPTABLE_ENCODING for bytes that are not text.
        """
        return await self._uploads.run(self._piece, name, bytes_read, encoding, etag)

    def _piece(self, name: str, bytes_read: int, encoding: Encoding, etag: str) -> DownloadPiece:
        reader = self._store.open(name)
        try:
            stat = reader.stat
            if etag and etag != stat.etag:
                raise problems.FILE_CHANGED(
                    f"{name!r} has changed since the version {etag}. Start again at bytes_read=0", etag=stat.etag
                )
            if bytes_read > stat.size:
                raise problems.BAD_PARAMETERS(
                    f"bytes_read={bytes_read} is past the end of {name!r}. It has {stat.size} bytes",
                    field="bytes_read",
                    file_size=stat.size,
                )
            data = reader.read(bytes_read, self._settings.chunk_size)
        finally:
            reader.close()
        if encoding == "base64":
            content, count = base64.b64encode(data).decode("ascii"), len(data)
        else:
            content, count = _text(data, bytes_read, bytes_read + len(data) >= stat.size)
        end = bytes_read + count
        return DownloadPiece(
            file_content=content,
            bytes_read=end,
            is_complete=end >= stat.size,
            percentage_done=round(100 * end / stat.size, 2) if stat.size else 100.0,
            file_size=stat.size,
            etag=stat.etag,
        )

    # -- upload

    async def status(self, name: str) -> UploadStatus:
        """Return where an upload in the making stands, or the size of a published file. Raises NO_SUCH_FILE."""
        upload = self._find(name) if names.flaw(name) is None else None
        if upload is not None and not upload.broken:
            return _status(upload)
        stat = await self._uploads.run(self._store.stat, name)
        return UploadStatus(bytes_read=stat.size, is_complete=True, file_size=stat.size, sha256=stat.sha256)

    async def append(
        self,
        name: str,
        bytes_read: int,
        *,
        file_size: int | None = None,
        overwrite: bool = False,
        body_size: int | None = None,
        on_release_requested: Callable[[], None] = lambda: None,
        client: str = "",
    ) -> Writer:
        """Return a writer that appends at `bytes_read`; the first piece, at 0, creates the upload.

        `body_size` is given when it is known.

        Raises:
            ProblemError: OFFSET_MISMATCH or FILE_EXISTS with the `bytes_read` at which it stands, BAD_PARAMETERS, and
                what `Uploads.create` raises.
        """
        names.check(name)
        if file_size is not None and body_size is not None and bytes_read + body_size > file_size:
            raise problems.BAD_PARAMETERS(
                f"{body_size} bytes at {bytes_read} go past file_size={file_size}. Send fewer: none of these was kept",
                field="file_size",
                bytes_read=bytes_read,
            )
        async with self._creating:  # of two first pieces only one creates the upload
            upload = self._find(name)
            if upload is not None and upload.broken:  # a client of the seed can't delete it by its id
                await self._uploads.cancel(upload)
                upload = None
            if upload is not None and bytes_read == 0 and overwrite and upload.offset > 0:
                await self._uploads.cancel(upload)
                upload = None
            creates = upload is None
            if upload is None:
                upload = await self._create(name, bytes_read, file_size, overwrite, client)
        if file_size is not None and upload.record.length not in (None, file_size):
            raise problems.BAD_PARAMETERS(
                f"file_size={file_size}, but the upload began with {upload.record.length}. Give that one",
                field="file_size",
            )
        writer = await self._uploads.write(upload, bytes_read, on_release_requested)
        writer.creates_upload = creates
        try:
            if file_size is not None:
                await self._uploads.set_length(upload, file_size)
            if overwrite and not upload.record.overwrite:  # somebody has published a file of this name meanwhile
                await self._uploads.update_record(upload, overwrite=True)
        except BaseException:
            writer.release()
            raise
        return writer

    async def finish(self, writer: Writer, *, is_complete: bool = False) -> UploadStatus:
        """Write the rest of a piece, and return where the upload stands now, or the file that it became."""
        upload = await self._uploads.finish(writer, last=is_complete)
        return _status(upload)

    async def cancel(self, name: str) -> UploadCancelled:
        """Remove an upload in the making. Raises BAD_NAME, NO_SUCH_UPLOAD; a published file is never touched."""
        names.check(name)
        upload = self._find(name)
        if upload is None:
            raise problems.NO_SUCH_UPLOAD(
                f"no upload of {name!r} is in the making. A published file can't be cancelled"
            )
        await self._uploads.cancel(upload)
        return UploadCancelled(file_name=name)

    def _find(self, name: str) -> Upload | None:
        upload = self._uploads.find(_id(name))
        return None if upload is None or upload.complete else upload

    async def _create(self, name: str, bytes_read: int, file_size: int | None, overwrite: bool, client: str) -> Upload:
        if bytes_read:
            stat = await self._published(name)
            if stat is not None:
                raise problems.OFFSET_MISMATCH(
                    f"{name!r} is published already, with {stat.size} bytes. To replace it, begin at bytes_read=0 with "
                    "overwrite=true",
                    bytes_read=stat.size,
                    is_complete=True,
                )
            raise problems.OFFSET_MISMATCH(
                f"no upload of {name!r} is in the making: it stands at byte 0, not at {bytes_read}. Begin there",
                bytes_read=0,
            )
        record = UploadRecord(
            kind="seed",
            name=name,
            created=time.time(),
            length=file_size,
            overwrite=overwrite,
            in_view=file_size is None,
        )
        try:
            return await self._uploads.create(record, _id(name), client=client)
        except problems.ProblemError:  # of any kind: that the file is there comes first
            stat = None if overwrite else await self._published(name)
            if stat is None:
                raise
            raise problems.FILE_EXISTS(
                f"{name!r} is published already, with {stat.size} bytes. Say overwrite=true to replace it",
                bytes_read=stat.size,
                is_complete=True,
            ) from None

    async def _published(self, name: str) -> FileStat | None:
        return await self._uploads.run(self._store.check_target, name)


def _id(name: str) -> str:
    """Return the id of the seed's upload of a name: clients of the seed know only the name."""
    return "seed-" + hashlib.sha256(name.encode("utf-8")).hexdigest()[:40]


def _status(upload: Upload) -> UploadStatus:
    published = upload.published
    return UploadStatus(
        bytes_read=upload.offset,
        is_complete=upload.complete,
        file_size=upload.record.length,
        sha256=published.sha256 if published is not None else None,
    )


def _text(data: bytes, start: int, is_last: bool) -> tuple[str, int]:
    """Return the text at the start of `data` that ends with a whole character, and how many bytes it has."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(data, final=is_last)
    except UnicodeDecodeError as error:
        raise problems.NOT_ACCEPTABLE_ENCODING(
            f"the bytes at {start + error.start} are not UTF-8 text. Ask with encoding=base64", field="encoding"
        ) from None
    return text, len(data) - len(decoder.getstate()[0])
