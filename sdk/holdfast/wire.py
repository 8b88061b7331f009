"""Structs of all JSON bodies that the server and the client exchange.

The server imports them from here, so both sides are the same. Times are UTC, RFC 3339. Sizes, offsets and `bytes_read`
are bytes. A field that is not known is left out or null. They stay in one module, though it is long: they are one
vocabulary, pickled and documented under these names.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "ENDED",
    "LIVE",
    "PROCESS_ID",
    "ArchiveReceipt",
    "BlockDigests",
    "BlockUpload",
    "BlockUploadEnd",
    "BlockUploadRequest",
    "BulkAnswer",
    "BulkRequest",
    "ContentHint",
    "DownloadPiece",
    "ErrorInfo",
    "Event",
    "FileInfo",
    "FileLink",
    "FileName",
    "FilePage",
    "Folder",
    "Health",
    "Identity",
    "Index",
    "LinkRequest",
    "LogLine",
    "LogPage",
    "Number",
    "Place",
    "Problem",
    "Process",
    "ProcessId",
    "ProcessInfo",
    "ProcessPage",
    "ProgressInfo",
    "ResumeRequest",
    "StartRequest",
    "State",
    "UploadCancelled",
    "UploadInfo",
    "UploadPage",
    "UploadStatus",
    "WorkTypeInfo",
    "WorkTypeList",
]

Place = Literal["loop", "thread", "process"]

PROCESS_ID = r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}$"
ProcessId = Annotated[
    str,
    Meta(pattern=PROCESS_ID, description="1 to 128 of letters, digits, `.`, `_` and `-`, but neither `.` nor `..`."),
]

_NEVER = r"/\\\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
_SEGMENT = rf"(?:[^.{_NEVER}][^{_NEVER}]{{0,254}}|\.[^.{_NEVER}][^{_NEVER}]{{0,253}}|\.\.[^{_NEVER}]{{1,253}})"
FileName = Annotated[
    str,
    Meta(
        description="A path under the files directory, as in `data/flights.csv`, without `.` and `..` segments and "
        "invisible characters, and not under `.holdfast`, which is the server's own.",
        extra_json_schema={"pattern": f"^{_SEGMENT}(/{_SEGMENT})*$", "maxLength": 1024},
    ),
]
"""The pattern is documentation; the server checks names and says what is wrong with one."""

Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""A version, the number of an event or of a log line."""


class State(StrEnum):
    """State of a process. All transitions are in `tornado_app.processes.states`."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    SUCCEEDED = "succeeded"


ENDED = frozenset({State.CANCELLED, State.FAILED, State.SUCCEEDED})
LIVE = frozenset(State) - ENDED


Verb = Literal["pause", "resume", "cancel", "kill"]
"""Verb that a person may send to a process: `POST /v1/processes/{id}/{verb}`."""


class ProgressInfo(msgspec.Struct, frozen=True):
    """Progress of the work. `done` and `total` are in the work type's own unit (bytes, rows, files)."""

    done: float | None = None
    total: float | None = None
    note: str = ""


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Error of a failed process. `rollback` is set if its rollback has failed, too."""

    type: str
    message: str
    rollback: str | None = None


class ProcessInfo(msgspec.Struct, frozen=True):
    """One run of a work type, as it stands.

    `version` changes whenever anything of the process does; give it back as `after` to wait for the next change.
    `stalled` is true when a running process has not yielded for longer than the server's `--stall-after`.
    `possible` lists the verbs that are legal in this state; it is empty when there is nothing to ask for.
    """

    id: str
    work_type: str
    params: dict[str, Any]
    state: State
    progress: ProgressInfo
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    result: Any = None
    error: ErrorInfo | None = None
    attempt: int = 0
    version: int = 0
    place: Place = "thread"
    priority: int = 0
    labels: dict[str, str] = {}
    retries: int = 0
    retry_at: datetime | None = None
    deadline: datetime | None = None
    stalled: bool = False
    possible: list[Verb] = []

    @property
    def has_ended(self) -> bool:
        """True for cancelled, failed and succeeded."""
        return self.state in ENDED


Process = ProcessInfo
"""Earlier name of `ProcessInfo`, for programs that import it. OpenAPI has the schema under this name."""


class StartRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`POST /v1/processes`. Without `id` the server picks one; `deadline_s` is seconds from the start request.

    `code` is a base64 cloudpickle of a generator function, in place of `work_type` (server: `--allow-code`);
    `python` is then the sender's version, "3.11".
    """

    work_type: str = ""
    params: dict[str, Any] = {}
    id: str | None = None
    place: Place | None = None
    priority: int = 0
    labels: dict[str, str] = {}
    retries: int | None = None
    deadline_s: float | None = None
    code: str | None = None
    python: str | None = None


class ResumeRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Body of `POST /{id}/process/resume/`: resume only if the process's work type is in the list."""

    work_types: list[str] | None = None


class ProcessPage(msgspec.Struct, frozen=True):
    """A page of processes, newest first; `next` is the cursor of the page after it, null on the last."""

    items: list[ProcessInfo]
    next: str | None = None


class BulkRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Filters of a bulk verb; processes must match all of them. A request without any filter is refused."""

    ids: list[str] | None = None
    work_type: str | None = None
    state: list[State] | None = None
    label: dict[str, str] | None = None


class BulkAnswer(msgspec.Struct, frozen=True):
    """Result of a bulk verb: ids that were `changed`, and ids that were `refused`, with the reason."""

    changed: list[str]
    refused: dict[str, str]


class LogLine(msgspec.Struct, frozen=True):
    """One line that the work logged."""

    seq: int
    time: datetime
    message: str
    attempt: int = 0


class LogPage(msgspec.Struct, frozen=True):
    """Log lines in order; give the last `seq` as `after` for what follows."""

    items: list[LogLine]
    next: int | None = None


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One server-sent event. `seq` is set (and is the SSE id) on what is durable: state changes, and `deleted`, when a
    process is forgotten; its `data` tells the `work_type` and `labels` that it had."""

    type: Literal["state", "deleted", "progress", "log", "file", "upload", "dropped"]
    id: str
    time: datetime
    seq: int | None = None
    state: State | None = None
    before: State | None = None
    attempt: int | None = None
    version: int | None = None
    progress: ProgressInfo | None = None
    error: ErrorInfo | None = None
    message: str | None = None
    data: dict[str, Any] | None = None


class WorkTypeInfo(msgspec.Struct, frozen=True):
    """A work type that this server can run; `params_schema` is JSON Schema 2020-12."""

    name: str
    doc: str
    params_schema: dict[str, Any]
    place: Place
    retries: int = 0
    limit: int | None = None
    can_roll_back: bool = False


class WorkTypeList(msgspec.Struct, frozen=True):
    """Every work type of the server; `default` is what `GET /{id}/process/` starts when none is named."""

    items: list[WorkTypeInfo]
    default: str | None = None


class DownloadPiece(msgspec.Struct, frozen=True):
    """A piece of a file from the seed's download: text, or base64 if requested. Continue at `bytes_read`."""

    file_content: str
    bytes_read: int
    is_complete: bool
    percentage_done: float
    file_size: int
    etag: str


class UploadStatus(msgspec.Struct, frozen=True):
    """Status of a seed upload: continue at `bytes_read`. `sha256` (hex) is set once the file is published."""

    bytes_read: int
    is_complete: bool
    file_size: int | None = None
    sha256: str | None = None


class UploadCancelled(msgspec.Struct, frozen=True):
    """The intermediate file of this upload is gone."""

    file_name: str
    cancelled: bool = True


class FileInfo(msgspec.Struct, frozen=True):
    """A published file. `etag` is the strong entity tag without quotes.

    `sha256` and `block_digest` (see `holdfast.digests`) are hex, null when not known.
    """

    name: str
    size: int
    modified: datetime
    etag: str
    content_type: str
    sha256: str | None = None
    block_digest: str | None = None


class Folder(msgspec.Struct, frozen=True):
    """A folder in a listing by level. `name` ends with a slash; there is at least one file below it."""

    name: str


class FilePage(msgspec.Struct, frozen=True):
    """A page of files by name; `next` is the cursor of the page after it, null on the last.

    With a delimiter `prefixes` are the folders of the page, each as the start that its names have in common.
    """

    items: list[FileInfo]
    next: str | None = None
    prefixes: list[str] = []


class ArchiveReceipt(msgspec.Struct, frozen=True):
    """The files that a tar archive has led to. `files` and `bytes` count those that were published.

    `refused` says by name why a member was not: of `refused_count` in all, those that came first. `landed` are the
    published files, if they were asked for, and not more than 10,000 of them.
    """

    folder: str
    files: int
    bytes: int
    refused_count: int = 0
    refused: dict[str, str] = {}
    landed: list[FileInfo] = []


class UploadInfo(msgspec.Struct, frozen=True):
    """An upload in the making (or finished and kept until it expires). `length` is null while it is not known."""

    id: str
    name: str
    offset: int
    length: int | None
    created: datetime
    expires: datetime | None
    complete: bool


class UploadPage(msgspec.Struct, frozen=True):
    """A page of uploads; `next` is the cursor of the page after it, null on the last."""

    items: list[UploadInfo]
    next: str | None = None


class BlockDigests(msgspec.Struct, frozen=True):
    """Digests of the blocks of a file or of an upload, as `holdfast.digests` defines them.

    `blocks` has 32 bytes for each block, in order, in base64; zeros stand for a block that is not there or not known.
    `digest` is that of the file in hex, null while a block is missing. `etag` is null for an upload.
    """

    name: str
    size: int
    etag: str | None
    digest: str | None
    blocks: bytes
    block_size: int = 1 << 20
    algorithm: Literal["blake3-1m"] = "blake3-1m"


class BlockUploadRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Request to create an upload whose blocks come in any order, by several connections.

    `etag`: publish only in place of this version. `base`: take the blocks that have the right digest from this version
    of the file. `blocks` are the digests of all blocks, if they are known already, in base64: each block is then
    verified as it arrives, and those that the server has are not asked for.
    """

    name: FileName
    size: Annotated[int, Meta(ge=0)]
    overwrite: bool = False
    etag: str | None = None
    base: str | None = None
    blocks: bytes | None = None


class BlockUpload(msgspec.Struct, frozen=True):
    """An upload by blocks. `missing` are the blocks to send, as ranges: the first one, and the one after the last.

    `proof` are blocks that the server has already, of a file that may be another one: the sender has to prove that it
    has their content, too, by the `proof` of `BlockUploadEnd`, for which `nonce` is the key (32 bytes in hex). `file`
    is the published file, once the upload is complete.
    """

    id: str
    name: str
    size: int
    missing: list[tuple[int, int]]
    proof: list[int]
    expires: datetime
    nonce: str | None = None
    file: FileInfo | None = None


class BlockUploadEnd(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """End of an upload by blocks: the digest of the whole file, in hex, which is verified before it is published.

    `proof` is the answer to `BlockUpload.proof`, in hex: see `holdfast.digests.of_proof`.
    """

    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    proof: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")] | None = None


class ContentHint(msgspec.Struct, frozen=True):
    """Answer about known content: `maybe` some file that the caller may read has this size and first block.

    A sender for which it is true computes the digests of all blocks before it creates an upload by blocks with them.
    """

    known: bool


class LinkRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Request to sign a link to a file, valid for so many seconds; with `archive` to a folder as one such archive."""

    name: FileName
    seconds: float = 3600.0
    archive: Literal["zip", "tar"] | None = None


class FileLink(msgspec.Struct, frozen=True):
    """A link by which anybody can read a file without the token until `expires`, in seconds since the epoch.

    `url` is a path and a query, to be put behind the server's origin: it has the base URL, and the prefix of a proxy.
    """

    name: str
    url: str
    expires: int

    def __repr__(self) -> str:
        return f"FileLink({self.name!r})"  # without the URL: whoever has it may read the file


class Index(msgspec.Struct, frozen=True):
    """Links at `/`: where things are, as references relative to it."""

    name: str
    about: str
    links: dict[str, str]


class Health(msgspec.Struct, frozen=True):
    """Answer of `/health`, `/health/live` and `/health/ready` when all is well."""

    status: Literal["live", "ready"]


class Identity(msgspec.Struct, frozen=True):
    """Proof of which server answers: `proof` is a signature of the caller's nonce, `instance` the id of this run."""

    instance: str
    proof: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem details. Extension members are read from the same object by `holdfast.errors`."""

    title: str
    status: int
    type: str = "about:blank"
    detail: str = ""
    instance: str = ""
