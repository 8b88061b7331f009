"""Endpoints of the seed: processes, and files in pieces."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from holdfast import wire
from holdfast._endpoints.call import Parts, Scalar, Source, endpoint

Encoding = Literal["text", "base64"]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


@endpoint("GET", "/{id}/process/", wire.ProcessInfo)
def seed_start(id: str, work_type: str | None = None, params: Mapping[str, Any] | None = None) -> Parts:
    """Start the process `id`, or return it if it exists. Parameters are sent as text, other types as JSON."""
    query: dict[str, Scalar | list[str]] = {"work_type": work_type}
    query |= {name: _as_text(value) for name, value in (params or {}).items() if value is not None}
    return Parts(path={"id": id}, query=query)


@endpoint("POST", "/{id}/process/pause/", wire.ProcessInfo)
def seed_pause(id: str) -> Parts:
    """Stop the process at its next yield and keep the checkpoint."""
    return Parts(path={"id": id})


@endpoint("POST", "/{id}/process/resume/", wire.ProcessInfo, takes=wire.ResumeRequest)
def seed_resume(id: str, work_types: list[str] | None = None) -> Parts:
    """Continue from the checkpoint; with `work_types`, only if the work type of the process is one of them."""
    return Parts(path={"id": id}, body=None if work_types is None else wire.ResumeRequest(work_types))


@endpoint("POST", "/{id}/process/cancel/", wire.ProcessInfo)
def seed_cancel(id: str) -> Parts:
    """Stop the process at its next yield, then roll it back."""
    return Parts(path={"id": id})


# -- files


@endpoint("GET", "/download/", wire.DownloadPiece)
def seed_download(
    file_name: str, bytes_read: int = 0, *, encoding: Encoding = "text", etag: str | None = None
) -> Parts:
    """Read the piece of a file at `bytes_read`. Refused if the file no longer has the `etag`."""
    return Parts(
        query={"file_name": file_name, "bytes_read": bytes_read, "encoding": _unless_text(encoding), "etag": etag}
    )


@endpoint("GET", "/upload/", wire.UploadStatus)
def seed_upload_status(file_name: str) -> Parts:
    """Read the offset at which to continue an upload, or the size of a published file."""
    return Parts(query={"file_name": file_name})


@endpoint("POST", "/upload/", wire.UploadStatus)
def seed_upload(
    file_name: str,
    bytes_read: int,
    data: bytes | Source,
    *,
    encoding: Encoding = "text",
    file_size: int | None = None,
    overwrite: bool = False,
    is_complete: bool | None = None,
) -> Parts:
    """Append `data` at `bytes_read`. Not repeatable: if the response is lost, read the status first.

    `data` is not encoded; `encoding="base64"` encodes it.
    """
    if encoding == "base64":
        if not isinstance(data, bytes):
            raise TypeError("base64 can encode bytes, not a source. Read the source first")
        data = base64.b64encode(data)
    query: dict[str, Scalar | list[str]] = {
        "file_name": file_name,
        "bytes_read": bytes_read,
        "encoding": _unless_text(encoding),
        "file_size": file_size,
        "overwrite": True if overwrite else None,
        "is_complete": is_complete,
    }
    return Parts(query=query, content=data, headers={"Content-Type": "application/octet-stream"})


@endpoint("POST", "/upload/cancel/", wire.UploadCancelled)
def seed_upload_cancel(file_name: str) -> Parts:
    """Delete the intermediate file of an upload, never a published one."""
    return Parts(query={"file_name": file_name})


def _unless_text(encoding: Encoding) -> str | None:
    return None if encoding == "text" else encoding
