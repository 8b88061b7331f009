"""Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload, interop version 8) on the upload service."""

from __future__ import annotations

import time
from typing import cast

from tornado_app import problems
from tornado_app.files.store.interface import FileStat
from tornado_app.files.uploads.upload import Upload
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.uploads.messages import Receiver, UploadResponse
from tornado_app.handlers.uploads.protocol import UploadProtocol
from tornado_app.problems import Kind, ProblemError
from tornado_app.protocols import resumable_uploads
from tornado_app.protocols.resumable_uploads import Fields

_PROGRESS_BYTES = 1 << 20
_PROGRESS_S = 1.0

_KINDS: dict[Kind, Kind] = {
    problems.OFFSET_MISMATCH: problems.MISMATCHING_OFFSET,
    problems.CHECKSUM_MISMATCH: problems.DIGEST_MISMATCH,
}


class ResumableUpload(UploadProtocol):
    """Creation, offset retrieval, append and cancellation (sections 4.2 to 4.5)."""

    _is_replay = False
    _reported = 0
    _reported_at = 0.0

    async def begin_creation(self) -> Receiver:
        self.fields = Fields.read(self.headers)
        if self.request.form() is not None:
            raise problems.UNSUPPORTED_MEDIA_TYPE(
                "the body of a resumable upload can't be a form; "
                "send the bytes of the file, or the form without Upload-Complete"
            )
        length = self._length(0, None)
        self.uploads.check_length(length)
        check = self.content_check()
        self.upload = await self.uploads.create(self.record("draft", length=length), client=self.request.client)
        location = self.request.location_of(self.upload)
        interim = self._interim({"Location": location, "Upload-Limit": self._limits(self.upload)})
        self.writer = await self._write(self.upload, 0)
        self.writer.check = check
        return self._receiver(() if interim is None else (interim,))

    async def created(self) -> UploadResponse:
        upload = await self._finish()
        if upload.complete:
            return self._completed(upload)
        return UploadResponse(201, {"Location": self.request.location_of(upload)} | self._incomplete(upload))

    async def begin_append(self, id: str) -> Receiver:
        kind = self.headers.get("Content-Type", "")
        if not resumable_uploads.is_partial_upload(kind):
            raise problems.UNSUPPORTED_MEDIA_TYPE(
                f"Content-Type of an append must be {resumable_uploads.MEDIA_TYPE}, not {kind[:100]!r}",
                headers={"Accept-Patch": resumable_uploads.MEDIA_TYPE},
            )
        self.fields = fields = Fields.read(self.headers)
        if fields.offset is None:
            raise problems.BAD_REQUEST(
                "Upload-Offset is missing or ill-formed. Send the offset at which the content begins, a whole number"
            )
        self.upload = upload = self.uploads.get(id)
        if upload.record.kind != "draft":
            raise problems.CONFLICT(f"the upload {id!r} was not created by this protocol. Go on with it as it began")
        writer = await self._write(upload, fields.offset)
        try:  # the offset is right, so the other headers count
            writer.check = self.content_check()
            if upload.complete:
                self._check_replay()
                self.check_published(upload)
                self._is_replay = True
            else:
                length = self._length(fields.offset, upload.record.length)
                await self.uploads.describe_whole(upload, length, self.block_digest())
        except BaseException:
            writer.release()
            raise
        self.writer = writer
        return self._receiver()

    async def appended(self) -> UploadResponse:
        upload = await self._finish()
        return self._completed(upload) if upload.complete else UploadResponse(204, self._incomplete(upload))

    async def head(self, id: str) -> UploadResponse:
        self.upload = upload = self.uploads.get(id)
        await self.uploads.request_release(upload, self.request.is_lost)
        return UploadResponse(204, self.state(upload))

    def state(self, upload: Upload) -> dict[str, str]:
        """Return the header fields of an offset retrieval (section 4.3.2)."""
        headers = {
            "Upload-Offset": str(upload.offset),
            "Upload-Complete": resumable_uploads.boolean(upload.complete),
            "Upload-Limit": self._limits(upload),
        }
        if upload.record.length is not None:
            headers["Upload-Length"] = str(upload.record.length)
        return headers

    def progress(self, offset: int) -> bytes | None:
        """Return a 104 with the durable offset about every MiB or second, so that the client may drop those bytes."""
        now = time.monotonic()
        if self.writer is not None and self.writer.check is not None:
            return None  # a failed check takes the bytes back
        if offset - self._reported < _PROGRESS_BYTES and now - self._reported_at < _PROGRESS_S:
            return None
        self._reported, self._reported_at = offset, now
        return self._interim({"Upload-Offset": str(offset)})

    def problem(self, problem: ProblemError) -> ProblemError:
        """Add where the upload stands. It is never complete: a refused request does not complete it."""
        headers = {"Upload-Complete": resumable_uploads.boolean(False)}
        upload = self.upload
        if upload is not None and not (upload.removed or upload.broken):
            headers["Upload-Offset"] = str(upload.offset)
            if self.request.method == "POST":
                headers["Location"] = self.request.location_of(upload)
        if problem.kind is problems.TOO_LARGE:
            headers["Upload-Limit"] = resumable_uploads.limits(self.max_size)
        return problem.with_headers(headers, kind=_KINDS.get(problem.kind))

    # -- steps

    async def _write(self, upload: Upload, offset: int) -> Writer:
        request = self.request
        writer = await self.uploads.write(upload, offset, request.on_release_requested, is_lost=request.is_lost)
        self._reported, self._reported_at = offset, time.monotonic()
        return writer

    def _receiver(self, interim: tuple[bytes, ...] = ()) -> Receiver:
        """Return where the body goes. With `--durable` bytes are safe only at the end, so no progress is reported."""
        return Receiver(self.writer, interim=interim, has_progress=not self.uploads.durable)

    async def _finish(self) -> Upload:
        """Only a true Upload-Complete completes an upload, even one that has every byte."""
        is_last = bool(self.fields.complete) and not self._is_replay
        return await self.uploads.finish(cast(Writer, self.writer), last=is_last)

    def _completed(self, upload: Upload) -> UploadResponse:
        headers = {"Upload-Complete": resumable_uploads.boolean(True), "Upload-Offset": str(upload.offset)}
        return self.file_response(cast(FileStat, upload.published), headers)

    def _incomplete(self, upload: Upload) -> dict[str, str]:
        return {
            "Upload-Offset": str(upload.offset),
            "Upload-Complete": resumable_uploads.boolean(False),
            "Upload-Limit": self._limits(upload),
        }

    def _check_replay(self) -> None:
        """Nothing is appended to a complete upload; a client that lost the last answer may ask for it again."""
        if not self.fields.complete or self.request.has_content:
            raise problems.CONFLICT("the upload is complete: nothing can be appended to it")

    def _length(self, offset: int, recorded: int | None) -> int | None:
        """Return the length that the request indicates, or None. Raises INCONSISTENT_LENGTH."""
        size = self.request.content_length
        lengths = self.fields.lengths(offset, size)
        known = lengths if recorded is None else lengths | {recorded}
        if len(known) > 1:
            raise problems.INCONSISTENT_LENGTH(
                f"the upload can't be {' and '.join(map(str, sorted(known)))} bytes long at once", bytes_read=offset
            )
        length = next(iter(known), None)
        if length is not None and size is not None and offset + size > length:
            raise problems.INCONSISTENT_LENGTH(
                f"{size} bytes at {offset} go past the upload's length of {length}. Nothing of them was kept",
                bytes_read=offset,
            )
        self.uploads.check_length(offset + (size or 0))
        return length

    def _limits(self, upload: Upload) -> str:
        return resumable_uploads.limits(self.max_size, self.uploads.expires(upload) - time.time())

    def _interim(self, headers: dict[str, str]) -> bytes | None:
        """Return a 104 response; None for a client that does not take it."""
        if self.fields.complete is None or not resumable_uploads.takes_interim(self.request.version, self.headers):
            return None
        return resumable_uploads.interim(headers)
