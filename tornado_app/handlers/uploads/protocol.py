"""Interface of the upload protocols: each translates requests to the upload service, and its results to responses."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import msgspec

from tornado_app import problems
from tornado_app.files.published.decisions import info
from tornado_app.files.store.interface import FileStat
from tornado_app.files.uploads.digest_check import DigestCheck, given_block_digest
from tornado_app.files.uploads.service import Uploads
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.files.uploads.writer import Writer
from tornado_app.handlers.uploads.messages import Receiver, UploadRequest, UploadResponse
from tornado_app.problems import ProblemError
from tornado_app.protocols import conditionals, content_disposition, dates, digests


class UploadProtocol(ABC):
    """One request as a protocol understands it. The handler calls, in this order, what its method needs:

    - POST: `begin_creation`, for a form `begin_file`, then `created` once the body has ended.
    - PATCH: `begin_append`, then `appended` once the body has ended.
    - HEAD: `head`. DELETE: `delete`.

    Each of them raises `ProblemError` to refuse; the handler answers with what `problem` makes of it.
    """

    def __init__(self, request: UploadRequest, uploads: Uploads, max_size: int = 0) -> None:
        """`max_size` is the largest upload that the server takes; 0 for no limit."""
        self.request = request
        self.headers = request.headers
        self.uploads = uploads
        self.max_size = max_size
        self.upload: Upload | None = None
        self.writer: Writer | None = None

    @abstractmethod
    async def begin_creation(self) -> Receiver:
        """Decide on a POST by its headers, before its body is read."""

    @abstractmethod
    async def created(self) -> UploadResponse:
        """Finish what the POST brought."""

    async def begin_file(self, name: str) -> Writer:
        """Return the writer for the file of a form, which has this name there."""
        raise NotImplementedError

    @abstractmethod
    async def begin_append(self, id: str) -> Receiver:
        """Decide on a PATCH by its headers, before its body is read."""

    @abstractmethod
    async def appended(self) -> UploadResponse:
        """Finish what the PATCH brought."""

    @abstractmethod
    async def head(self, id: str) -> UploadResponse:
        """Return where the upload stands, once no other request writes to it."""

    async def delete(self, id: str) -> UploadResponse:
        """Forget an upload; the file that it became stays."""
        await self.uploads.cancel(self.uploads.get(id, broken=True))
        return UploadResponse(204)

    def progress(self, offset: int) -> bytes | None:
        """Return an interim response once the bytes before `offset` are durable, or None."""
        return None

    def problem(self, problem: ProblemError) -> ProblemError:
        """Return a refusal in the terms of this protocol, with its headers."""
        return problem

    # -- for the protocols

    def check_fits(self, offset: int, length: int | None) -> None:
        """Refuse a body that would go past the end, before it is read. Raises BAD_BODY, TOO_LARGE."""
        size = self.request.content_length
        if length is not None and size is not None and offset + size > length:
            raise problems.BAD_BODY(
                f"{size} bytes at {offset} go past the upload's length of {length}. Nothing of them was kept",
                bytes_read=offset,
            )
        self.uploads.check_length(offset + (size or 0))

    def record(self, kind: Any, **fields: Any) -> UploadRecord:
        """Return a record of an upload named by Content-Disposition, with the digests of Repr-Digest."""
        disposition = self.headers.get("Content-Disposition")
        name = None if disposition is None else content_disposition.file_name(disposition)
        if disposition is not None and name is None and "filename" in disposition.lower():
            raise problems.BAD_NAME(f"Content-Disposition can't be read: {disposition[:200]!r}")
        return UploadRecord(
            kind,
            name or "",
            time.time(),
            overwrite=self.request.overwrite,
            digests=self.digests("Repr-Digest") | self.block_digest(),
            **fields,
        )

    def digests(self, field: str) -> dict[str, bytes]:
        """Return the digests in a field of RFC 9530. Raises BAD_REQUEST."""
        value = self.headers.get(field)
        found = {} if value is None else digests.read(value)
        if found is None:
            raise problems.BAD_REQUEST(
                f"{field} can't be read. It looks like sha-256=:BASE64:, not {(value or '')[:100]!r}"
            )
        return found

    def block_digest(self) -> dict[str, bytes]:
        """Return the block digest of the whole file that the request gives, by its algorithm. Raises BAD_REQUEST."""
        return given_block_digest(self.headers.get("Block-Digest"))

    def check_published(self, upload: Upload) -> None:
        """Refuse a request that repeats the last one of an upload with another digest. Raises DIGEST_MISMATCH."""
        known = None if upload.published is None else upload.published.block_digest
        for digest in self.block_digest().values():
            if known is not None and digest.hex() != known:
                raise problems.DIGEST_MISMATCH(
                    f"the upload was published with the block digest {known}, not {digest.hex()}. Upload the file again"
                )

    def content_check(self) -> DigestCheck | None:
        """Return a check of the body by Content-Digest, if the request has one. Raises BAD_REQUEST."""
        found = self.digests("Content-Digest")
        return DigestCheck({digests.HASHLIB[name]: digest for name, digest in found.items()}) if found else None

    def file_response(self, stat: FileStat, headers: Mapping[str, str] | None = None) -> UploadResponse:
        """Return a 201 with the published file as JSON; its headers follow `headers`."""
        headers = {**(headers or {}), "Location": self.request.location_of_file(stat.name), **file_headers(stat)}
        headers["Content-Type"] = "application/json"
        return UploadResponse(201, headers, msgspec.json.encode(info(stat)))


def wanted_digest(uploads: Uploads) -> dict[str, str]:
    """Return the header that asks for the block digest of uploads, if this server verifies them by it."""
    return {"Want-Block-Digest": digests.WANT_BLOCK} if uploads.checks_blocks else {}


def file_headers(stat: FileStat) -> dict[str, str]:
    """Return the headers of a response that publishes a file: those which a HEAD of the file would have."""
    headers = {
        "ETag": conditionals.quoted(stat.etag),
        "Last-Modified": dates.write(min(stat.modified_ns // 1_000_000_000, time.time())),
    }
    if stat.sha256 is not None:
        headers["Repr-Digest"] = digests.write("sha-256", bytes.fromhex(stat.sha256))
    if stat.block_digest is not None:
        headers["Block-Digest"] = digests.write_block(bytes.fromhex(stat.block_digest))
    return headers
