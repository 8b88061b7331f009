"""Fields of the records that the command prints."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.filesize import decimal
from rich.text import Text

from holdfast import wire
from holdfast._client.parameters import summary
from holdfast._local_files.records import ResumeRecord
from holdfast.cli._printing._output import Column, compact
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


def state(process: wire.ProcessInfo) -> Text:
    """Return the state in its colour, and whether the process has stalled."""
    return Text(f"{process.state}{' (stalled)' if process.stalled else ''}", COLOURS[process.state])


def share(progress: wire.ProgressInfo) -> str:
    """Return the progress: a percentage if the total is known, else the amount."""
    if progress.done is None:
        return ""
    if not progress.total:
        return f"{progress.done:g}"
    return f"{progress.done / progress.total:.0%}"


def ago(time: datetime | None, now: datetime | None = None) -> str:
    """Return the time since, in one unit."""
    if time is None:
        return ""
    seconds = int(((now or datetime.now(UTC)) - time).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


def moment(time: datetime | None) -> str:
    """Return a time in the local time zone."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def stamp(time: datetime | None) -> str:
    """Return a time for programs: RFC 3339, in UTC."""
    return "" if time is None else time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plural(count: int, one: str, many: str = "") -> str:
    """Return a number and its noun, as in "1 file" and "2 files"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _note(process: wire.ProcessInfo) -> str:
    return process.error.message if process.error else process.progress.note


PROCESSES: Sequence[Column[wire.ProcessInfo]] = (
    Column("id", lambda process: process.id),
    Column("work type", lambda process: process.work_type, spare=2),
    Column("state", lambda process: process.state.value, state),
    Column("done", lambda process: share(process.progress), right=True, spare=1),
    Column("age", lambda process: ago(process.created), right=True, spare=3),
    Column("note", _note, spare=4, shrinks=True),
)


def _of_file(show: Callable[[wire.FileInfo], str]) -> Callable[[wire.FileInfo | wire.Folder], str]:
    """Return `show` for files, and an empty field for folders."""
    return lambda item: show(item) if isinstance(item, wire.FileInfo) else ""


FILES: Sequence[Column[wire.FileInfo | wire.Folder]] = (
    Column("size", _of_file(lambda file: str(file.size)), _of_file(lambda file: decimal(file.size)), right=True),
    Column("modified", _of_file(lambda file: stamp(file.modified)), _of_file(lambda file: moment(file.modified))),
    Column("name", lambda item: item.name),
)

TRANSFERS: Sequence[Column[ResumeRecord]] = (
    Column("kind", lambda record: record.kind),
    Column("name", lambda record: record.name),
    Column("path", lambda record: record.path),
    Column(
        "size",
        lambda record: "" if record.size is None else str(record.size),
        lambda record: "" if record.size is None else decimal(record.size),
    ),
)

WORK_TYPES: Sequence[Column[wire.WorkTypeInfo]] = (
    Column("work type", lambda work: summary(work)[0]),
    Column("parameters", lambda work: summary(work)[1]),
    Column("what it does", lambda work: summary(work)[2]),
)


def _values(found: dict[str, Any]) -> str:
    """Return parameters in the form that `holdfast start` accepts."""
    return " ".join(
        shlex.quote(f"{name}={value if isinstance(value, str) else compact(value)}") for name, value in found.items()
    )


def details(process: wire.ProcessInfo, *, person: bool) -> list[tuple[str, str | Text]]:
    """Return the details of one process, by name. Unknown ones are left out."""
    when: Callable[[datetime | None], str] = moment if person else stamp
    rows: list[tuple[str, str | Text]] = [
        ("id", process.id),
        ("work type", process.work_type),
        ("state", state(process) if person else process.state.value),
        ("progress", f"{share(process.progress)} {process.progress.note}".strip()),
        ("parameters", _values(process.params)),
        ("labels", _values(process.labels)),
        ("place", process.place),
        ("attempt", str(process.attempt)),
        ("created", when(process.created)),
        ("started", when(process.started)),
        ("ended", when(process.ended)),
        ("result", "" if process.result is None else compact(process.result)),
        ("error", f"{process.error.type}: {process.error.message}" if process.error else ""),
        ("rollback", (process.error.rollback or "") if process.error else ""),
    ]
    return [(name, value) for name, value in rows if value]
