"""One pure function an endpoint: method, path, query, headers, body, and how to read the answer. No I/O.

`ENDPOINTS` is the table of all of them, made by the `@endpoint` lines themselves: the parity test reads it.
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
from holdfast._endpoints.call import Answer, Parts, Scalar, Source, endpoint, read_nothing
from holdfast.errors import ProtocolError

Encoding = Literal["text", "base64"]


# -- the seed: processes


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


@endpoint("GET", "/{id}/process/", wire.Process)
def seed_start(id: str, work_type: str | None = None, params: Mapping[str, Any] | None = None) -> Parts:
    """Start `id`, or answer with it as it stands. Parameters travel as text; what is not text, as JSON."""
    query: dict[str, Scalar | list[str]] = {"work_type": work_type}
    query |= {name: _as_text(value) for name, value in (params or {}).items() if value is not None}
    return Parts(path={"id": id}, query=query)


@endpoint("POST", "/{id}/process/pause/", wire.Process)
def seed_pause(id: str) -> Parts:
    """Stop at the next yield and keep the checkpoint."""
    return Parts(path={"id": id})


@endpoint("POST", "/{id}/process/resume/", wire.Process, takes=wire.ResumeRequest)
def seed_resume(id: str, work_types: list[str] | None = None) -> Parts:
    """Go on from the checkpoint; with `work_types`, only if the process's own is one of them."""
    return Parts(path={"id": id}, body=None if work_types is None else wire.ResumeRequest(work_types))


@endpoint("POST", "/{id}/process/cancel/", wire.Process)
def seed_cancel(id: str) -> Parts:
    """Stop at the next yield, then roll back."""
    return Parts(path={"id": id})


# -- the seed: files


@endpoint("GET", "/download/", wire.DownloadPiece)
def seed_download(
    file_name: str, bytes_read: int = 0, *, encoding: Encoding = "text", etag: str | None = None
) -> Parts:
    """The piece of the file that starts at `bytes_read`; refused when `etag` is given and is no longer the file's."""
    return Parts(
        query={"file_name": file_name, "bytes_read": bytes_read, "encoding": _unless_text(encoding), "etag": etag}
    )


@endpoint("GET", "/upload/", wire.UploadStatus)
def seed_upload_status(file_name: str) -> Parts:
    """Where an upload is to go on, or the whole size of a published file."""
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
    """Append `data` at `bytes_read`. Not repeatable: after a lost answer, ask for the status first.

    `data` is the bytes as they are; `encoding="base64"` encodes them on the way.
    """
    if encoding == "base64":
        if not isinstance(data, bytes):
            raise TypeError("base64 is for bytes that are there, not for a source")
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


def _read_text(answer: Answer) -> str:
    return answer.body.decode("utf-8", "replace")


@endpoint("GET", "/health/live", wire.Health)
def live() -> Parts:
    """Whether the server answers at all."""
    return Parts()


@endpoint("GET", "/health/ready", wire.Health)
def ready() -> Parts:
    """Whether it can work."""
    return Parts()


@endpoint("GET", "/metrics", str, read=_read_text)
def metrics() -> Parts:
    """Figures for Prometheus."""
    return Parts()


@endpoint("GET", "/openapi.json", dict)
def openapi() -> Parts:
    """The contract."""
    return Parts()


# -- processes


@endpoint("GET", "/v1/work-types", wire.WorkTypeList)
def list_work_types() -> Parts:
    """What this server can run, with the JSON Schema of the parameters."""
    return Parts()


@endpoint("POST", "/v1/processes", wire.Process, takes=wire.StartRequest, repeatable=True)
def start_process(request: wire.StartRequest) -> Parts:
    """Start a process. Repeatable because the SDK always sends an id: the same request again starts nothing twice."""
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
    """A page of processes, newest first. `label` is a list of NAME=VALUE, all of which must hold."""
    states = ",".join(state) if state else None
    return Parts(query={"state": states, "work_type": work_type, "label": label, "cursor": cursor, "limit": limit})


@endpoint("GET", "/v1/processes/{id}", wire.Process)
def get_process(id: str, *, wait: float = 0.0, after: int | None = None) -> Parts:
    """A process as it stands; with `wait`, as soon as its version is past `after`, at most `wait` seconds later."""
    return Parts(path={"id": id}, query={"wait": wait or None, "after": after}, wait=wait)


@endpoint("POST", "/v1/processes/{id}/pause", wire.Process)
def pause_process(id: str) -> Parts:
    """Stop at the next yield and keep the checkpoint."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/{id}/resume", wire.Process)
def resume_process(id: str) -> Parts:
    """Go on from the last checkpoint; a failed process tries again."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/{id}/cancel", wire.Process)
def cancel_process(id: str) -> Parts:
    """Stop at the next yield, then roll back."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/{id}/kill", wire.Process)
def kill_process(id: str) -> Parts:
    """End what does not yield; refused where the place can't (a thread)."""
    return Parts(path={"id": id})


@endpoint("POST", "/v1/processes/pause", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def pause_processes(which: wire.BulkRequest) -> Parts:
    """Pause all that match; what can't be paused is named in the answer."""
    return Parts(body=which)


@endpoint("POST", "/v1/processes/resume", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def resume_processes(which: wire.BulkRequest) -> Parts:
    """Resume all that match."""
    return Parts(body=which)


@endpoint("POST", "/v1/processes/cancel", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def cancel_processes(which: wire.BulkRequest) -> Parts:
    """Cancel all that match."""
    return Parts(body=which)


@endpoint("POST", "/v1/processes/kill", wire.BulkAnswer, takes=wire.BulkRequest, repeatable=True)
def kill_processes(which: wire.BulkRequest) -> Parts:
    """Kill all that match; what can't be killed (in a thread) is named in the answer."""
    return Parts(body=which)


@endpoint("DELETE", "/v1/processes/{id}", type(None), read=read_nothing)
def forget_process(id: str) -> Parts:
    """Forget a process that has ended."""
    return Parts(path={"id": id})


@endpoint("GET", "/v1/processes/{id}/log", wire.LogPage)
def process_log(id: str, *, after: int | None = None, limit: int | None = None, last: int | None = None) -> Parts:
    """What the work logged, in order; `last` is for the end of it, so many lines."""
    return Parts(path={"id": id}, query={"after": after, "limit": limit, "last": last})


@endpoint("GET", "/v1/processes/{id}/events", wire.Event)
def process_events(id: str, *, last_event_id: int | None = None) -> Parts:
    """Server-sent events of one process; `last_event_id` replays what came after it."""
    return Parts(path={"id": id}, headers=_event_headers(last_event_id))


@endpoint("GET", "/v1/events", wire.Event)
def all_events(
    *,
    work_type: str | None = None,
    label: list[str] | None = None,
    id: list[str] | None = None,
    last_event_id: int | None = None,
) -> Parts:
    """Server-sent events of everything, or of the processes that a filter means; each label as `KEY=VALUE`."""
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
    """What the headers say of a file: `size` in bytes, `etag` without quotes, `sha256` as hex where it is known."""

    size: int
    etag: str | None
    sha256: str | None
    content_type: str
    modified: datetime | None

    def info(self, name: str) -> wire.FileInfo:
        """The same as listings have it. Raises `ProtocolError` where a header is missing."""
        if self.etag is None or self.modified is None:
            raise ProtocolError(f"the answer lacks a strong ETag or a Last-Modified for {name!r}")
        return wire.FileInfo(name, self.size, self.modified, self.etag, self.content_type, self.sha256)


@endpoint("GET", "/v1/files", wire.FilePage)
def list_files(
    *,
    prefix: str | None = None,
    delimiter: Literal["/"] | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> Parts:
    """A page of published files, by name; with a delimiter of one level, and the folders there as `prefixes`."""
    return Parts(query={"prefix": prefix, "delimiter": delimiter, "cursor": cursor, "limit": limit})


def file_head(answer: Answer) -> FileHead:
    """The headers of a 200 or 206. Raises `ProtocolError` where they don't say how long the file is."""
    whole = answer.headers.get("content-length")
    if answer.status == 206:
        _, _, whole = content_range(answer)
    if whole is None or not whole.isdigit():
        raise ProtocolError("the answer does not say how long the file is")
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


def content_range(answer: Answer) -> tuple[int, int, str]:
    """First byte, byte after the last, and size of the whole as text ("*" when it is not told) of a 206."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("content-range", ""))
    if match is None:
        raise ProtocolError(f"a 206 without a usable Content-Range: {answer.headers.get('content-range')!r}")
    return int(match[1]), int(match[2]) + 1, match[3]


def _sha256(repr_digest: str) -> str | None:
    """The SHA-256 of a Repr-Digest field (RFC 9530, section 3) as hex."""
    match = re.search(r"(?:^|[\s,])sha-256=:([A-Za-z0-9+/]{43}=):", repr_digest)
    return base64.b64decode(match[1]).hex() if match else None


def _whole_body(answer: Answer) -> bytes:
    return answer.body


@endpoint("GET", "/v1/files/{name}", bytes, read=_whole_body)
def get_file(name: str, *, begin: int | None = None, end: int | None = None, etag: str | None = None) -> Parts:
    """A file, or its bytes from `begin` up to, not including, `end`; refused with 412 when it is no longer `etag`."""
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
    """What there is to know of a file."""
    return Parts(path={"name": name}, headers={"Want-Repr-Digest": "sha-256=1"})


@endpoint("PUT", "/v1/files/{name}", wire.FileInfo)
def put_file(name: str, data: bytes | Source, *, etag: str | None = None, absent: bool = False) -> Parts:
    """Publish a whole file; with `absent` only where there is none, with `etag` only over that version."""
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
    """Remove a published file; with `etag`, only while it is that version."""
    return Parts(path={"name": name}, headers={"If-Match": None if etag is None else f'"{etag}"'})


@endpoint("POST", "/v1/links", wire.FileLink, takes=wire.LinkRequest, repeatable=True)
def sign_link(name: str, seconds: float = 3600.0) -> Parts:
    """Sign a link by which anybody can read a file, for so many seconds."""
    return Parts(body=wire.LinkRequest(name, seconds))


@endpoint("DELETE", "/v1/links", type(None), read=read_nothing)
def revoke_links() -> Parts:
    """Revoke all links that were signed so far."""
    return Parts()


# -- uploads (tus 1.0.0)


@dataclass(frozen=True, slots=True)
class UploadHead:
    """Where an upload stands; `length` is None while it is deferred. `location` is set by creation."""

    offset: int
    length: int | None
    location: str = ""

    @property
    def id(self) -> str:
        """The last part of the location: what the other calls go by."""
        return self.location.rstrip("/").rpartition("/")[2]


TUS = {"Tus-Resumable": "1.0.0"}


def _upload_head(answer: Answer) -> UploadHead:
    length = answer.headers.get("upload-length")
    offset = answer.headers.get("upload-offset", "0" if answer.status == 201 else "")
    if not offset.isdigit():
        raise ProtocolError("an answer without Upload-Offset: is there a tus server at this URL?")
    known = int(length) if length is not None and length.isdigit() else None
    return UploadHead(int(offset), known, answer.headers.get("location", ""))


def tus_metadata(**values: str | None) -> str:
    """`Upload-Metadata` (tus 1.0.0, creation): keys with base64 of UTF-8."""
    pairs = (f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items() if value is not None)
    return ",".join(pairs)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What the server takes: `max_size` in bytes, None where there is no limit."""

    extensions: frozenset[str]
    max_size: int | None


def _upload_limits(answer: Answer) -> UploadLimits:
    extensions = answer.headers.get("tus-extension", "")
    largest = answer.headers.get("tus-max-size", "")
    return UploadLimits(frozenset(extensions.split(",")), int(largest) if largest.isdigit() else None)


@endpoint("OPTIONS", "/v1/uploads", UploadLimits, read=_upload_limits)
def upload_options() -> Parts:
    """What the server can do and takes."""
    return Parts()


@endpoint("POST", "/v1/uploads", UploadHead, read=_upload_head, repeatable=True)
def create_upload(
    *, length: int | None = None, metadata: str | None = None, partial: bool = False, parts: list[str] | None = None
) -> Parts:
    """Begin an upload of `length` bytes (None: not known yet); `parts` joins finished partial ones, by their locations.

    Repeatable: what a lost answer leaves behind has no bytes and expires.
    """
    concat = "partial" if partial else f"final;{' '.join(parts)}" if parts is not None else None
    headers = {**TUS, "Upload-Concat": concat, "Upload-Metadata": metadata}
    if parts is None:
        headers |= {"Upload-Length": str(length)} if length is not None else {"Upload-Defer-Length": "1"}
    return Parts(headers=headers)


@endpoint("HEAD", "/v1/uploads/{id}", UploadHead, read=_upload_head)
def upload_head(id: str) -> Parts:
    """Where an upload stands. The server tells an older request for it to let go."""
    return Parts(path={"id": id}, headers=TUS)


@endpoint("PATCH", "/v1/uploads/{id}", UploadHead, read=_upload_head)
def append(id: str, offset: int, data: bytes | Source, *, length: int | None = None) -> Parts:
    """Append `data` at `offset`; `length` tells how long the whole is, once, when that was deferred.

    Not repeatable: after a lost answer, ask where the upload stands.
    """
    headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return Parts(
        path={"id": id},
        headers=headers | ({} if length is None else {"Upload-Length": str(length)}),
        content=data,
    )


@endpoint("DELETE", "/v1/uploads/{id}", type(None), read=read_nothing)
def delete_upload(id: str) -> Parts:
    """Give up an upload; of a finished one only what is known of it goes, never the published file."""
    return Parts(path={"id": id}, headers=TUS)


@endpoint("GET", "/v1/uploads", wire.UploadPage)
def list_uploads(*, cursor: str | None = None, limit: int | None = None) -> Parts:
    """A page of uploads."""
    return Parts(query={"cursor": cursor, "limit": limit})


@endpoint("GET", "/v1/uploads/{id}", wire.UploadInfo)
def get_upload(id: str) -> Parts:
    """An upload as it stands."""
    return Parts(path={"id": id})
