"""Body of a dashboard, shown by the browser module."""

from __future__ import annotations

from typing import ClassVar

from holdfast.notebook._html import _appearance
from holdfast.notebook._live import _content
from holdfast.notebook._live._view import Content, LiveView, MessageReceiver
from holdfast.notebook._overview import STATES, Overview, tracked_appearance
from holdfast.notebook._renderer import UpdateWidget


class LiveDashboard:
    """Tables whose rows change in place.

    `receiver` gets `{"filter": …}`, `{"state": …}`, `{"sort": [table, column, reverse]}`, `{"details": id}`,
    `{"bulk": verb}`, `{"verb": …, "id": …}` and `{"notify": …, "id": …}`.
    """

    layout: ClassVar[dict[str, str]] = {"overflow": "visible"}
    ages = False
    """The page itself shows the age of what does not move."""

    def __init__(self, overview: Overview, receiver: MessageReceiver) -> None:
        self._view = LiveView(dashboard_content(overview), receiver)
        self.children = [self._view]

    def render(self, update: UpdateWidget, overview: Overview, urgent: bool) -> None:
        """Send what differs."""
        update(self._view, urgent=urgent, content=dashboard_content(overview))

    def beat(self, update: UpdateWidget) -> None:
        """Send now and then that it is still there."""
        if not self._view.is_current:
            update(self._view, is_current=True)


def dashboard_content(overview: Overview) -> Content:
    """Return the content of a dashboard as JSON."""
    feed, selection, choice = overview.feed, overview.selection, overview.choice
    content: Content = {
        "view": "dashboard",
        "live": not feed.closed,
        "url": feed.url,
        "parts": list(overview.parts),
        "states": [list(state) for state in STATES],
        "query": choice.query,
        "state": choice.state,
        "sort": {part: list(choice.sort[part]) for part in choice.sort},
        "error": overview.error,
        "waiting": overview.waiting,
        "offline": bool(feed.offline),
        "bulk": {verb: {"text": text, "count": count} for verb, (text, count) in overview.bulk.items()},
    }
    if feed.offline and feed.offline_since is not None:
        content["since"] = round(feed.offline_since, 1)
    if "processes" in overview.parts:
        content["counts"] = [[state, _appearance.TONE_OF[state], count] for state, count in selection.counts.items()]
        rows = [(t.id, _content.process_row(t, t.info)) for t in selection.processes if t.info is not None]
        content["processes"] = _content.table(rows, selection.more_processes)
    if "uploads" in overview.parts:
        speeds = feed.listing.speeds
        uploads = [(upload.id, _content.upload_row(upload, speeds.get(upload.id))) for upload in selection.uploads]
        content["uploads"] = _content.table(uploads, selection.more_uploads)
    if "files" in overview.parts:
        content["tally"] = overview.tally
        content["files"] = _content.table(
            [(file.name, _content.file_row(file)) for file in selection.files], selection.more_files
        )
    if overview.detail is not None:
        appearance = tracked_appearance(feed, overview.detail, whole_log=True)
        content["detail"] = {"id": overview.detail.id, "card": _content.card_content(appearance, can_notify=True)}
    return content
