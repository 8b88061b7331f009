"""Call: one request and how to read its response; and the table of all endpoints. No I/O."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from holdfast.errors import ProtocolError, is_page, page_in_words

T = TypeVar("T")
P = ParamSpec("P")

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class CallResponse:
    """Response to a call. `headers` have lower-case names; `body` is empty if it is read as a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Source(Protocol):
    """Request body that is read while it is sent. A repeated request reads it again."""

    @property
    def length(self) -> int | None:
        """Length in bytes, or None if it is not known."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the body from its start. Reads block: the async driver calls this on a thread."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table. `takes` and `answers` are the types of the JSON bodies, or None."""

    name: str
    method: str
    route: str
    takes: Any
    answers: Any
    repeatable: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of one request, as the function of an endpoint returns them. Values that are None are left out."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Scalar | list[str]] = field(default_factory=dict)
    headers: Mapping[str, str | None] = field(default_factory=dict)
    content: bytes | Source | None = None
    body: Any = None
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and how to read its response.

    `repeatable`: it can be sent again safely if its response was lost. `wait`: seconds that the server may take to
    respond, in addition to the client's timeout.
    """

    endpoint: Endpoint
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    content: bytes | Source | None
    read: Callable[[CallResponse], T]
    repeatable: bool
    wait: float = 0.0

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.endpoint.method


ENDPOINTS: dict[str, Endpoint] = {}


def endpoint(
    method: str,
    route: str,
    answers: type[T],
    *,
    takes: Any = None,
    repeatable: bool | None = None,
    read: Callable[[CallResponse], T] | None = None,
) -> Callable[[Callable[P, Parts]], Callable[P, Call[T]]]:
    """Decorator: let a function that returns the parts of a request return a call, and add it to the table."""
    again = method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE") if repeatable is None else repeatable
    reader = read or functools.partial(_read_json, answers)

    def declare(function: Callable[P, Parts]) -> Callable[P, Call[T]]:
        line = Endpoint(function.__name__, method, route, takes, answers, again)
        ENDPOINTS[line.name] = line

        @functools.wraps(function)
        def make(*args: P.args, **kwargs: P.kwargs) -> Call[T]:
            parts = function(*args, **kwargs)
            headers = {name: value for name, value in parts.headers.items() if value is not None}
            content = parts.content
            if parts.body is not None:
                content = msgspec.json.encode(parts.body)
                headers.setdefault("Content-Type", "application/json")
            return Call(
                line, _path(route, parts.path), _query(parts.query), headers, content, reader, again, parts.wait
            )

        return make

    return declare


def _path(route: str, values: Mapping[str, str]) -> str:
    # A file name may contain slashes; every other value is one segment.
    quoted = {name: _quoted(value, "/" if name == "name" else "") for name, value in values.items()}
    return route.format(**quoted)


def _quoted(value: str, safe: str) -> str:
    """Percent-encode a value, dot segments too: clients remove those from a URL (RFC 3986, section 5.2.4)."""
    segments = quote(value, safe=safe).split("/")
    return "/".join(segment.replace(".", "%2E") if segment in (".", "..") else segment for segment in segments)


def _query(values: Mapping[str, Scalar | list[str]]) -> list[tuple[str, str]]:
    return [
        (name, str(item).lower() if isinstance(item, bool) else str(item))
        for name, value in values.items()
        for item in (value if isinstance(value, list) else [value])
        if item is not None
    ]


def _read_json(type: type[T], answer: CallResponse) -> T:
    try:
        return msgspec.json.decode(answer.body, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if is_page(answer.headers.get("content-type", ""), answer.body):
            raise ProtocolError(page_in_words(answer.body)) from None
        raise ProtocolError(f"the response is not the {type.__name__} that a Holdfast server sends: {error}") from None


def read_nothing(answer: CallResponse) -> None:
    """Read a response without a body."""
    return
