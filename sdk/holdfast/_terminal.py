"""How the command `holdfast` shows things: tables, lines, JSON, bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from holdfast import wire
from holdfast.wire import State

_STYLE = {
    State.QUEUED: "cyan",
    State.RUNNING: "blue",
    State.PAUSING: "yellow",
    State.PAUSED: "yellow",
    State.CANCELLING: "magenta",
    State.CANCELLED: "magenta",
    State.FAILED: "red",
    State.SUCCEEDED: "green",
}


def console() -> Console:
    """Standard output; wide enough for scripts where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False, soft_wrap=True)


def json(value: Any) -> None:
    """One JSON value on a line of its own."""
    click.echo(msgspec.json.encode(value))


def processes(infos: Iterable[wire.Process]) -> Table:
    """A table of processes."""
    table = Table(box=None, pad_edge=False)
    for name in ("ID", "WORK TYPE", "STATE", "PROGRESS", "AGE"):
        table.add_column(name, no_wrap=name != "PROGRESS")
    for info in infos:
        table.add_row(info.id, info.work_type, state(info), progress(info), age(info.created))
    return table


def state(info: wire.Process) -> Text:
    """The state in its colour; a stalled process says so."""
    return Text(info.state + (" (stalled)" if info.stalled else ""), style=_STYLE[info.state])


def progress(info: wire.Process) -> str:
    """Per cent, note and error on one line."""
    parts = []
    done, total = info.progress.done, info.progress.total
    if done is not None and total:
        parts.append(f"{100 * done / total:.0f} %")
    elif done is not None:
        parts.append(f"{done:g}")
    parts += [text for text in (info.progress.note, info.error.message if info.error else "") if text]
    return ", ".join(parts)


def age(since: datetime) -> str:
    """How long ago, in its largest unit."""
    seconds = max(0.0, (datetime.now(UTC) - since).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int | None) -> str:
    """Bytes in the unit that fits."""
    if count is None:
        return "?"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def details(info: wire.Process) -> Table:
    """Everything of one process that is set."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in msgspec.to_builtins(info).items():
        if name == "progress":
            value = progress(info)
        if value not in (None, "", {}, False):
            table.add_row(name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return table


def transfer_bar() -> Progress:
    """A bar with bytes, rate and time left, on standard error: standard output is for results."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
