"""Byte ranges (RFC 9110, section 14): what a Range header asks for, and the framing of multipart/byteranges."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_RANGES = 50
MOST_HEADER = 4096

_SPEC = re.compile(r"(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<suffix>[0-9]+)")
_CONTENT_RANGE = re.compile(r"bytes +(?:(?P<first>[0-9]+)-(?P<last>[0-9]+)|\*)/(?P<size>[0-9]+|\*)", re.IGNORECASE)
_HUGE = 1 << 63


class Span(NamedTuple):
    """A range of bytes, both ends included, that lies within the file."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """Return the number of bytes."""
        return self.last - self.first + 1

    def content_range(self, size: int) -> str:
        """The Content-Range field (section 14.4)."""
        return f"bytes {self.first}-{self.last}/{size}"


class RangePart(NamedTuple):
    """Content-Range field: the range of a 206 (None in a 416) and the complete length (None if unknown)."""

    first: int | None
    last: int | None
    size: int | None


def read_content_range(field: str) -> RangePart | None:
    """A Content-Range as a client reads it (section 14.4); None when it is malformed or of another unit."""
    match = _CONTENT_RANGE.fullmatch(field.strip(" \t"))
    if match is None:
        return None
    size = None if match["size"] == "*" else _number(match["size"])
    if match["first"] is None:
        return None if size is None else RangePart(None, None, size)
    first, last = _number(match["first"]), _number(match["last"])
    if last < first or (size is not None and last >= size):
        return None
    return RangePart(first, last, size)


def unsatisfied(size: int) -> str:
    """The Content-Range field of a 416 (section 14.4)."""
    return f"bytes */{size}"


def select(header: str | None, size: int) -> list[Span] | None:
    """Return the ranges to send of a file of `size` bytes.

    Returns None when the field is to be ignored and the whole file is the answer: there is none, it is malformed, its
    unit is not bytes, it asks for more than `MOST_RANGES` ranges, or for the same bytes several times over. An empty
    list is a 416. Otherwise the spans, in the order in which they were asked for, those that overlap made one (section
    15.3.7.2).
    """
    specs = _parse(header)
    if specs is None:
        return None
    asked = [span for first, last in specs if (span := _resolve(first, last, size)) is not None]
    if not asked:
        # A suffix is satisfiable even in an empty file, but no Content-Range can say so (section 14.1.2).
        return None if size == 0 and any(first is None and last for first, last in specs) else []
    spans = _coalesce(asked)
    wasteful = sum(span.length for span in asked) > 2 * sum(span.length for span in spans)
    return None if wasteful else spans


def _parse(header: str | None) -> list[tuple[int | None, int | None]] | None:
    """(first, last) of each range-spec; a suffix has no first, an open end no last. None when malformed or abusive."""
    if header is None or len(header) > MOST_HEADER:
        return None
    unit, equals, ranges = header.partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes":
        return None
    specs: list[tuple[int | None, int | None]] = []
    for element in ranges.split(","):
        element = element.strip(" \t")
        if not element:
            continue  # a list may have empty elements (section 5.6.1.2)
        match = _SPEC.fullmatch(element)
        if match is None or len(specs) == MOST_RANGES:
            return None
        if match["suffix"] is not None:
            specs.append((None, _number(match["suffix"])))
            continue
        first, last = _number(match["first"]), _number(match["last"]) if match["last"] else None
        if last is not None and last < first:
            return None
        specs.append((first, last))
    return specs or None


def _number(digits: str) -> int:
    # int() refuses thousands of digits; no file is that long anyway.
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < 19 else _HUGE


def _resolve(first: int | None, last: int | None, size: int) -> Span | None:
    if first is None:
        return Span(max(0, size - last), size - 1) if last and size else None
    if first >= size:
        return None
    return Span(first, size - 1 if last is None else min(last, size - 1))


def _coalesce(spans: Sequence[Span]) -> list[Span]:
    merged: list[tuple[int, Span]] = []  # place in the request, span
    for place, span in sorted(enumerate(spans), key=lambda item: item[1]):
        if merged and span.first <= merged[-1][1].last:
            before, other = merged[-1]
            merged[-1] = min(before, place), Span(other.first, max(other.last, span.last))
        else:
            merged.append((place, span))
    return [span for _, span in sorted(merged)]


@dataclass(frozen=True)
class Multipart:
    """A multipart/byteranges body (section 14.6): before each span its `head`, after the last one the `tail`."""

    boundary: str
    spans: Sequence[Span]
    size: int
    part_type: str

    @property
    def content_type(self) -> str:
        """The Content-Type of the whole answer."""
        return f"multipart/byteranges; boundary={self.boundary}"

    def head(self, index: int) -> bytes:
        """Return the delimiter and headers of the part at `index`."""
        lines = (
            "" if index == 0 else "\r\n",
            f"--{self.boundary}\r\n",
            f"Content-Type: {self.part_type}\r\n",
            f"Content-Range: {self.spans[index].content_range(self.size)}\r\n\r\n",
        )
        return "".join(lines).encode("latin-1")

    @property
    def tail(self) -> bytes:
        """Return the closing delimiter."""
        return f"\r\n--{self.boundary}--\r\n".encode("latin-1")

    @property
    def content_length(self) -> int:
        """The bytes of the whole body."""
        return sum(len(self.head(i)) + span.length for i, span in enumerate(self.spans)) + len(self.tail)
