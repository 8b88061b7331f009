"""How things look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from holdfast import wire
from holdfast.wire import State

COLOURS = {
    State.QUEUED: "cyan",
    State.RUNNING: "blue",
    State.PAUSING: "yellow",
    State.PAUSED: "yellow",
    State.CANCELLING: "magenta",
    State.CANCELLED: "magenta",
    State.FAILED: "red",
    State.SUCCEEDED: "green",
}


def state(process: wire.Process) -> Text:
    """The state, in its colour; a process that has stalled says so."""
    return Text(f"{process.state}{' (stalled)' if process.stalled else ''}", COLOURS[process.state])


def share(progress: wire.ProgressInfo) -> str:
    """How far, as a percentage where the whole is known."""
    if progress.done is None:
        return ""
    if not progress.total:
        return f"{progress.done:g}"
    return f"{progress.done / progress.total:.0%}"


def ago(time: datetime | None, now: datetime | None = None) -> str:
    """How long since, in one unit."""
    if time is None:
        return ""
    seconds = int(((now or datetime.now(UTC)) - time).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


def processes(found: Iterable[wire.Process]) -> Table:
    """A table of processes."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("id", "work type", "state"):
        table.add_column(column, no_wrap=True)
    table.add_column("done", justify="right")
    table.add_column("age", justify="right")
    table.add_column("note", overflow="ellipsis", no_wrap=True)
    for process in found:
        note = process.error.message if process.error else process.progress.note
        row = (escape(process.id), escape(process.work_type), state(process), share(process.progress))
        table.add_row(*row, ago(process.created), escape(note))
    return table


def process(found: wire.Process) -> Table:
    """Everything about one process."""
    rows: list[tuple[str, Any]] = [
        ("id", found.id),
        ("work type", found.work_type),
        ("state", state(found)),
        ("progress", f"{share(found.progress)} {found.progress.note}".strip()),
        ("parameters", " ".join(f"{name}={value}" for name, value in found.params.items())),
        ("labels", " ".join(f"{name}={value}" for name, value in found.labels.items())),
        ("place", found.place),
        ("attempt", found.attempt),
        ("created", moment(found.created)),
        ("started", moment(found.started)),
        ("ended", moment(found.ended)),
        ("result", None if found.result is None else str(found.result)),
        ("error", f"{found.error.type}: {found.error.message}" if found.error else None),
        ("rollback", found.error.rollback if found.error else None),
    ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value not in (None, ""):
            table.add_row(name, value if isinstance(value, Text) else escape(str(value)))
    return table


def files(found: Iterable[wire.FileInfo]) -> Table:
    """A table of files."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("modified", no_wrap=True)
    table.add_column("name", overflow="fold")
    for file in found:
        table.add_row(decimal(file.size), moment(file.modified), escape(file.name))
    return table


def moment(time: datetime | None) -> str:
    """A time where the reader is."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
