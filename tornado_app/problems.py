"""Every error that the server answers with, one line each (RFC 9457). Services raise them; handlers only render."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A catalogue line: the `type` is explained by the documentation, or is a URI that is registered."""

    type: str
    title: str
    status: int

    @property
    def uri(self) -> str:
        """The `type` member of problem details: under `/problems/`, unless it is registered elsewhere."""
        return self.type if ":" in self.type else f"/problems/{self.type}"

    def uri_below(self, root: str) -> str:
        """Return `uri` behind the path under which a client reaches the server."""
        return self.type if ":" in self.type else root + self.uri

    @property
    def slug(self) -> str:
        """The last part of the type, for places that take no URI."""
        return self.type.rpartition("#")[2]

    def __call__(self, detail: str, *, headers: dict[str, str] | None = None, **members: Any) -> ProblemError:
        """An error of this kind; `members` are RFC 9457 extension members for programs to read."""
        return ProblemError(self, detail, members, headers or {})


class ProblemError(Exception):
    """A refusal that says what was wrong and what would be right."""

    def __init__(self, kind: Kind, detail: str, members: dict[str, Any], headers: dict[str, str]) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.members = members
        self.headers = headers

    def with_headers(self, headers: dict[str, str], kind: Kind | None = None) -> ProblemError:
        """Return the same error with more headers before its own, and perhaps of another kind."""
        return ProblemError(kind or self.kind, self.detail, self.members, {**headers, **self.headers})

    def body(self, root: str, status: int | None = None) -> dict[str, Any]:
        """The problem details object; `status` when the face answers with another (the seed: 400, 404 or 500).

        `root` is the path before every address of the server.
        """
        return {
            "type": self.kind.uri_below(root),
            "title": self.kind.title,
            "status": status or self.kind.status,
            "detail": _abridged(self.detail),
            **{name: _abridged(value) for name, value in self.members.items()},
        }


def _abridged(value: Any) -> Any:
    """A text without the middle of what a client sent at great length; both ends say what matters."""
    return f"{value[:500]} ... {value[-400:]}" if isinstance(value, str) and len(value) > 1000 else value


_IANA = "https://iana.org/assignments/http-problem-types"

BAD_REQUEST = Kind("bad-request", "The request is not valid", 400)
BAD_PARAMETERS = Kind("bad-parameters", "The parameters do not fit", 400)
BAD_NAME = Kind("bad-name", "Not a name that a file can have", 400)
BAD_BODY = Kind("bad-body", "The body could not be read", 400)
UNKNOWN_WORK_TYPE = Kind("unknown-work-type", "No such work type", 400)
LOGIN_NEEDED = Kind("login-needed", "Log in first", 302)
UNAUTHORIZED = Kind("unauthorized", "A token is needed", 401)
FORBIDDEN = Kind("forbidden", "Not allowed", 403)
FORBIDDEN_SCOPE = Kind("forbidden-scope", "A scope is missing", 403)
CROSS_SITE = Kind("cross-site", "Refused to another site", 403)
NOT_FOUND = Kind("not-found", "Nothing there", 404)
NO_SUCH_PROCESS = Kind("no-such-process", "No such process", 404)
NO_SUCH_FILE = Kind("no-such-file", "No such file", 404)
NO_SUCH_UPLOAD = Kind("no-such-upload", "No such upload", 404)
METHOD_NOT_ALLOWED = Kind("method-not-allowed", "Method not allowed", 405)
NOT_ACCEPTABLE_ENCODING = Kind("not-text", "The bytes are not text", 400)
CONFLICT = Kind("conflict", "In conflict with what is there", 409)
ILLEGAL_STATE = Kind("illegal-state", "Not possible in this state", 409)
ID_TAKEN = Kind("id-taken", "The id belongs to another request", 409)
OFFSET_MISMATCH = Kind("offset-mismatch", "The upload stands elsewhere", 409)
INCONSISTENT_LENGTH = Kind(f"{_IANA}#inconsistent-upload-length", "Inconsistent Upload Length Values", 400)
MISMATCHING_OFFSET = Kind(f"{_IANA}#mismatching-upload-offset", "Mismatching Upload Offset", 409)
FILE_EXISTS = Kind("file-exists", "The file exists", 409)
FILE_CHANGED = Kind("file-changed", "The file has changed", 409)
BROKEN = Kind("upload-broken", "The upload can't go on", 410)
GONE = Kind("gone", "No longer there", 410)
PRECONDITION_FAILED = Kind("precondition-failed", "A precondition failed", 412)
TOO_LARGE = Kind("too-large", "Too large", 413)
HEAD_TOO_LONG = Kind("head-too-long", "Headers too long", 431)
UNSUPPORTED_MEDIA_TYPE = Kind("unsupported-media-type", "Unsupported media type", 415)
RANGE_NOT_SATISFIABLE = Kind("range-not-satisfiable", "Range not satisfiable", 416)
MISDIRECTED = Kind("misdirected", "Not a host that this server serves", 421)
DIGEST_MISMATCH = Kind("digest-mismatch", "The digest does not match", 400)
CHECKSUM_MISMATCH = Kind("checksum-mismatch", "The digest does not match", 460)
LOCKED = Kind("locked", "Another request writes", 423)
TOO_MANY = Kind("too-many", "Too many at once", 429)
INTERNAL = Kind("internal", "A bug in the server", 500)
UNAVAILABLE = Kind("unavailable", "Not able to serve now", 503)
NO_SPACE = Kind("no-space", "No space left", 507)
