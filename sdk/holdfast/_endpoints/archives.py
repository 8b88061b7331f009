"""Endpoints of archives: a folder as one zip or tar, and a tar whose members become files."""

from __future__ import annotations

from typing import Literal

from holdfast import wire
from holdfast._endpoints.call import CallResponse, Parts, Source, endpoint
from holdfast._endpoints.files import FileHead, file_head

ArchiveFormat = Literal["zip", "tar"]


def archive_name(folder: str, format: ArchiveFormat) -> str:
    """Return the name of the archive of a folder, such as `raw/2024.zip`; "" is the folder of all files."""
    return f"{folder.strip('/')}.{format}"


def _whole_body(answer: CallResponse) -> bytes:
    return answer.body


@endpoint("GET", "/v1/archives/{name}", bytes, read=_whole_body)
def get_archive(name: str, *, begin: int | None = None, end: int | None = None, etag: str | None = None) -> Parts:
    """Read an archive (see `archive_name`), or its bytes from `begin` up to, not including, `end`.

    412 if a file in it is not the version any more that it was in the archive of this `etag`.
    """
    return Parts(
        path={"name": name},
        headers={
            "Range": None if begin is None else f"bytes={begin}-{'' if end is None else end - 1}",
            "If-Match": None if etag is None else f'"{etag}"',
        },
    )


@endpoint("HEAD", "/v1/archives/{name}", FileHead, read=file_head)
def head_archive(name: str) -> Parts:
    """Read the headers of an archive: its size and its version."""
    return Parts(path={"name": name})


@endpoint("PUT", "/v1/archives/{name}", wire.ArchiveReceipt, repeatable=False)
def put_archive(name: str, data: bytes | Source, *, absent: bool = False, landed: bool | None = None) -> Parts:
    """Publish the regular files of a tar below the folder `name`; with `absent`, only those that do not exist.

    `landed`: describe the published files in the receipt, at most 10,000.
    """
    return Parts(
        path={"name": name.strip("/")},
        query={"landed": landed},
        headers={"Content-Type": "application/x-tar", "If-None-Match": "*" if absent else None},
        content=data,
    )
