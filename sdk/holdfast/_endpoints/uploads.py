"""Endpoints of uploads (tus 1.0.0)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime

from holdfast import wire
from holdfast._endpoints.call import CallResponse, Parts, Source, endpoint, read_nothing
from holdfast._endpoints.digest_fields import block_digest_field, block_digest_of, wants_blocks
from holdfast._endpoints.files import date_of, etag_of
from holdfast.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class UploadHead:
    """Headers of an upload. `length` is None while it is deferred; `location` is set by its creation.

    `wants_blocks`: the server verifies uploads by block digests. `etag`, `modified` and `block_digest` are those of the
    published file, once the upload is complete.
    """

    offset: int
    length: int | None
    location: str = ""
    wants_blocks: bool = False
    etag: str | None = None
    modified: datetime | None = None
    block_digest: str | None = None

    @property
    def id(self) -> str:
        """Id of the upload for other calls: the last part of the location."""
        return self.location.rstrip("/").rpartition("/")[2]


TUS = {"Tus-Resumable": "1.0.0"}


def _upload_head(answer: CallResponse) -> UploadHead:
    length = answer.headers.get("upload-length")
    offset = answer.headers.get("upload-offset", "0" if answer.status == 201 else "")
    if not offset.isdigit():
        raise ProtocolError("the response has no Upload-Offset. Check that the URL is that of a Holdfast server")
    known = int(length) if length is not None and length.isdigit() else None
    return UploadHead(
        int(offset),
        known,
        answer.headers.get("location", ""),
        wants_blocks(answer.headers),
        etag_of(answer),
        date_of(answer.headers.get("last-modified")),
        block_digest_of(answer.headers),
    )


def tus_metadata(**values: str | None) -> str:
    """Return `Upload-Metadata` (tus 1.0.0, creation): keys with base64 of UTF-8."""
    pairs = (f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items() if value is not None)
    return ",".join(pairs)


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """Options of uploads: tus extensions, and `max_size` in bytes, or None for no limit.

    `wants_blocks`: the server verifies uploads by block digests.
    """

    extensions: frozenset[str]
    max_size: int | None
    wants_blocks: bool = False


UploadLimits = UploadOptions
"""Older name of `UploadOptions`."""


def _upload_options(answer: CallResponse) -> UploadOptions:
    extensions = answer.headers.get("tus-extension", "")
    largest = answer.headers.get("tus-max-size", "")
    most = int(largest) if largest.isdigit() else None
    return UploadOptions(frozenset(extensions.split(",")), most, wants_blocks(answer.headers))


@endpoint("OPTIONS", "/v1/uploads", UploadOptions, read=_upload_options)
def upload_options() -> Parts:
    """Read the options of uploads: the extensions and the size limit."""
    return Parts()


@endpoint("POST", "/v1/uploads", UploadHead, read=_upload_head, repeatable=True)
def create_upload(
    *, length: int | None = None, metadata: str | None = None, partial: bool = False, parts: list[str] | None = None
) -> Parts:
    """Create an upload of `length` bytes (None: not known yet), or concatenate `parts`, given by their locations.

    Repeatable: an upload whose response was lost has no bytes and expires.
    """
    concat = "partial" if partial else f"final;{' '.join(parts)}" if parts is not None else None
    headers = {**TUS, "Upload-Concat": concat, "Upload-Metadata": metadata}
    if parts is None:
        headers |= {"Upload-Length": str(length)} if length is not None else {"Upload-Defer-Length": "1"}
    return Parts(headers=headers)


@endpoint("HEAD", "/v1/uploads/{id}", UploadHead, read=_upload_head)
def upload_head(id: str) -> Parts:
    """Read the offset of an upload. The server ends an older request for it."""
    return Parts(path={"id": id}, headers=TUS)


@endpoint("PATCH", "/v1/uploads/{id}", UploadHead, read=_upload_head)
def append(
    id: str,
    offset: int,
    data: bytes | Source,
    *,
    length: int | None = None,
    block_digest: bytes | None = None,
    checksum: str | None = None,
) -> Parts:
    """Append `data` at `offset`; `length` sets the total length, once, if that was deferred.

    The server verifies the `block_digest` of the whole file (see `holdfast.digests`) before it publishes the file. It
    keeps `data` only if that has the `checksum`: an algorithm and a digest, as in "crc32 AAAAAA==".

    Not repeatable: if the response is lost, read the offset first.
    """
    headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    total = None if length is None else str(length)
    more = {"Upload-Length": total, "Block-Digest": block_digest_field(block_digest), "Upload-Checksum": checksum}
    return Parts(path={"id": id}, headers=headers | more, content=data)


@endpoint("DELETE", "/v1/uploads/{id}", type(None), read=read_nothing)
def delete_upload(id: str) -> Parts:
    """Delete an upload. A published file stays."""
    return Parts(path={"id": id}, headers=TUS)


@endpoint("GET", "/v1/uploads", wire.UploadPage)
def list_uploads(*, cursor: str | None = None, limit: int | None = None) -> Parts:
    """List a page of uploads."""
    return Parts(query={"cursor": cursor, "limit": limit})


@endpoint("GET", "/v1/uploads/{id}", wire.UploadInfo)
def get_upload(id: str) -> Parts:
    """Read the state of an upload."""
    return Parts(path={"id": id})
