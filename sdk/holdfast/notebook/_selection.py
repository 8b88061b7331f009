"""Selection of a dashboard: which processes, uploads and files it shows, in which order. Knows no widget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from holdfast import wire
from holdfast.notebook._feed._feed import Feed
from holdfast.notebook._feed._listing import ServerListing
from holdfast.notebook._feed._tracked import Tracked
from holdfast.notebook._html import _table
from holdfast.notebook._html._appearance import VERBS, fraction_of
from holdfast.wire import ENDED, State, Verb

Part = Literal["processes", "uploads", "files"]
ALL: tuple[Part, ...] = ("processes", "uploads", "files")

MAX_ROWS = _table.MAX_ROWS

_RANK = {
    State.RUNNING: 0,
    State.PAUSING: 0,
    State.CANCELLING: 0,
    State.FAILED: 1,
    State.PAUSED: 2,
    State.QUEUED: 3,
    State.SUCCEEDED: 4,
    State.CANCELLED: 4,
}
"""Order of processes: first what runs and what failed."""


@dataclass(slots=True)
class ViewChoice:
    """ViewChoice of a person: a text to find, a state, and by which column each table is sorted."""

    query: str = ""
    state: str = ""
    sort: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """Column and whether the order is reversed, by table. Without it the order is the usual one."""

    def key(self) -> tuple[object, ...]:
        """Return a value that differs when the choice does."""
        return self.query, self.state, tuple(sorted(self.sort.items()))

    def sort_by(self, part: str, column: str, reverse: bool) -> None:
        """Sort a table by a column; by an unknown column: as usual."""
        if column in COLUMNS.get(part, {}):
            self.sort[part] = column, reverse
        else:
            self.sort.pop(part, None)


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of a dashboard. `targets` are the processes that each verb is for, also those without a row."""

    processes: list[Tracked]
    more_processes: int
    uploads: list[wire.UploadInfo]
    more_uploads: int
    files: list[wire.FileInfo]
    more_files: int
    targets: dict[Verb, list[str]]
    counts: dict[State, int]


def select(feed: Feed, choice: ViewChoice) -> Selection:
    """Return what a dashboard of this feed shows. The caller holds the lock of the feed."""
    listing, query = feed.listing, choice.query.lower()
    processes = _sorted("processes", [t for t in feed.processes.values() if _fits(t, choice, query)], choice, feed)
    uploads = [upload for upload in listing.uploads.values() if query in _table.upload_name(upload).lower()]
    files = [file for name, file in listing.files.items() if query in name.lower()]
    uploads, files = _sorted("uploads", uploads, choice, feed), _sorted("files", files, choice, feed)
    counts = dict.fromkeys(State, 0)
    for tracked in feed.processes.values():
        if tracked.info is not None:
            counts[tracked.info.state] += 1
    return Selection(
        processes=processes[:MAX_ROWS],
        more_processes=len(processes) - MAX_ROWS,
        uploads=uploads[:MAX_ROWS],
        more_uploads=len(uploads) - MAX_ROWS,
        files=files[:MAX_ROWS],
        more_files=len(files) - MAX_ROWS,
        targets={verb: [t.id for t in processes if verb in t.verbs and not feed.closed] for verb in VERBS},
        counts={state: count for state, count in counts.items() if count},
    )


def _fits(tracked: Tracked, choice: ViewChoice, query: str) -> bool:
    info = tracked.info
    if info is None or (choice.state == "live" and info.state in ENDED):
        return False
    if choice.state not in ("", "live", info.state):
        return False
    return query in f"{info.id} {info.work_type} {info.state} {info.progress.note}".lower()


def _sorted(part: Part, items: list[Any], choice: ViewChoice, feed: Feed) -> list[Any]:
    column, reverse = choice.sort.get(part, ("", False))
    if part != "uploads" or column:
        items.sort(key=lambda item: _USUAL[part](item, feed.listing))
    if column:  # a stable sort: equal ones stay in the usual order
        items.sort(key=lambda item: COLUMNS[part][column](item, feed.listing), reverse=reverse)
    return items


Key = Callable[[Any, ServerListing], Any]


def _usual_order(tracked: Tracked, listing: ServerListing) -> tuple[int, float]:
    assert tracked.info is not None  # noqa: S101 - `_fits` checks it
    return _RANK[tracked.info.state], -tracked.info.created.timestamp()


def _done(tracked: Tracked, listing: ServerListing) -> float:
    progress = tracked.info.progress if tracked.info is not None else wire.ProgressInfo()
    fraction = fraction_of(progress.done, progress.total)
    return -1.0 if fraction is None else fraction


def _upload_rate(upload: wire.UploadInfo, listing: ServerListing) -> float:
    speed = listing.speeds.get(upload.id)
    return speed.rate or 0.0 if speed is not None else 0.0


_USUAL: dict[Part, Key] = {
    "processes": _usual_order,
    "uploads": lambda upload, listing: upload.id,
    "files": lambda file, listing: file.name,
}

COLUMNS: dict[str, dict[str, Key]] = {
    "processes": {
        "state": lambda tracked, listing: _usual_order(tracked, listing)[0],
        "name": lambda tracked, listing: tracked.id,
        "progress": _done,
        "speed": lambda tracked, listing: tracked.speed.rate or 0.0,
        "note": lambda tracked, listing: tracked.info.progress.note,
    },
    "uploads": {
        "name": lambda upload, listing: _table.upload_name(upload),
        "progress": lambda upload, listing: fraction_of(upload.offset, upload.length) or 0.0,
        "speed": _upload_rate,
        "size": lambda upload, listing: upload.length or 0,
    },
    "files": {
        "name": lambda file, listing: file.name,
        "size": lambda file, listing: file.size,
        "modified": lambda file, listing: file.modified,
    },
}
"""Columns by which each table can be sorted."""
