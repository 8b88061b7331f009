"""Everything that the SDK raises.

HoldfastError
├── TransportError              no response; the server may or may not have carried out the request
│   ├── ConnectFailed           no connection, so nothing was sent
│   ├── ConnectionBroken        the connection ended before the response was complete
│   └── RequestTimeout          no byte came within `timeout`                  (also a TimeoutError)
├── ProtocolError               a response that no Holdfast server sends
├── APIError                    the server refused: status, title, detail, type, members
│   ├── BadRequest              400   ├── NotFound          404   ├── TooLarge             413
│   ├── Unauthorized            401   ├── Gone              410   ├── RangeNotSatisfiable  416
│   ├── Forbidden               403   ├── PreconditionFailed 412  ├── TooMany              429
│   ├── Conflict                409   ├── ChecksumMismatch  460   ├── ServerError          5xx
│   │   ├── IllegalState              state, possible             │   ├── Unavailable      503
│   │   ├── IdTaken                                               │   └── NoSpace          507
│   │   ├── OffsetMismatch            offset: where to continue
│   │   ├── FileExists
│   │   └── FileChanged
├── ProcessError                a process ended without a result: process
│   ├── ProcessFailed
│   └── ProcessCancelled
├── WaitTimeout                 the awaited state was not reached in time         (also a TimeoutError)
├── NotSendable                 a function that can't be sent to a server         (also a TypeError)
└── TransferError               a transfer that can't continue
    ├── RemoteChanged           the file on the server has changed
    ├── LocalChanged            the local file has changed
    ├── LocalExists             the target of a download exists
    ├── DangerousName           the target of a download is a file that programs run or trust
    ├── DigestMismatch          the bytes do not match their digest
    ├── TransferBusy            the same transfer is running already
    └── TransferCancelled

All of them can be pickled. The class of an `APIError` is chosen by the `type` of the problem (RFC 9457), else by the
status. They stay in one module, though it is long: a person who has caught one reads the tree, then its class.
"""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from holdfast.wire import ProcessInfo

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
    """Base of all errors of the SDK."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args`, which lack the keyword arguments.
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def _render_traceback_(self) -> list[str]:
        """Return the traceback for IPython: the user's own lines, without those of libraries, and the message."""
        from holdfast._environment.jupyter import own_lines

        return [*own_lines(self), f"{type(self).__name__}: {self}"]


def _rebuild(cls: type[HoldfastError], args: tuple[Any, ...], state: dict[str, Any]) -> HoldfastError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class TransportError(HoldfastError):
    """No response. It is not known whether the server carried out the request."""


class ConnectFailed(TransportError):
    """No connection could be made. Nothing was sent, so any request can be repeated."""


class ConnectionBroken(TransportError):
    """The connection ended before the response was complete."""


class RequestTimeout(TransportError, TimeoutError):
    """No byte was sent or received within the client's `timeout`."""


class ProtocolError(HoldfastError):
    """A response that no Holdfast server sends. The URL is probably that of another server."""


class APIError(HoldfastError):
    """The server refused the request. `detail` says what was wrong and what to do.

    `members` are the extension members of the problem (`bytes_read`, `possible`, `error_id`, ...). `retry_after` is
    the server's hint in seconds, or None.
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
    """400: the request is not valid. `field` names the parameter, if the server names one."""

    @property
    def field(self) -> str | None:
        """Name of the invalid parameter, or None."""
        return self.members.get("field")


class Unauthorized(APIError):
    """401: the token is missing or wrong."""


class Forbidden(APIError):
    """403: this is not allowed."""


class NotFound(APIError):
    """404: there is no such process, file or upload."""


class Conflict(APIError):
    """409: not possible in the current state."""


class IllegalState(Conflict):
    """The verb is not legal in the `state` of the process. `possible` lists those that are."""

    @property
    def state(self) -> str:
        """State of the process."""
        return str(self.members.get("state", ""))

    @property
    def possible(self) -> list[str]:
        """Verbs that are legal in this state."""
        return list(self.members.get("possible", []))


class IdTaken(Conflict):
    """A process with this id was started with another request."""


class OffsetMismatch(Conflict):
    """The offset is not that of the upload. Continue at `offset`."""

    @property
    def offset(self) -> int:
        """Number of bytes that the server has."""
        for name in ("bytes_read", "expected-offset", "offset"):
            if name in self.members:
                return int(self.members[name])
        raise ProtocolError(f"the server refuses the offset, but does not tell the right one: {self}")


class FileExists(Conflict):
    """A file of that name exists. Pass `overwrite=True` to replace it."""


class FileChanged(Conflict):
    """The file has changed since the transfer began."""


class Gone(APIError):
    """410: it no longer exists."""


class PreconditionFailed(APIError):
    """412: a precondition such as `If-Match` failed."""


class TooLarge(APIError):
    """413: the request or the file is too large."""


class RangeNotSatisfiable(APIError):
    """416: the range is after the end of the file."""


class ChecksumMismatch(APIError):
    """460 (tus): the bytes do not match their checksum. The server has discarded them."""


class TooMany(APIError):
    """429: too many requests. Wait, then try again."""


class ServerError(APIError):
    """5xx: a bug in the server (its log has the `error_id`), or an error of a proxy."""

    @property
    def error_id(self) -> str | None:
        """Id of the error in the server's log, or None."""
        return self.members.get("error_id")


class Unavailable(ServerError):
    """503: the server can't work now. Try again later."""


class NoSpace(ServerError):
    """507: the server has no space left."""


class ProcessError(HoldfastError):
    """A process has ended without a result; `process` is its last state."""

    def __init__(self, message: str, process: ProcessInfo) -> None:
        super().__init__(message)
        self.process = process


class ProcessFailed(ProcessError):
    """The work has failed; `process.error` says why."""


class ProcessCancelled(ProcessError):
    """The process was cancelled and rolled back."""


class WaitTimeout(HoldfastError, TimeoutError):
    """The awaited state was not reached in time. The process or transfer continues."""


class NotSendable(HoldfastError, TypeError):
    """A function or cell can't be sent to a server. The message says why, and what to change."""


class TransferError(HoldfastError):
    """A transfer can't continue."""


class RemoteChanged(TransferError):
    """The file on the server has changed since the transfer began. Two versions are never mixed."""


class LocalChanged(TransferError):
    """The local file has changed since the transfer began."""


class LocalExists(TransferError):
    """The target of a download exists. Pass `overwrite=True` to replace it."""


class DangerousName(TransferError):
    """The target of a download is a file that programs run or trust. `allow_dangerous=True` permits it."""


class DigestMismatch(TransferError):
    """All bytes were transferred, but their digest is not the expected one."""


class TransferBusy(TransferError):
    """The same transfer is running already, here or in another process."""


class TransferCancelled(TransferError):
    """The transfer was cancelled, and its partial data removed."""


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


def from_answer(status: int, headers: Mapping[str, str], body: bytes, in_terms: Callable[[str], str] = str) -> APIError:
    """Return the exception for a response of status 400 or above; `headers` have lower-case names.

    `in_terms` translates the detail for its readers. A body that is not problem details, such as a page of a proxy,
    becomes the detail, cut to 200 characters. The message then has only the title of the page.
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
        in_terms(str(problem.get("detail") or "")),
        type_,
        {name: value for name, value in problem.items() if name not in _STANDARD_MEMBERS},
        retry_after(headers.get("retry-after")),
    )


_TITLE = re.compile(rb"<title[^<>]{0,200}>([^<]{1,200})", re.IGNORECASE)


def is_page(content_type: str, body: bytes) -> bool:
    """Return whether a body is a web page. Holdfast sends none to programs."""
    return "html" in content_type.lower() or body[:200].lstrip()[:1] == b"<"


def page_in_words(body: bytes) -> str:
    """Return a web page as one line, without its markup."""
    match = _TITLE.search(body[:4096])
    title = f" titled {' '.join(match[1].decode('utf-8', 'replace').split())!r}" if match and match[1].strip() else ""
    return f"the response is a web page{title}, sent by a proxy or by another server than Holdfast. Check the URL"


def in_words(error: BaseException) -> str:
    """Return the message of an error for a person: the detail of the server, if there is one."""
    if isinstance(error, APIError) and error.detail and not is_page("", error.detail.encode()):
        return error.detail
    if isinstance(error, OSError) and error.strerror:  # without Python's [Errno 2]
        named = error.filename if isinstance(error.filename, (str, bytes)) else ""
        return f"{os.fsdecode(named)}: {error.strerror}" if named else error.strerror
    return str(error) or type(error).__name__


def retry_after(text: str | None) -> float | None:
    """Parse `Retry-After` into seconds from now (RFC 9110, section 10.2.3); None if it is missing or invalid."""
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
