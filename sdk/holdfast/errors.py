"""Everything that the SDK raises.

HoldfastError
├── TransportError              no answer came; the request may or may not have been carried out
│   ├── ConnectFailed           nothing was sent: no server there, or it does not let us in
│   ├── ConnectionBroken        the connection ended before the answer did
│   └── RequestTimeout          nothing came for as long as `timeout` allows   (also a TimeoutError)
├── ProtocolError               an answer that no Holdfast server gives
├── APIError                    the server refused: status, title, detail, type, members
│   ├── BadRequest              400   ├── NotFound          404   ├── TooLarge             413
│   ├── Unauthorized            401   ├── Gone              410   ├── RangeNotSatisfiable  416
│   ├── Forbidden               403   ├── PreconditionFailed 412  ├── TooMany              429
│   ├── Conflict                409   ├── ChecksumMismatch  460   ├── ServerError          5xx
│   │   ├── IllegalState              state, possible             │   ├── Unavailable      503
│   │   ├── IdTaken                                               │   └── NoSpace          507
│   │   ├── OffsetMismatch            offset: where to go on
│   │   ├── FileExists
│   │   └── FileChanged
├── ProcessError                a process ended otherwise than hoped: process
│   ├── ProcessFailed
│   └── ProcessCancelled
├── WaitTimeout                 what was waited for has not happened yet      (also a TimeoutError)
├── NotSendable                 code that can't be sent: what would do            (also a TypeError)
└── TransferError               a transfer that can't go on as it is
    ├── RemoteChanged           the file on the server is another one now
    ├── LocalChanged            the local file is another one now
    ├── LocalExists             another file is where the download should land
    ├── DangerousName           what came would be run, or would let somebody in, where it should land
    ├── DigestMismatch          the bytes arrived, but they are not the right ones
    ├── TransferBusy            the same transfer runs already
    └── TransferCancelled

Every one of them can be pickled. An `APIError` is chosen by the problem's `type` (RFC 9457) first, then by the status.
"""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from holdfast.wire import Process

__all__ = [
    "APIError",
    "BadRequest",
    "ChecksumMismatch",
    "Conflict",
    "ConnectFailed",
    "ConnectionBroken",
    "DangerousName",
    "DigestMismatch",
    "FileChanged",
    "FileExists",
    "Forbidden",
    "Gone",
    "HoldfastError",
    "IdTaken",
    "IllegalState",
    "LocalChanged",
    "LocalExists",
    "NoSpace",
    "NotFound",
    "NotSendable",
    "OffsetMismatch",
    "PreconditionFailed",
    "ProcessCancelled",
    "ProcessError",
    "ProcessFailed",
    "ProtocolError",
    "RangeNotSatisfiable",
    "RemoteChanged",
    "RequestTimeout",
    "ServerError",
    "TooLarge",
    "TooMany",
    "TransferBusy",
    "TransferCancelled",
    "TransferError",
    "TransportError",
    "Unauthorized",
    "Unavailable",
    "WaitTimeout",
    "from_answer",
]


class HoldfastError(Exception):
    """The root of the tree."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own way calls the class with `args`, which keyword arguments are not part of.
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message under the caller's own lines, without those inside of libraries."""
        from holdfast._environment.jupyter import own_lines

        return [*own_lines(self), f"{type(self).__name__}: {self}"]


def _rebuild(cls: type[HoldfastError], args: tuple[Any, ...], state: dict[str, Any]) -> HoldfastError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class TransportError(HoldfastError):
    """No answer came. Whether the server carried the request out is not known."""


class ConnectFailed(TransportError):
    """No connection could be made: nothing was sent, so anything may be tried again."""


class ConnectionBroken(TransportError):
    """The connection ended before the answer did."""


class RequestTimeout(TransportError, TimeoutError):
    """Nothing was sent or received for as long as the client's `timeout`."""


class ProtocolError(HoldfastError):
    """An answer that no Holdfast server gives: probably the URL is another server's."""


class APIError(HoldfastError):
    """The server refused, and says what was wrong and what would be right.

    `members` are the problem's extension members (`bytes_read`, `possible`, `error_id`, ...); `retry_after` is the
    server's hint in seconds.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        type: str = "about:blank",
        members: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        words = page_in_words(detail.encode()) if is_page("", detail.encode()) else detail
        super().__init__(f"{title}: {words} ({status})" if detail else f"{title} ({status})")
        self.status = status
        self.title = title
        self.detail = detail
        self.type = type
        self.members = dict(members or {})
        self.retry_after = retry_after


class BadRequest(APIError):
    """400: the request is not valid; `field`, where set, names the parameter."""

    @property
    def field(self) -> str | None:
        """The parameter that was wrong, where the server names one."""
        return self.members.get("field")


class Unauthorized(APIError):
    """401: a token is needed, or it is another one."""


class Forbidden(APIError):
    """403."""


class NotFound(APIError):
    """404: no such process, file or upload."""


class Conflict(APIError):
    """409: not possible with what is there."""


class IllegalState(Conflict):
    """A process in this `state` can't do that; `possible` lists the verbs that it can."""

    @property
    def state(self) -> str:
        """The state that the process is in."""
        return str(self.members.get("state", ""))

    @property
    def possible(self) -> list[str]:
        """The verbs that would be legal now."""
        return list(self.members.get("possible", []))


class IdTaken(Conflict):
    """The id belongs to a process that was started with another request."""


class OffsetMismatch(Conflict):
    """The upload stands elsewhere: go on at `offset`."""

    @property
    def offset(self) -> int:
        """Bytes that the server has."""
        for name in ("bytes_read", "expected-offset", "offset"):
            if name in self.members:
                return int(self.members[name])
        raise ProtocolError(f"the server says that the offset is wrong, but not what would be right: {self}")


class FileExists(Conflict):
    """A file of that name is published; `overwrite=True` would replace it."""


class FileChanged(Conflict):
    """The file is another one than the one that was begun."""


class Gone(APIError):
    """410: it was there once."""


class PreconditionFailed(APIError):
    """412: `If-Match` or the like did not hold."""


class TooLarge(APIError):
    """413."""


class RangeNotSatisfiable(APIError):
    """416: past the end of the file."""


class ChecksumMismatch(APIError):
    """460 (tus): what arrived is not what was sent; the server kept none of it."""


class TooMany(APIError):
    """429: wait, then try again."""


class ServerError(APIError):
    """5xx: a bug in the server (`error_id` finds it in its log), or a proxy on the way."""

    @property
    def error_id(self) -> str | None:
        """What to look for in the server's log."""
        return self.members.get("error_id")


class Unavailable(ServerError):
    """503: not now."""


class NoSpace(ServerError):
    """507: the server's disk is full."""


class ProcessError(HoldfastError):
    """A process that has ended without a result; `process` is how it stands."""

    def __init__(self, message: str, process: Process) -> None:
        super().__init__(message)
        self.process = process


class ProcessFailed(ProcessError):
    """The work raised, or could not go on; `process.error` says why."""


class ProcessCancelled(ProcessError):
    """It was cancelled and rolled back."""


class WaitTimeout(HoldfastError, TimeoutError):
    """It has not happened yet; nothing was stopped by this."""


class NotSendable(HoldfastError, TypeError):
    """A function or cell that can't be sent to a server; the message says what is wrong and what would do."""


class TransferError(HoldfastError):
    """A transfer that can't go on as it is."""


class RemoteChanged(TransferError):
    """The file on the server is another one than the one that was begun; two versions are never spliced."""


class LocalChanged(TransferError):
    """The local file is another one than the one that was begun."""


class LocalExists(TransferError):
    """Another file is where the download should land; `overwrite=True` replaces it."""


class DangerousName(TransferError):
    """A download that would land where programs run or trust what has its name; `allow_dangerous=True` permits it."""


class DigestMismatch(TransferError):
    """All bytes are there, but their SHA-256 is not the one that it should be."""


class TransferBusy(TransferError):
    """The same transfer is running already, here or in another process."""


class TransferCancelled(TransferError):
    """It was cancelled, and what was there of it is gone."""


_BY_TYPE: dict[str, type[APIError]] = {
    "illegal-state": IllegalState,
    "id-taken": IdTaken,
    "offset-mismatch": OffsetMismatch,
    "file-exists": FileExists,
    "file-changed": FileChanged,
    "no-space": NoSpace,
    # The IETF draft's own registry names (draft-ietf-httpbis-resumable-upload, section 9).
    "mismatching-upload-offset": OffsetMismatch,
}
_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    412: PreconditionFailed,
    413: TooLarge,
    416: RangeNotSatisfiable,
    429: TooMany,
    460: ChecksumMismatch,
    503: Unavailable,
    507: NoSpace,
}
_STANDARD_MEMBERS = frozenset({"type", "title", "status", "detail", "instance"})


def from_answer(status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    """The exception for an answer of 400 and above; `headers` have lower-case names.

    A body that is not problem details (a proxy's page) becomes the detail, cut to 200 characters; the message has the
    title of a page alone.
    """
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = {"detail": body[:200].decode("utf-8", "replace").strip()}
    type_ = str(problem.get("type") or "about:blank")
    cls = _BY_TYPE.get(type_.rpartition("/")[2].rpartition("#")[2]) or _BY_STATUS.get(status)
    return (cls or (ServerError if status >= 500 else APIError))(
        status,
        str(problem.get("title") or http.client.responses.get(status, "HTTP status")),
        str(problem.get("detail") or ""),
        type_,
        {name: value for name, value in problem.items() if name not in _STANDARD_MEMBERS},
        retry_after(headers.get("retry-after")),
    )


_TITLE = re.compile(rb"<title[^<>]{0,200}>([^<]{1,200})", re.IGNORECASE)


def is_page(content_type: str, body: bytes) -> bool:
    """Whether a body is for a browser: Holdfast answers programs with none."""
    return "html" in content_type.lower() or body[:200].lstrip()[:1] == b"<"


def page_in_words(body: bytes) -> str:
    """A page in one line, without its markup."""
    title = _TITLE.search(body[:4096])
    said = f" titled {' '.join(title[1].decode('utf-8', 'replace').split())!r}" if title and title[1].strip() else ""
    return f"what answered sent a web page{said}: a proxy, or another server than Holdfast"


def in_words(error: BaseException) -> str:
    """The message for a person: what the server says of itself, where it does."""
    if isinstance(error, APIError) and error.detail and not is_page("", error.detail.encode()):
        return error.detail
    if isinstance(error, OSError) and error.strerror:  # without Python's [Errno 2]
        named = error.filename if isinstance(error.filename, (str, bytes)) else ""
        return f"{os.fsdecode(named)}: {error.strerror}" if named else error.strerror
    return str(error) or type(error).__name__


def retry_after(text: str | None) -> float | None:
    """`Retry-After` in seconds from now (RFC 9110, section 10.2.3); None when it is missing or says nothing."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
