"""Output of records: columns on a terminal, tab-separated lines in a pipe, JSON Lines with `--json`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

GAP = 2
LEAST_NOTE = 6
"""Least width of a column that shrinks, in cells. A narrower one is left out."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that control a terminal or change the order of text, and bytes of a path that is not UTF-8."""
_NAMED = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


@dataclass(frozen=True)
class Column(Generic[T]):
    """One field of a record: `plain` for a pipe, and `shown` for a terminal if that differs.

    On a narrow terminal the column with the highest `spare` is left out first, and one with 0 never. A column that
    `shrinks` is cut before it is left out.
    """

    title: str
    plain: Callable[[T], str]
    shown: Callable[[T], str | Text] | None = None
    right: bool = False
    spare: int = 0
    shrinks: bool = False

    def text(self, record: T) -> Text:
        """Return the field for a terminal, on one line."""
        value = (self.shown or self.plain)(record)
        return value if isinstance(value, Text) else Text(escaped(value))


def escaped(text: str) -> str:
    r"""Return the text on one line, with control characters escaped as in Python: `\n` or `\x1b`."""
    return _CONTROLS.sub(lambda found: _NAMED.get(found[0]) or ascii(found[0])[1:-1], text)


class PlainConsole(Console):
    """Console that escapes control characters in text, so that only Rich itself controls the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None and _CONTROLS.search(segment.text.replace("\n", "")):
                text = "\n".join(map(escaped, segment.text.split("\n")))
                segment = Segment(text, segment.style)
            yield segment


def compact(value: Any) -> str:
    """Return a value as JSON on one line, without characters that control a terminal or can't be printed."""
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value, enc_hook=str), separators=(",", ":"))
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def tabbed(fields: Iterable[str]) -> str:
    """Return one record as a line for a pipe."""
    return "\t".join(escaped(field) for field in fields)


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def write_line(text: str) -> None:
    """Write one line to standard output and flush it."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_records(console: Console, columns: Sequence[Column[T]], found: Iterable[T], *, as_json: bool) -> bool:
    """Print records and return whether there were any. In a pipe and as JSON each is printed as it arrives."""
    if not as_json and is_terminal():
        records = [*found]
        if records:
            console.print(Grid(columns, records), soft_wrap=True)
        return bool(records)
    written = False
    for record in found:
        written = True
        sys.stdout.write((compact(record) if as_json else tabbed(column.plain(record) for column in columns)) + "\n")
    sys.stdout.flush()
    return written


class Entries:
    """Names, each with lines of text wrapped beside it. For records that are too wide for columns."""

    def __init__(self, entries: Iterable[tuple[str, Sequence[str]]]) -> None:
        self._entries = [(escaped(name), [escaped(line) for line in lines if line]) for name, lines in entries]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid(padding=(0, GAP))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for name, lines in self._entries:
            table.add_row(name, Text("\n".join(lines)))
        yield table


class Grid(Generic[T]):
    """Records in columns under a line of titles. It is never wider than the terminal."""

    def __init__(self, columns: Sequence[Column[T]], records: Iterable[T]) -> None:
        self._columns = columns
        self._rows = [
            [Text(column.title, "bold") for column in columns],
            *([column.text(record) for column in columns] for record in records),
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        for row in self._rows:
            yield self._line(row, widths)

    def _widths(self, room: int) -> dict[int, int]:
        """Return the width of each column that fits, by its number."""
        widths = {at: max(row[at].cell_len for row in self._rows) for at in range(len(self._columns))}
        for at in sorted(widths, key=lambda at: -self._columns[at].spare):
            excess = sum(widths.values()) + GAP * (len(widths) - 1) - room
            if excess <= 0 or not self._columns[at].spare:
                break
            if self._columns[at].shrinks and widths[at] - excess >= LEAST_NOTE:
                widths[at] -= excess
            else:
                del widths[at]
        return widths

    def _line(self, row: list[Text], widths: dict[int, int]) -> Text:
        line = Text()
        last = max(widths)
        for at, width in widths.items():
            cell = row[at].copy()
            if cell.cell_len > width:
                cell.truncate(width, overflow="ellipsis")
            blanks = " " * (width - cell.cell_len)
            if self._columns[at].right:
                line.append(blanks)
            line.append_text(cell)
            if at != last:
                line.append(("" if self._columns[at].right else blanks) + " " * GAP)
        return line
