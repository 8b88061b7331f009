"""Declaration of a handler's method, `@operation`, from which `/openapi.json` is built.

The method's own signature is part of the promise: `query` and `body` are parsed and handed to it by their types, so
what is documented is what is done.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import msgspec

from tornado_app import problems
from tornado_app.problems import Kind

M = TypeVar("M", bound=Callable[..., Any])

ACCESS_PROBLEMS = (
    *(problems.BAD_REQUEST, problems.UNAUTHORIZED, problems.CROSS_SITE, problems.MISDIRECTED),
    *(problems.INTERNAL, problems.UNAVAILABLE),
)
"""Problems that any operation may answer with: to bad HTTP, in `prepare`, for a bug, and when files are many."""


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """No parameters at all."""


@dataclass(frozen=True)
class Content:
    """A body: its media type ("" for none), the type of what it carries (None for plain bytes), and further headers."""

    media_type: str = "application/json"
    type: Any = None
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One method of one endpoint. `answers` by status, None for no body; the docstring says what it does."""

    name: str
    doc: str
    answers: Mapping[int, Content | None]
    problems: tuple[Kind, ...]
    headers: tuple[str, ...]
    query: Any
    body: tuple[Content, ...]
    path: Mapping[str, Any]


def operation(
    name: str,
    answers: Any,
    *refuses: Kind,
    headers: tuple[str, ...] = (),
    query: Any = None,
    body: tuple[Content, ...] = (),
) -> Callable[[M], M]:
    """Declare a handler's method.

    Args:
        name: the call's name in the SDK; `{verb}` stands for what the route has there.
        answers: a wire type (JSON with status 200), a `Content`, None (204), or any of these by status.
        refuses: the problems that it may answer with, beside `ACCESS_PROBLEMS` and what its signature implies.
        headers: names of the request headers that it understands, see `openapi.HEADERS`.
        query, body: what it takes where the method does not have them as arguments, because they are needed earlier.
    """

    def declare(method: M) -> M:
        hints = get_type_hints(method, include_extras=True)
        taken = set(inspect.signature(method).parameters) - {"self"}
        query_type, body_type = hints.get("query", query), hints.get("body")
        path = {part: hints.get(part, str) for part in taken - {"query", "body"}}
        implied = [problems.BAD_PARAMETERS] if query_type or body_type or _are_checked(path.values()) else []
        implied += [problems.BAD_BODY] if body_type or body else []
        declared = Operation(
            name=name,
            doc=inspect.cleandoc(method.__doc__ or ""),
            answers=_by_status(answers),
            problems=tuple(dict.fromkeys((*implied, *refuses, *ACCESS_PROBLEMS))),
            headers=headers,
            query=query_type,
            body=(Content(type=body_type),) if body_type else body,
            path=path,
        )

        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(self, "refused", False):  # answered at the headers
                return None
            if "query" in taken:
                kwargs["query"] = self.query_as(query_type)
            if "body" in taken:
                kwargs["body"] = self.body_as(body_type)
            return method(self, *args, **kwargs)

        call.operation = declared  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return declare


def operation_of(method: Any) -> Operation | None:
    """Return what `@operation` declared for a handler's method."""
    found: Operation | None = getattr(method, "operation", None)
    return found


def _are_checked(types: Iterable[Any]) -> bool:
    """Return whether a type has a pattern that a part of the path may not match."""
    return any(getattr(meta, "pattern", None) for type in types for meta in getattr(type, "__metadata__", ()))


def _by_status(answers: Any) -> dict[int, Content | None]:
    if answers is None:
        return {204: None}
    given = answers if isinstance(answers, Mapping) else {200: answers}
    return {status: _content(value) for status, value in given.items()}


def _content(value: Any) -> Content | None:
    return value if value is None or isinstance(value, Content) else Content(type=value)
