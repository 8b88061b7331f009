"""Endpoints of published files and of links to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from holdfast import wire
from holdfast._endpoints.call import CallResponse, Parts, Source, endpoint, read_nothing
from holdfast._endpoints.digest_fields import block_digest_field, block_digest_of, sha256_of
from holdfast.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class FileHead:
    """Headers of a file: `size` in bytes, `etag` without quotes, digests as hex, or None if they are not known."""

    size: int
    etag: str | None
    sha256: str | None
    content_type: str
    modified: datetime | None
    block_digest: str | None = None

    def info(self, name: str) -> wire.FileInfo:
        """Return the same as listings do. Raises `ProtocolError` if a header is missing."""
        if self.etag is None or self.modified is None:
            raise ProtocolError(f"the response lacks a strong ETag or a Last-Modified for {name!r}")
        return wire.FileInfo(
            name, self.size, self.modified, self.etag, self.content_type, self.sha256, self.block_digest
        )


@endpoint("GET", "/v1/files", wire.FilePage)
def list_files(
    *,
    prefix: str | None = None,
    delimiter: Literal["/"] | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> Parts:
    """List a page of files, by name; with a delimiter, those of one level, and its folders as `prefixes`."""
    return Parts(query={"prefix": prefix, "delimiter": delimiter, "cursor": cursor, "limit": limit})


def file_head(answer: CallResponse) -> FileHead:
    """Parse the headers of a 200 or 206. Raises `ProtocolError` if they don't tell the size of the file."""
    whole = answer.headers.get("content-length")
    if answer.status == 206:
        _, _, whole = content_range(answer)
    if whole is None or not whole.isdigit():
        raise ProtocolError("the response does not tell the size of the file")
    return FileHead(
        int(whole),
        etag_of(answer),
        sha256_of(answer.headers),
        answer.headers.get("content-type", "application/octet-stream"),
        date_of(answer.headers.get("last-modified")),
        block_digest_of(answer.headers),
    )


def _quoted(etag: str | None) -> str | None:
    """Return an `etag` of `FileInfo` as a header has it, also one that was copied from a header with its quotes."""
    return None if etag is None else '"' + etag.removeprefix('"').removesuffix('"') + '"'


def etag_of(answer: CallResponse) -> str | None:
    """Return the entity tag without quotes; None if there is no strong one."""
    etag = answer.headers.get("etag", "")
    return etag[1:-1] if len(etag) > 1 and etag[0] == etag[-1] == '"' else None


def date_of(text: str | None) -> datetime | None:
    """Return the time of a `Last-Modified`; None if it is missing or ill-formed."""
    try:
        return None if text is None else parsedate_to_datetime(text)
    except ValueError:
        return None


def content_range(answer: CallResponse) -> tuple[int, int, str]:
    """Return first byte, byte after the last, and total size as text ("*" if unknown) of a 206."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("content-range", ""))
    if match is None:
        raise ProtocolError(f"a 206 without a usable Content-Range: {answer.headers.get('content-range')!r}")
    return int(match[1]), int(match[2]) + 1, match[3]


def _whole_body(answer: CallResponse) -> bytes:
    return answer.body


@endpoint("GET", "/v1/files/{name}", bytes, read=_whole_body)
def get_file(name: str, *, begin: int | None = None, end: int | None = None, etag: str | None = None) -> Parts:
    """Read a file, or its bytes from `begin` up to, not including, `end`. 412 if it no longer has the `etag`."""
    return Parts(
        path={"name": name},
        headers={
            "Range": None if begin is None else f"bytes={begin}-{'' if end is None else end - 1}",
            "If-Match": _quoted(etag),
        },
    )


@endpoint("HEAD", "/v1/files/{name}", FileHead, read=file_head)
def head_file(name: str, *, sha256: bool = False) -> Parts:
    """Read the headers of a file; with `sha256`, ask the server to wait for that digest, or to make it."""
    want = "sha-256=10" if sha256 else None
    return Parts(path={"name": name}, headers={"Want-Repr-Digest": want}, wait=30.0 if sha256 else 0.0)


@endpoint("PUT", "/v1/files/{name}", wire.FileInfo)
def put_file(
    name: str,
    data: bytes | Source,
    *,
    etag: str | None = None,
    absent: bool = False,
    block_digest: bytes | None = None,
) -> Parts:
    """Publish a file; with `absent`, only if it does not exist; with `etag`, only if it is that version.

    The server verifies the `block_digest` (see `holdfast.digests`) first, if there is one.
    """
    return Parts(
        path={"name": name},
        headers={
            "Content-Type": "application/octet-stream",
            "If-Match": _quoted(etag),
            "If-None-Match": "*" if absent else None,
            "Block-Digest": block_digest_field(block_digest),
        },
        content=data,
    )


@endpoint("DELETE", "/v1/files/{name}", type(None), read=read_nothing)
def delete_file(name: str, *, etag: str | None = None) -> Parts:
    """Delete a file; with `etag`, only if it is that version."""
    return Parts(path={"name": name}, headers={"If-Match": _quoted(etag)})


@endpoint("POST", "/v1/links", wire.FileLink, takes=wire.LinkRequest, repeatable=True)
def sign_link(name: str, seconds: float = 3600.0, *, archive: Literal["zip", "tar"] | None = None) -> Parts:
    """Sign a link by which anybody can read a file for so many seconds; with `archive` a folder as one archive."""
    return Parts(body=wire.LinkRequest(name, seconds, archive))


@endpoint("DELETE", "/v1/links", type(None), read=read_nothing)
def revoke_links() -> Parts:
    """Revoke all links that were signed so far."""
    return Parts()
