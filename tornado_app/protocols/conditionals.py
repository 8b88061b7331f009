"""Conditional requests (RFC 9110, section 13): entity tags, and which precondition decides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from tornado_app.protocols import dates

_TAG = re.compile(r'(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)"')
_SEPARATOR = re.compile(r"[ \t]*(?:,[ \t]*)*")
_SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Validators:
    """Version of a file: the opaque part of its strong ETag, and its time in seconds since 1970."""

    etag: str
    modified: float


class Verdict(Enum):
    """Result of the preconditions of a request."""

    PROCEED = "go on"
    NOT_MODIFIED = "304"
    FAILED = "412"


@dataclass(frozen=True)
class Tags:
    """A parsed If-Match or If-None-Match."""

    any: bool = False
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()


def quoted(etag: str) -> str:
    """The strong entity tag as it stands in a header."""
    return f'"{etag}"'


def read_tags(field: str) -> Tags | None:
    """`*` or a list of entity tags; None when it is neither (section 8.8.3)."""
    if field.strip(" \t") == "*":
        return Tags(any=True)
    strong: set[str] = set()
    weak: set[str] = set()
    at = _SEPARATOR.match(field).end()  # type: ignore[union-attr]  # it matches nothing, too
    while at < len(field):
        tag = _TAG.match(field, at)
        if tag is None:
            return None
        (weak if tag["weak"] else strong).add(tag["opaque"])
        at = _SEPARATOR.match(field, tag.end()).end()  # type: ignore[union-attr]
        if at < len(field) and "," not in field[tag.end() : at]:
            return None
    return Tags(strong=frozenset(strong), weak=frozenset(weak)) if strong or weak else None


def malformed(headers: Mapping[str, str]) -> str | None:
    """Return what is wrong with If-Match or If-None-Match, and what would be right; None if nothing is.

    A GET may ignore an ill-formed condition; a request that changes something must be refused.
    """
    for name in ("If-Match", "If-None-Match"):
        field = headers.get(name)
        if field is not None and read_tags(field) is None:
            return f'{name} must be * or entity tags in double quotes, like "abc", not {field[:100]!r}'
    return None


def evaluate(method: str, headers: Mapping[str, str], current: Validators | None) -> Verdict:
    """Evaluate preconditions in the order of section 13.2.2; `current` is None if there is no such file.

    If-Match compares strongly, If-None-Match weakly. A malformed If-Match is never true; any other malformed field is
    ignored.
    """
    match = headers.get("If-Match")
    if match is not None:
        tags = read_tags(match)
        if tags is None or current is None or not (tags.any or current.etag in tags.strong):
            return Verdict.FAILED
    elif (
        current is not None
        and (since := _date(headers, "If-Unmodified-Since")) is not None
        and int(current.modified) > since
    ):
        return Verdict.FAILED
    none_match = headers.get("If-None-Match")
    if none_match is not None:
        tags = read_tags(none_match)
        if tags is not None and current is not None and (tags.any or current.etag in tags.strong | tags.weak):
            return Verdict.NOT_MODIFIED if method in _SAFE else Verdict.FAILED
    elif (
        method in _SAFE
        and current is not None
        and (since := _date(headers, "If-Modified-Since")) is not None
        and int(current.modified) <= since
    ):
        return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def range_holds(if_range: str | None, current: Validators, now: float) -> bool:
    """Return whether a Range header applies (section 13.1.5): the same strong tag, or exactly the same strong date.

    A date is strong once its second is over (section 8.8.2.2): before, the file could change again within it. `now` is
    in seconds since 1970.
    """
    if if_range is None:
        return True
    tag = _TAG.fullmatch(if_range.strip(" \t"))
    if tag is not None:
        return not tag["weak"] and tag["opaque"] == current.etag
    date = dates.read(if_range)
    return date is not None and date == int(current.modified) and now >= date + 1


def _date(headers: Mapping[str, str], name: str) -> int | None:
    field = headers.get(name)
    return None if field is None else dates.read(field)
