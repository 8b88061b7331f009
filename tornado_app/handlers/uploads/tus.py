"""tus 1.0.0 on the upload service (https://tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from tornado_app import problems
from tornado_app.files.store.interface import Piece
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.uploads.messages import Receiver, UploadResponse
from tornado_app.handlers.uploads.protocol import UploadProtocol, file_headers
from tornado_app.problems import ProblemError
from tornado_app.protocols import dates, tus

P = ParamSpec("P")
T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_UPLOAD_URL = re.compile(r".*/v1/uploads/([A-Za-z0-9_-]{1,128})/?")


class ChecksumCheck:
    """A `Check` by Upload-Checksum."""

    def __init__(self, algorithm: str, digest: bytes) -> None:
        self._algorithm = algorithm
        self._expected = digest
        self._running = tus.CHECKSUMS[algorithm][0]()

    def update(self, data: Piece) -> None:
        """The next bytes."""
        self._running.update(data)

    def verify(self) -> None:
        """Raises CHECKSUM_MISMATCH."""
        if self._running.digest() != self._expected:
            raise problems.CHECKSUM_MISMATCH(
                f"the {self._algorithm} of what came is {self._running.digest().hex()}, "
                f"not {self._expected.hex()}. Send it again: nothing of it was kept"
            )


class Tus(UploadProtocol):
    """Every extension but checksum-trailer."""

    async def begin_creation(self) -> Receiver:
        self._check_version()
        concat = self.headers.get("Upload-Concat")
        parts = self._parts(concat)
        length = self._length(is_final=parts is not None and concat is not None)
        request = self.request
        if request.has_content:
            self._check_media_type()
            if parts is not None:
                raise problems.BAD_REQUEST("a final upload is made of its parts: its creation has no content")
        check = self._check()
        self.check_fits(0, length)
        record = self._record(concat, length, parts)
        if parts is not None:
            self.uploads.concatenation.check(parts)
        self.upload = await self._create(record)
        if parts is not None or not (request.has_content or length == 0):
            return Receiver()
        self.writer = await self.uploads.write(self.upload, 0, request.on_release_requested, check)
        return Receiver(self.writer)

    async def _create(self, record: UploadRecord) -> Upload:
        """Create an upload; if the answer to a creation from parts was lost, return the upload that it made."""
        try:
            return await self.uploads.create(record, client=self.request.client)
        except ProblemError as error:
            made = None
            if error.kind is problems.FILE_EXISTS:
                made = self.uploads.concatenation.made(record, error.members["etag"])
            if made is None:
                raise
            return made

    async def created(self) -> UploadResponse:
        upload = cast(Upload, self.upload)
        headers = {}
        if self.writer is not None:
            try:
                await self.uploads.finish(self.writer)
            except ProblemError as error:
                if upload.broken or (error.kind is problems.CHECKSUM_MISMATCH and upload.offset == 0):
                    await self.uploads.cancel_quietly(upload)
                raise
            headers["Upload-Offset"] = str(upload.offset)
        elif upload.record.parts and not upload.complete:
            await self.uploads.concatenation.begin(upload)
        headers["Location"] = self.request.location_of(upload)
        return UploadResponse(201, headers | self._file(upload) | self._expires(upload))

    async def begin_append(self, id: str) -> Receiver:
        self._check_version()
        self._check_media_type()
        offset = self._count("Upload-Offset")
        self.upload = upload = self.uploads.get(id)
        if upload.record.kind != "tus":
            raise problems.CONFLICT(f"the upload {id!r} was not created by tus. Go on with it as it began")
        if upload.record.concat.startswith("final"):
            raise problems.FORBIDDEN("a final upload is made of its parts; it takes no content")
        request = self.request
        writer = await self.uploads.write(upload, offset, request.on_release_requested, is_lost=request.is_lost)
        try:  # the offset is right, so the other headers count
            writer.check = self._check()
            length = self._count("Upload-Length") if "Upload-Length" in self.headers else None
            self.check_fits(offset, upload.record.length if length is None else length)
            if upload.complete:
                self.check_published(upload)
            else:
                await self.uploads.describe_whole(upload, length, self.block_digest())
        except BaseException:
            writer.release()
            raise
        self.writer = writer
        return Receiver(writer)

    async def appended(self) -> UploadResponse:
        upload = await self.uploads.finish(cast(Writer, self.writer))
        return UploadResponse(204, {"Upload-Offset": str(upload.offset)} | self._file(upload) | self._expires(upload))

    async def head(self, id: str) -> UploadResponse:
        self._check_version()
        self.upload = upload = self.uploads.get(id)
        await self.uploads.request_release(upload, self.request.is_lost)
        return UploadResponse(200, self._state(upload))

    async def delete(self, id: str) -> UploadResponse:
        self._check_version()
        return await super().delete(id)

    def problem(self, problem: ProblemError) -> ProblemError:
        upload = self.upload
        if upload is None or upload.removed or upload.broken or problem.kind is problems.OFFSET_MISMATCH:
            return problem
        # A client that got no answer to its creation may still go on with what it brought.
        headers = {"Upload-Offset": str(upload.offset)}
        if self.request.method == "POST":
            headers["Location"] = self.request.location_of(upload)
        return problem.with_headers(headers)

    def _state(self, upload: Upload) -> dict[str, str]:
        record, headers = upload.record, {}
        length = record.length
        if record.parts and length is None:
            length = self.uploads.concatenation.length(record.parts)
        else:
            headers["Upload-Offset"] = str(upload.offset)
        if length is not None:
            headers["Upload-Length"] = str(length)
        elif not record.parts:
            headers["Upload-Defer-Length"] = "1"
        if record.metadata:
            headers["Upload-Metadata"] = record.metadata
        if record.concat:
            headers["Upload-Concat"] = record.concat
        return headers | self._expires(upload)

    @staticmethod
    def _file(upload: Upload) -> dict[str, str]:
        """Return the headers of the file that the upload became, if it did."""
        return {} if upload.published is None else file_headers(upload.published)

    def _expires(self, upload: Upload) -> dict[str, str]:
        """Return Upload-Expires; a complete upload has none, for it does not go on."""
        return {} if upload.complete else {"Upload-Expires": dates.write(self.uploads.expires(upload))}

    # -- reading the headers

    def _check_version(self) -> None:
        version = self.headers.get("Tus-Resumable")
        if version != tus.VERSION:
            said = "is missing" if version is None else f"is {version[:100]!r}"
            raise problems.PRECONDITION_FAILED(
                f"Tus-Resumable {said}. This server speaks {tus.VERSION}", headers={"Tus-Version": tus.VERSION}
            )

    def _check_media_type(self) -> None:
        kind = self.headers.get("Content-Type", "")
        if kind.partition(";")[0].strip().lower() != tus.MEDIA_TYPE:
            raise problems.UNSUPPORTED_MEDIA_TYPE(
                f"Content-Type must be {tus.MEDIA_TYPE}, not {kind[:100]!r}", headers={"Accept-Patch": tus.MEDIA_TYPE}
            )

    def _count(self, name: str) -> int:
        value = self.headers.get(name)
        if value is None:
            raise problems.BAD_REQUEST(f"{name} is missing. Send the offset at which the content begins")
        return self._read(tus.count, name, value)

    @staticmethod
    def _read(read: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Return the value of a header. Raises BAD_REQUEST."""
        try:
            return read(*arguments, **keywords)
        except ValueError as error:
            raise problems.BAD_REQUEST(str(error)) from None

    def _check(self) -> ChecksumCheck | None:
        field = self.headers.get("Upload-Checksum")
        return None if field is None else ChecksumCheck(*self._read(tus.checksum, field))

    def _length(self, *, is_final: bool) -> int | None:
        length, deferred = self.headers.get("Upload-Length"), self.headers.get("Upload-Defer-Length")
        if is_final:
            if length is not None or deferred is not None:
                raise problems.BAD_REQUEST("a final upload is as long as its parts: leave out Upload-Length")
            return None
        if (length is None) == (deferred is None):
            raise problems.BAD_REQUEST(
                "the length is given twice or not at all. "
                "Give Upload-Length, or Upload-Defer-Length: 1 if it is not known yet"
            )
        if deferred is not None:
            if deferred != "1":
                raise problems.BAD_REQUEST(f"Upload-Defer-Length must be 1, not {deferred[:40]!r}")
            return None
        return self._read(tus.count, "Upload-Length", cast(str, length))

    def _parts(self, concat: str | None) -> list[str] | None:
        urls = None if concat is None else self._read(tus.concat, concat)
        if urls is None:
            return None
        matches = [(url, _UPLOAD_URL.fullmatch(url.partition("?")[0])) for url in urls]
        for url, match in matches:
            if match is None:
                raise problems.BAD_REQUEST(f"{url[:200]!r} is not the URL of an upload here")
        return [match[1] for _, match in matches if match is not None]

    def _record(self, concat: str | None, length: int | None, parts: list[str] | None) -> UploadRecord:
        field = self.headers.get("Upload-Metadata", "")
        found = self._read(tus.metadata, field) if field else {}
        return UploadRecord(
            "tus",
            None if concat is not None and parts is None else self._text(found, "filename"),
            time.time(),
            length=length,
            overwrite=self.request.overwrite or self._text(found, "overwrite") == "true",
            digests=self._digests(found) | self.block_digest(),
            metadata=field,
            concat=concat or "",
            parts=parts or [],
        )

    @staticmethod
    def _text(found: dict[str, bytes], key: str) -> str:
        try:
            return found.get(key, b"").decode("utf-8")
        except UnicodeDecodeError:
            raise problems.BAD_REQUEST(f"Upload-Metadata: {key} is not UTF-8") from None

    def _digests(self, found: dict[str, bytes]) -> dict[str, bytes]:
        digest = self._text(found, "sha256")
        if digest and not _SHA256.fullmatch(digest):
            raise problems.BAD_REQUEST(f"Upload-Metadata: sha256 must be 64 hex digits, not {digest[:80]!r}")
        return {"sha-256": bytes.fromhex(digest)} if digest else {}
