"""How records are printed: columns on a terminal, tab-separated lines in a pipe, JSON Lines with `--json`."""

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
"""Cells; a column that gives way is left out when less than that is left for it."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that could steer a terminal or change the order of a text, and bytes of a path that is not UTF-8."""
_NAMED = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


@dataclass(frozen=True)
class Column(Generic[T]):
    """One field of a record: whole for a pipe, and as it looks on a terminal where that is another thing.

    A terminal that is too narrow has the column with the highest `spare` give way first, and 0 never; one that
    `shrinks` is cut before it is left out.
    """

    title: str
    plain: Callable[[T], str]
    shown: Callable[[T], str | Text] | None = None
    right: bool = False
    spare: int = 0
    shrinks: bool = False

    def text(self, record: T) -> Text:
        """The field on a terminal: one line."""
        value = (self.shown or self.plain)(record)
        return value if isinstance(value, Text) else Text(escaped(value))


def escaped(text: str) -> str:
    r"""The text on one line: control characters as in Python, `\n` or `\x1b`."""
    return _CONTROLS.sub(lambda found: _NAMED.get(found[0]) or ascii(found[0])[1:-1], text)


class PlainConsole(Console):
    """A console on which no text can steer the terminal: only what Rich itself makes of styles does."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None and _CONTROLS.search(segment.text.replace("\n", "")):
                text = "\n".join(map(escaped, segment.text.split("\n")))
                segment = Segment(text, segment.style)
            yield segment


def compact(value: Any) -> str:
    """A value as JSON on one line, in which no character steers a terminal or is none that can be printed."""
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value, enc_hook=str), separators=(",", ":"))
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def tabbed(fields: Iterable[str]) -> str:
    """One record as a line for a pipe."""
    return "\t".join(escaped(field) for field in fields)


def is_terminal() -> bool:
    """Whether a person reads the standard output."""
    return sys.stdout.isatty()


def write_line(text: str) -> None:
    """One line on the standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_records(console: Console, columns: Sequence[Column[T]], found: Iterable[T], *, as_json: bool) -> bool:
    """Print records; whether there were any. In pipes and as JSON each is printed as it comes."""
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
    """A name and what there is to say of it, for each: wrapped beside the name, where columns would have no room."""

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
    """Records in columns that are as wide as what they hold, under a line of titles. Needs no more than the width."""

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
        """The width of each column that is shown, by its number."""
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
