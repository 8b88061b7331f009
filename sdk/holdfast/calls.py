"""One pure function for each endpoint: method, path, query, headers, body, and how to read the response. No I/O.

The decorator `@endpoint` adds each of them to the table `ENDPOINTS`, which the parity test reads.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import msgspec

from holdfast import wire
from holdfast._endpoints.call import CallResponse, Parts, Scalar, Source, endpoint, read_nothing
from holdfast.errors import ProtocolError

Encoding = Literal["text", "base64"]


# -- the seed: processes


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


# -- the seed: files


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


# -- the server


def _read_text(answer: CallResponse) -> str:
    return answer.body.decode("utf-8", "replace")


@endpoint("GET", "/health/live", wire.Health)
def live() -> Parts:
    """Check that the server answers."""
    return Parts()


@endpoint("GET", "/health/ready", wire.Health)
def ready() -> Parts:
    """Check that the server can work."""
    return Parts()


@endpoint("GET", "/metrics", str, read=_read_text)
def metrics() -> Parts:
    """Read the metrics, for Prometheus."""
    return Parts()


@endpoint("GET", "/openapi.json", dict)
def openapi() -> Parts:
    """Read the OpenAPI document."""
    return Parts()


# -- processes


@endpoint("GET", "/v1/work-types", wire.WorkTypeList)
def list_work_types() -> Parts:
    """List the work types, with the JSON Schema of their parameters."""
    return Parts()


@endpoint("POST", "/v1/processes", wire.ProcessInfo, takes=wire.StartRequest, repeatable=True)
def start_process(request: wire.StartRequest) -> Parts:
    """Start a process. Repeatable, because the SDK always sends an id: the same request starts no second process."""
    return Parts(body=request)


@endpoint("GET", "/v1/processes", wire.ProcessPage)
def list_processes(
    *,
    state: list[str] | None = None,
    work_type: str | None = None,
    label: list[str] | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> Parts:
    """List a page of processes, newest first. `label` is a list of NAME=VALUE, all of which must match."""
    states = ",".join(state) if state else None
    return Parts(query={"state": states, "work_type": work_type, "label": label, "cursor": cursor, "limit": limit})


@endpoint("GET", "/v1/processes/{id}", wire.ProcessInfo)
def get_process(id: str, *, wait: float = 0.0, after: int | None = None) -> Parts:
    """Read a process; with `wait`, as soon as its version is greater than `after`, at most `wait` seconds later."""
    return Parts(path={"id": id}, query={"wait": wait or None, "after": after}, wait=wait)


@endpoint("POST", "/v1/processes/{id}/pause", wire.ProcessInfo)
def pause_process(id: str) -> Parts:
    """Stop the process at its next yield and keep the checkpoint."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/{id}/resume", wire.ProcessInfo)
def resume_process(id: str) -> Parts:
    """Continue from the last checkpoint; a failed process is tried again."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/{id}/cancel", wire.ProcessInfo)
def cancel_process(id: str) -> Parts:
    """Stop the process at its next yield, then roll it back."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/{id}/kill", wire.ProcessInfo)
def kill_process(id: str) -> Parts:
    """End a process that does not yield. Refused if its place can't be killed, as a thread can't."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/pause", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def pause_processes(which: wire.BulkRequest) -> Parts:
    """Pause all processes that match. The response names those that can't be paused."""
    return Parts(body=which)


@endpoint("POST", "/v1/processes/resume", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def resume_processes(which: wire.BulkRequest) -> Parts:
    """Resume all processes that match."""
    return Parts(body=which)


@endpoint("POST", "/v1/processes/cancel", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def cancel_processes(which: wire.BulkRequest) -> Parts:
    """Cancel all processes that match."""
    return Parts(body=which)


@endpoint("POST", "/v1/processes/kill", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def kill_processes(which: wire.BulkRequest) -> Parts:
    """Kill all processes that match. The response names those that can't be killed (in a thread)."""
    return Parts(body=which)


@endpoint("DELETE", "/v1/processes/{id}", type(None), read=read_nothing)
def forget_process(id: str) -> Parts:
    """Delete a process that has ended."""
    return Parts(path={"id": id})


@endpoint("GET", "/v1/processes/{id}/log", wire.LogPage)
def process_log(id: str, *, after: int | None = None, limit: int | None = None, last: int | None = None) -> Parts:
    """Read log lines of a process, in order; `last` selects that many lines at the end."""
    return Parts(path={"id": id}, query={"after": after, "limit": limit, "last": last})


@endpoint("GET", "/v1/processes/{id}/events", wire.Event)
def process_events(id: str, *, last_event_id: int | None = None) -> Parts:
    """Stream the events of one process, beginning after `last_event_id`."""
    return Parts(path={"id": id}, headers=_event_headers(last_event_id))


@endpoint("GET", "/v1/events", wire.Event)
def all_events(
    *,
    work_type: str | None = None,
    label: list[str] | None = None,
    id: list[str] | None = None,
    last_event_id: int | None = None,
) -> Parts:
    """Stream all events, or those of the processes that match a filter; each label as `KEY=VALUE`."""
    return Parts(query={"work_type": work_type, "label": label, "id": id}, headers=_event_headers(last_event_id))


def _event_headers(last_event_id: int | None) -> dict[str, str | None]:
    return {
        "Accept": "text/event-stream",
        "Cache-Control": "no-cache",
        "Last-Event-ID": None if last_event_id is None else str(last_event_id),
    }


# -- files


@dataclass(frozen=True, slots=True)
class FileHead:
    """Headers of a file: `size` in bytes, `etag` without quotes, `sha256` as hex, or None if it is not known."""

    size: int
    etag: str | None
    sha256: str | None
    content_type: str
    modified: datetime | None

    def info(self, name: str) -> wire.FileInfo:
        """Return the same as listings do. Raises `ProtocolError` if a header is missing."""
        if self.etag is None or self.modified is None:
            raise ProtocolError(f"the response lacks a strong ETag or a Last-Modified for {name!r}")
        return wire.FileInfo(name, self.size, self.modified, self.etag, self.content_type, self.sha256)


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
    etag = answer.headers.get("etag")
    strong = etag is not None and len(etag) > 1 and etag[0] == etag[-1] == '"'
    return FileHead(
        int(whole),
        etag[1:-1] if etag is not None and strong else None,
        _sha256(answer.headers.get("repr-digest", "")),
        answer.headers.get("content-type", "application/octet-stream"),
        _date(answer.headers.get("last-modified")),
    )


def _date(text: str | None) -> datetime | None:
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


def _sha256(repr_digest: str) -> str | None:
    """Return the SHA-256 of a Repr-Digest field (RFC 9530, section 3) as hex."""
    match = re.search(r"(?:^|[\s,])sha-256=:([A-Za-z0-9+/]{43}=):", repr_digest)
    return base64.b64decode(match[1]).hex() if match else None


def _whole_body(answer: CallResponse) -> bytes:
    return answer.body


@endpoint("GET", "/v1/files/{name}", bytes, read=_whole_body)
def get_file(name: str, *, begin: int | None = None, end: int | None = None, etag: str | None = None) -> Parts:
    """Read a file, or its bytes from `begin` up to, not including, `end`. 412 if it no longer has the `etag`."""
    return Parts(
        path={"name": name},
        headers={
            "Range": None if begin is None else f"bytes={begin}-{'' if end is None else end - 1}",
            "If-Match": None if etag is None else f'"{etag}"',
            "Want-Repr-Digest": "sha-256=1",
        },
    )


@endpoint("HEAD", "/v1/files/{name}", FileHead, read=file_head)
def head_file(name: str) -> Parts:
    """Read the headers of a file."""
    return Parts(path={"name": name}, headers={"Want-Repr-Digest": "sha-256=1"})


@endpoint("PUT", "/v1/files/{name}", wire.FileInfo)
def put_file(name: str, data: bytes | Source, *, etag: str | None = None, absent: bool = False) -> Parts:
    """Publish a file; with `absent`, only if it does not exist; with `etag`, only if it is that version."""
    return Parts(
        path={"name": name},
        headers={
            "Content-Type": "application/octet-stream",
            "If-Match": None if etag is None else f'"{etag}"',
            "If-None-Match": "*" if absent else None,
        },
        content=data,
    )


@endpoint("DELETE", "/v1/files/{name}", type(None), read=read_nothing)
def delete_file(name: str, *, etag: str | None = None) -> Parts:
    """Delete a file; with `etag`, only if it is that version."""
    return Parts(path={"name": name}, headers={"If-Match": None if etag is None else f'"{etag}"'})


@endpoint("POST", "/v1/links", wire.FileLink, takes=wire.LinkRequest, repeatable=True)
def sign_link(name: str, seconds: float = 3600.0) -> Parts:
    """Sign a link by which anybody can read a file for so many seconds."""
    return Parts(body=wire.LinkRequest(name, seconds))


@endpoint("DELETE", "/v1/links", type(None), read=read_nothing)
def revoke_links() -> Parts:
    """Revoke all links that were signed so far."""
    return Parts()


# -- uploads (tus 1.0.0)


@dataclass(frozen=True, slots=True)
class UploadHead:
    """Headers of an upload. `length` is None while it is deferred; `location` is set by its creation."""

    offset: int
    length: int | None
    location: str = ""

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
    return UploadHead(int(offset), known, answer.headers.get("location", ""))


def tus_metadata(**values: str | None) -> str:
    """Return `Upload-Metadata` (tus 1.0.0, creation): keys with base64 of UTF-8."""
    pairs = (f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items() if value is not None)
    return ",".join(pairs)


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """Options of uploads: tus extensions, and `max_size` in bytes, or None for no limit."""

    extensions: frozenset[str]
    max_size: int | None


UploadLimits = UploadOptions
"""Older name of `UploadOptions`."""


def _upload_options(answer: CallResponse) -> UploadOptions:
    extensions = answer.headers.get("tus-extension", "")
    largest = answer.headers.get("tus-max-size", "")
    return UploadOptions(frozenset(extensions.split(",")), int(largest) if largest.isdigit() else None)


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
def append(id: str, offset: int, data: bytes | Source, *, length: int | None = None) -> Parts:
    """Append `data` at `offset`; `length` sets the total length, once, if that was deferred.

    Not repeatable: if the response is lost, read the offset first.
    """
    headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return Parts(
        path={"id": id},
        headers=headers | ({} if length is None else {"Upload-Length": str(length)}),
        content=data,
    )


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
