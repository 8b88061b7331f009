"""Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload, interop version 8) on the upload service."""

from __future__ import annotations

import time
from typing import cast

from tornado_app import problems
from tornado_app.files.store.interface import FileStat
from tornado_app.files.uploads.upload import Upload
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.uploads.protocol import UploadProtocol
from tornado_app.problems import Kind, ProblemError
from tornado_app.protocols import resumable_uploads
from tornado_app.protocols.resumable_uploads import Fields

_PROGRESS_BYTES = 1 << 20
_PROGRESS_S = 1.0

_WORDED: dict[Kind, Kind] = {
    problems.OFFSET_MISMATCH: problems.MISMATCHING_OFFSET,
    problems.CHECKSUM_MISMATCH: problems.DIGEST_MISMATCH,
}


class ResumableUpload(UploadProtocol):
    """Creation, offset retrieval, append and cancellation (sections 4.2 to 4.5)."""

    _replayed = False

    async def begin_creation(self) -> Writer:
        self.fields = Fields.read(self.headers)
        if self.handler.form_of() is not None:
            raise problems.UNSUPPORTED_MEDIA_TYPE(
                "the body is a form, and a resumable upload is of the bytes of the file; send those, "
                "or the form without Upload-Complete"
            )
        length = self._length(0, None)
        self.uploads.check_length(length)
        check = self.content_check()
        self.upload = await self.uploads.create(self.record("draft", length=length), client=self.handler.client)
        location = self.handler.location_of(self.upload)
        self._interim({"Location": location, "Upload-Limit": self._limits(self.upload)})
        writer = await self._begin(self.upload, 0)
        writer.check = check
        return writer

    async def created(self) -> None:
        upload = await self._finish()
        if upload.complete:
            self._completed(upload)
            return
        self.handler.set_header("Location", self.handler.location_of(upload))
        self._describe_open(upload)
        self.handler.set_status(201)
        self.handler.finish()

    async def begin_append(self, id: str) -> Writer | None:
        kind = self.headers.get("Content-Type", "")
        if not resumable_uploads.is_partial_upload(kind):
            raise problems.UNSUPPORTED_MEDIA_TYPE(
                f"Content-Type of an append must be {resumable_uploads.MEDIA_TYPE}, not {kind[:100]!r}",
                headers={"Accept-Patch": resumable_uploads.MEDIA_TYPE},
            )
        self.fields = fields = Fields.read(self.headers)
        if fields.offset is None:
            raise problems.BAD_REQUEST("Upload-Offset must be there, and a whole number: where the content begins")
        self.upload = upload = self.uploads.get(id)
        if upload.record.kind != "draft":
            raise problems.CONFLICT(f"the upload {id!r} was not created by this protocol; go on with it as it began")
        writer = await self._begin(upload, fields.offset)
        try:  # the offset is right: now to what else the headers say
            writer.check = self.content_check()
            if upload.complete:
                self._check_replay()
                self._replayed = True
            else:
                length = self._length(fields.offset, upload.record.length)
                if length is not None:
                    await self.uploads.set_length(upload, length)
        except BaseException:
            writer.release()
            raise
        return writer

    async def appended(self) -> None:
        upload = await self._finish()
        if upload.complete:
            self._completed(upload)
            return
        self._describe_open(upload)
        self.handler.set_status(204)
        self.handler.finish()

    async def head(self, id: str) -> None:
        self.upload = upload = self.uploads.get(id)
        await self.uploads.request_release(upload, self.handler.is_lost)
        self.describe(upload)
        self.handler.set_status(204)
        self.handler.finish()

    def describe(self, upload: Upload) -> None:
        """What an offset retrieval tells (section 4.3.2)."""
        handler = self.handler
        handler.set_header("Upload-Offset", upload.offset)
        handler.set_header("Upload-Complete", resumable_uploads.boolean(upload.complete))
        handler.set_header("Upload-Limit", self._limits(upload))
        if upload.record.length is not None:
            handler.set_header("Upload-Length", upload.record.length)

    def problem(self, problem: ProblemError) -> ProblemError:
        """With where the upload stands, and never complete: what is refused did not complete it."""
        handler = self.handler
        handler.set_header("Upload-Complete", resumable_uploads.boolean(False))
        upload = self.upload
        if upload is not None and not (upload.removed or upload.broken):
            handler.set_header("Upload-Offset", upload.offset)
            if handler.request.method == "POST":
                handler.set_header("Location", handler.location_of(upload))
        if problem.kind is problems.TOO_LARGE:
            handler.set_header("Upload-Limit", resumable_uploads.limits(handler.services.settings.max_upload_size))
        kind = _WORDED.get(problem.kind)
        return problem if kind is None else kind(problem.detail, headers=problem.headers, **problem.members)

    # -- steps

    async def _begin(self, upload: Upload, offset: int) -> Writer:
        writer = await self.uploads.write(
            upload, offset, self.handler.on_release_requested, is_lost=self.handler.is_lost
        )
        if not self.uploads.durable:  # else what came may still go: not to be told
            self._told, self._told_at = offset, time.monotonic()
            writer.on_progress = self._progress
        return writer

    async def _finish(self) -> Upload:
        """Only a true Upload-Complete completes an upload, even one that has every byte."""
        writer = cast(Writer, self.handler.writer)
        return await self.uploads.finish(writer, last=bool(self.fields.complete) and not self._replayed)

    def _completed(self, upload: Upload) -> None:
        self.handler.set_header("Upload-Complete", resumable_uploads.boolean(True))
        self.handler.set_header("Upload-Offset", upload.offset)
        self.answer_file(cast(FileStat, upload.published))

    def _describe_open(self, upload: Upload) -> None:
        self.handler.set_header("Upload-Offset", upload.offset)
        self.handler.set_header("Upload-Complete", resumable_uploads.boolean(False))
        self.handler.set_header("Upload-Limit", self._limits(upload))

    def _check_replay(self) -> None:
        """To a completed upload nothing is appended; a client that lost the last answer may ask for it again."""
        if not self.fields.complete or self.handler.body_size != 0:
            raise problems.CONFLICT("the upload is complete: nothing can be appended to it")

    def _length(self, offset: int, recorded: int | None) -> int | None:
        """The length that the request indicates, or None. Raises INCONSISTENT_LENGTH."""
        lengths = self.fields.lengths(offset, self.handler.body_size)
        known = lengths if recorded is None else lengths | {recorded}
        if len(known) > 1:
            raise problems.INCONSISTENT_LENGTH(
                f"the upload can't be {' and '.join(map(str, sorted(known)))} bytes long at once", bytes_read=offset
            )
        length = next(iter(known), None)
        size = self.handler.body_size
        if length is not None and size is not None and offset + size > length:
            raise problems.INCONSISTENT_LENGTH(
                f"{size} bytes at {offset} go past the upload's length of {length}; nothing of them was kept",
                bytes_read=offset,
            )
        self.uploads.check_length(offset + (size or 0))
        return length

    def _limits(self, upload: Upload) -> str:
        age = self.uploads.expires(upload) - time.time()
        return resumable_uploads.limits(self.handler.services.settings.max_upload_size, age)

    def _progress(self, offset: int) -> None:
        """Tell how far it is, now and then: the sender may let go of what is down."""
        now = time.monotonic()
        if self.handler.writer is not None and self.handler.writer.check is not None:
            return  # what came may still go
        if offset - self._told >= _PROGRESS_BYTES or now - self._told_at >= _PROGRESS_S:
            self._told, self._told_at = offset, now
            self._interim({"Upload-Offset": str(offset)})

    def _interim(self, fields: dict[str, str]) -> None:
        if self.fields.complete is not None and resumable_uploads.takes_interim(
            self.handler.request.version, self.headers
        ):
            self.handler.interim(resumable_uploads.interim(fields))
