"""What speaks of uploads to a client: one class a protocol, on the same service."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from tornado_app import problems
from tornado_app.files.published_files import info
from tornado_app.files.store.interface import FileStat
from tornado_app.files.uploads.digest_check import DigestCheck
from tornado_app.files.uploads.service import Uploads
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.files.uploads.writer import Writer
from tornado_app.problems import ProblemError
from tornado_app.protocols import conditionals, content_disposition, digests

if TYPE_CHECKING:
    from tornado_app.handlers.uploads.handler import _UploadsHandler


class UploadProtocol(ABC):
    """Translates the requests on uploads for one handler. A refusal is raised."""

    def __init__(self, handler: _UploadsHandler) -> None:
        self.handler = handler
        self.headers = handler.request.headers
        self.upload: Upload | None = None

    @property
    def uploads(self) -> Uploads:
        """The service."""
        return self.handler.services.files.uploads

    @abstractmethod
    async def begin_creation(self) -> Writer | None:
        """A POST has come, its body has not: the new upload's writer, if the body is for it."""

    @abstractmethod
    async def created(self) -> None:
        """Finish what the POST brought, and answer."""

    async def begin_file(self, name: str) -> Writer:
        """The file of a form has begun, which has this name there."""
        raise NotImplementedError

    @abstractmethod
    async def begin_append(self, id: str) -> Writer | None:
        """A PATCH has come, its body has not."""

    @abstractmethod
    async def appended(self) -> None:
        """Finish what the PATCH brought, and answer."""

    @abstractmethod
    async def head(self, id: str) -> None:
        """Where the upload stands."""

    async def delete(self, id: str) -> None:
        """Forget an upload; the file that it became stays."""
        await self.uploads.cancel(self.uploads.get(id, broken=True))
        self.handler.set_status(204)

    def problem(self, problem: ProblemError) -> ProblemError:
        """A refusal as this protocol words it."""
        return problem

    # -- what the dialects share

    def check_fits(self, offset: int, length: int | None) -> None:
        """Refuse a body that says it goes past the end, before it comes. Raises BAD_BODY, TOO_LARGE."""
        size = self.handler.body_size
        if length is not None and size is not None and offset + size > length:
            raise problems.BAD_BODY(
                f"{size} bytes at {offset} go past the upload's length of {length}; nothing of them was kept",
                bytes_read=offset,
            )
        self.uploads.check_length(offset + (size or 0))

    def record(self, kind: Any, **fields: Any) -> UploadRecord:
        """A record of an upload whose name comes from Content-Disposition and whose digests from Repr-Digest."""
        disposition = self.headers.get("Content-Disposition")
        name = None if disposition is None else content_disposition.file_name(disposition)
        if disposition is not None and name is None and "filename" in disposition.lower():
            raise problems.BAD_NAME(f"Content-Disposition can't be read: {disposition[:200]!r}")
        return UploadRecord(
            kind,
            name or "",
            time.time(),
            overwrite=self.handler.overwrites,
            digests=self.digests("Repr-Digest"),
            **fields,
        )

    def digests(self, field: str) -> dict[str, bytes]:
        """The digests in a field of RFC 9530. Raises BAD_REQUEST."""
        value = self.headers.get(field)
        found = {} if value is None else digests.read(value)
        if found is None:
            raise problems.BAD_REQUEST(
                f"{field} can't be read; it looks like sha-256=:BASE64:, not {(value or '')[:100]!r}"
            )
        return found

    def content_check(self) -> DigestCheck | None:
        """A check by Content-Digest, if the request has one."""
        found = self.digests("Content-Digest")
        return DigestCheck({digests.HASHLIB[name]: digest for name, digest in found.items()}) if found else None

    def answer_file(self, stat: FileStat) -> None:
        """The upload has become a file: 201, with the file as JSON."""
        handler = self.handler
        handler.set_header("Location", handler.location_of_file(stat.name))
        handler.set_header("ETag", conditionals.quoted(stat.etag))
        if stat.sha256 is not None:
            handler.set_header("Repr-Digest", digests.write("sha-256", bytes.fromhex(stat.sha256)))
        handler.answer(info(stat), 201)
