"""Content of a dashboard at one moment, and the same as HTML and as text. Knows no widget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from html import escape

from holdfast import wire
from holdfast.notebook._feed._feed import CLOSED, Feed
from holdfast.notebook._feed._tracked import Tracked
from holdfast.notebook._html import _appearance, _table
from holdfast.notebook._html._appearance import Appearance, box_html
from holdfast.notebook._selection import Part, Selection, ViewChoice
from holdfast.wire import State, Verb

STATES = [("any state", ""), ("not ended", "live"), *((state.value, state.value) for state in State)]
"""States to choose from: label and value."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Content of a dashboard. `bulk` has the text of each button and the number of its processes.

    It reads the feed, so the caller holds the feed's lock while it is used.
    """

    feed: Feed
    parts: tuple[Part, ...]
    choice: ViewChoice
    selection: Selection
    bulk: dict[Verb, tuple[str, int]]
    error: str
    hint: str
    detail: Tracked | None = None

    @property
    def waiting(self) -> str:
        """Reason why the content may be out of date, or an empty text."""
        feed = self.feed
        return feed.offline or feed.error or (CLOSED if feed.closed else self.hint)

    @property
    def tally(self) -> str:
        """Numbers of uploads and files."""
        listing = self.feed.listing
        more = "+" if listing.more else ""
        return f"{_counted(len(listing.uploads), 'upload')} · {_counted(len(listing.files), 'file', more)}"

    def head_html(self) -> str:
        """Return the address of the server and the numbers of what it has."""
        feed = self.feed
        parts = [f"<b>{escape(feed.url)}</b>"]
        if feed.offline:
            parts.append(_table.badge("reconnecting", "waiting"))
            if feed.offline_since is not None:
                still = _appearance.Stillness(feed.offline_since, what="server unreachable")
                parts.append(escape(still.text(time.monotonic())))
        if "processes" in self.parts:
            parts += [
                _table.badge(f"{count} {state}", _appearance.TONE_OF[state])
                for state, count in self.selection.counts.items()
            ]
        if "files" in self.parts:
            parts.append(self.tally)
        return f'<div role="status" style="line-height:1.8">{" ".join(parts)}</div>'

    def alerts_html(self) -> str:
        """Return what was refused, and why the content may be out of date."""
        return box_html(self.error, "bad") + box_html(self.waiting, "waiting")

    def html(self) -> str:
        """Return the whole content."""
        tables = tables_html(self)
        return self.head_html() + self.alerts_html() + "".join(tables[part] for part in self.parts)

    def plain(self) -> str:
        """Return the whole content as text."""
        feed, selection = self.feed, self.selection
        lines = [feed.url, *filter(None, [feed.offline or feed.error])]
        if "processes" in self.parts:
            infos = [tracked.info for tracked in selection.processes if tracked.info]
            lines += [_appearance.plain(_appearance.process_appearance(info)).replace("\n", "  ") for info in infos]
        if "uploads" in self.parts:
            lines += [
                f"upload {_table.upload_name(u)}: {_appearance.size(u.offset)} of {_appearance.size(u.length or 0)}"
                for u in selection.uploads
            ]
        if "files" in self.parts:
            lines += [f"file {file.name}: {_appearance.size(file.size)}" for file in selection.files]
        return "\n".join(lines)


def _counted(count: int, noun: str, more: str = "") -> str:
    return f"{count}{more} {noun}{'' if count == 1 else 's'}"


def tables_html(overview: Overview) -> dict[Part, str]:
    """Return every table as HTML."""
    feed, selection = overview.feed, overview.selection
    processes = [
        _table.process_row(_row_appearance(tracked, tracked.info, feed), tracked.speed)
        for tracked in selection.processes
        if tracked.info is not None
    ]
    uploads = [_table.upload_row(upload, feed.listing.speeds.get(upload.id)) for upload in selection.uploads]
    files = [_table.file_row(file) for file in selection.files]
    return {
        "processes": _table.processes_html(processes, selection.more_processes),
        "uploads": _table.uploads_html(uploads, selection.more_uploads),
        "files": _table.files_html(files, selection.more_files),
    }


def _row_appearance(tracked: Tracked, info: wire.ProcessInfo, feed: Feed) -> Appearance:
    return _appearance.process_appearance(
        info,
        offline=feed.offline,
        refusal=tracked.refusal,
        speed=None if feed.closed else tracked.speed,
    )


def tracked_appearance(feed: Feed, tracked: Tracked, hint: str = "", *, whole_log: bool = False) -> Appearance:
    """Return the card of a process of a feed. The caller holds the lock of the feed."""
    if tracked.info is None:
        return _appearance.unknown_process_appearance(tracked.id, feed.url, tracked.missing, feed.offline or feed.error)
    hint = CLOSED if feed.closed else hint
    return _appearance.process_appearance(
        tracked.info,
        speed=None if feed.closed else tracked.speed,
        lines=tracked.log if whole_log else tracked.lines,
        offline=feed.offline,
        offline_since=feed.offline_since,
        warning=feed.error,
        pending_verb=tracked.pending_verb,
        refusal=tracked.refusal,
        hint="" if tracked.info.has_ended else hint,
        verbs=frozenset() if feed.closed else tracked.verbs & frozenset(_appearance.VERBS),
        notify=tracked.notify,
    )
