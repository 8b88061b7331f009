"""Panel of everything on a server: processes, uploads and files, with a filter and buttons for many at once."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from typing import Any, Literal

import ipywidgets

from holdfast._client.core import AnyClient, AnyCore, core_of
from holdfast.notebook._card import ICONS, WidgetTree
from holdfast.notebook._feed._feed import CLOSED, Feed
from holdfast.notebook._feed._registry import feed_of
from holdfast.notebook._feed._tracked import Tracked
from holdfast.notebook._html import _appearance, _table
from holdfast.notebook._html._appearance import VERBS, box_html
from holdfast.notebook._process import ProcessCard
from holdfast.notebook._renderer import NO_LIVE_UPDATES, UpdateWidget, kernel_renderer, needs_running_cell
from holdfast.wire import ENDED, State, Verb

Part = Literal["processes", "uploads", "files"]
ALL: tuple[Part, ...] = ("processes", "uploads", "files")

FIRST_ANSWER_TIMEOUT = 1.0
"""Seconds that a new panel waits for the first answer, so that it does not start empty."""

_RENDER_INTERVAL = 0.4  # least seconds between two renders of the tables
_CONFIRM_SECONDS = 6.0  # seconds in which a second click on Cancel confirms the first
_STATES = [("any state", ""), ("not ended", "live"), *((state.value, state.value) for state in State)]


@dataclass(frozen=True, slots=True)
class DashboardContent:
    """Content of a dashboard at one moment. `bulk` has the label of each button and the number of its processes."""

    head: str
    tables: dict[Part, str]
    alerts: str
    bulk: dict[Verb, tuple[str, int]]
    ids: tuple[str, ...]


class Dashboard(WidgetTree):
    """Live panel of everything on a server. It keeps no state: made again, it shows the same.

    Args:
        client: client of the server to show.
        parts: the tables to show.
    """

    def __init__(self, client: AnyClient | AnyCore, parts: Sequence[Part] = ALL) -> None:
        self._core = core_of(client)
        self._parts = tuple(parts)
        self._feed = feed_of(client)
        self._hint = NO_LIVE_UPDATES if needs_running_cell() else ""
        self._subscription = self._feed.subscribe(self, kernel_renderer().request_render)
        self._feed.listed.wait(FIRST_ANSWER_TIMEOUT)
        self._rows: dict[str, tuple[object, str]] = {}
        self._query = self._state = ""
        self._confirm_until = 0.0
        self._bulk_error = ""
        self._rendered: tuple[object, ...] | None = None
        self._rendered_at = 0.0
        self._deferred = False
        self._detail: ProcessCard | None = None
        self._shown = content = self._content()
        self._create_widgets(content)
        super().__init__(self._layout_rows(), layout={"padding": "6px 8px", "border": _BORDER, "margin": "2px 0"})
        self._start_rendering()

    @classmethod
    def of(cls, client: AnyClient | AnyCore, parts: Sequence[Part] = ALL) -> Dashboard:
        """Return the open panel of these parts, or a new one."""
        panels = _panels.setdefault(feed_of(client), weakref.WeakValueDictionary())
        panel = panels.get(tuple(parts))
        if panel is None or panel.comm is None:
            panel = panels[tuple(parts)] = cls(client, parts)
        return panel

    # -- widgets

    def _create_widgets(self, content: DashboardContent) -> None:
        me = weakref.ref(self)
        self._head = ipywidgets.HTML(content.head)
        style = self._head.style
        self._alerts = ipywidgets.HTML(content.alerts, style=style)
        scroll = ipywidgets.Layout(max_height="26em", overflow="auto", margin="2px 0")
        self._tables = {part: ipywidgets.HTML(content.tables[part], style=style, layout=scroll) for part in self._parts}
        self._filter = ipywidgets.Text(
            description="Filter", placeholder="part of a name or a note", layout={"width": "19em"}, style=_SNUG
        )
        self._filter.observe(partial(_filtered, me, "_query"), "value")
        self._choice = ipywidgets.Dropdown(options=_STATES, description="State", layout={"width": "11em"}, style=_SNUG)
        self._choice.observe(partial(_filtered, me, "_state"), "value")
        self._bulk = {verb: self._bulk_button(verb, content) for verb in VERBS}
        self._details = ipywidgets.Combobox(
            description="Details", placeholder="a process", options=content.ids, layout={"width": "19em"}, style=_SNUG
        )
        self._details.observe(partial(_chosen, me), "value")
        self._detail_slot = ipywidgets.VBox([])

    def _bulk_button(self, verb: Verb, content: DashboardContent) -> ipywidgets.Button:
        description, count = content.bulk[verb]
        button = ipywidgets.Button(
            description=description,
            icon=ICONS[verb],
            tooltip=f"{verb.capitalize()} all that the filter shows",
            disabled=not count,
            layout={"width": "auto"},
        )
        button.on_click(partial(_pressed, weakref.ref(self), verb))
        return button

    def _layout_rows(self) -> list[ipywidgets.Widget]:
        wrap = {"flex_flow": "row wrap", "align_items": "center"}
        rows: list[ipywidgets.Widget] = [self._head]
        if "processes" in self._parts:
            rows += [
                ipywidgets.HBox([self._filter, self._choice, *self._bulk.values()], layout=wrap),
                self._alerts,
                self._tables["processes"],
                self._details,
                self._detail_slot,
            ]
        else:
            rows += [self._filter, self._alerts]
        return rows + [self._tables[part] for part in self._parts if part != "processes"]

    def close(self) -> None:
        self._subscription.close()
        super().close()

    # -- rendering

    @property
    def polled(self) -> bool:  # type: ignore[override]
        """True while a render was deferred or a confirmation may expire."""
        return self._deferred or bool(self._confirm_until)

    def render(self, update: UpdateWidget) -> None:
        now = time.monotonic()
        if self._confirm_until and now > self._confirm_until:
            self._confirm_until = 0.0
        current = (self._feed.revision, self._query, self._state, self._confirm_until, self._bulk_error)
        if current == self._rendered:
            self._deferred = False
            return
        self._deferred = now - self._rendered_at < _RENDER_INTERVAL
        if self._deferred:
            return
        urgent = (
            self._rendered is None or current[1:] != self._rendered[1:]
        )  # a person did something and waits for the effect
        self._rendered, self._rendered_at = current, now
        content, shown = self._content(), self._shown
        self._shown = content
        if content.head != shown.head:
            update(self._head, value=content.head)
        if content.alerts != shown.alerts:
            update(self._alerts, urgent=True, value=content.alerts)
        for part, table in self._tables.items():
            if content.tables[part] != shown.tables[part]:
                update(table, urgent=urgent, value=content.tables[part])
        for verb, (description, count) in content.bulk.items():
            if content.bulk[verb] != shown.bulk[verb]:
                update(self._bulk[verb], urgent=urgent, description=description, disabled=not count)
        if content.ids != shown.ids:
            update(self._details, options=content.ids)

    def _content(self) -> DashboardContent:
        feed = self._feed
        with feed.lock:
            matching = self._matching()
            shown = matching[: _table.MAX_ROWS]
            rows = [self._row(tracked) for tracked in shown]
            tables: dict[Part, str] = {
                "processes": _table.processes_html(rows, len(matching) - len(rows)),
                **self._listing_tables(),
            }
            self._targets = {verb: [t.id for t in matching if verb in t.verbs and not feed.closed] for verb in VERBS}
            waiting = feed.offline or feed.error or (CLOSED if feed.closed else self._hint)
            return DashboardContent(
                head=self._head_html(),
                tables=tables,
                alerts=box_html(self._bulk_error, "bad") + box_html(waiting, "waiting"),
                bulk={verb: self._bulk_text(verb, len(ids)) for verb, ids in self._targets.items()},
                ids=tuple(tracked.id for tracked in shown),
            )

    def _matching(self) -> list[Tracked]:
        """Return the processes that match the filter: live ones first, then the newest."""
        query = self._query.lower()

        def fits(tracked: Tracked) -> bool:
            info = tracked.info
            if info is None or (self._state == "live" and info.state in ENDED):
                return False
            if self._state not in ("", "live", info.state):
                return False
            return query in f"{info.id} {info.work_type} {info.state} {info.progress.note}".lower()

        found = [tracked for tracked in self._feed.processes.values() if fits(tracked)]
        return sorted(found, key=_order)

    def _row(self, tracked: Tracked) -> str:
        key = (tracked.revision, self._feed.offline)
        known = self._rows.get(tracked.id)
        if known is None or known[0] != key:
            assert tracked.info is not None  # noqa: S101 - `_matching` checks it
            appearance = _appearance.process_appearance(
                tracked.info, offline=self._feed.offline, refusal=tracked.refusal
            )
            known = self._rows[tracked.id] = (key, _table.process_row(appearance, tracked.speed))
            if len(self._rows) > 4 * _table.MAX_ROWS:
                self._rows.clear()
        return known[1]

    def _listing_tables(self) -> dict[Part, str]:
        listing, query = self._feed.listing, self._query.lower()
        uploads = [upload for upload in listing.uploads.values() if query in _table.upload_name(upload).lower()]
        files = [file for name, file in sorted(listing.files.items()) if query in name.lower()]
        most = _table.MAX_ROWS
        upload_rows = [_table.upload_row(upload, listing.speeds.get(upload.id)) for upload in uploads[:most]]
        file_rows = [_table.file_row(file) for file in files[:most]]
        return {
            "uploads": _table.uploads_html(upload_rows, len(uploads) - most),
            "files": _table.files_html(file_rows, len(files) - most),
        }

    def _head_html(self) -> str:
        feed, counts = self._feed, dict.fromkeys(State, 0)
        for tracked in feed.processes.values():
            if tracked.info is not None:
                counts[tracked.info.state] += 1
        parts = [f"<b>{escape(feed.url)}</b>"]
        if feed.offline:
            parts.append(_table.badge("reconnecting", "waiting"))
        if "processes" in self._parts:
            parts += [
                _table.badge(f"{count} {state}", _appearance.TONE_OF[state]) for state, count in counts.items() if count
            ]
        if "files" in self._parts:
            more = "+" if feed.listing.more else ""
            uploads, files = len(feed.listing.uploads), len(feed.listing.files)
            parts.append(f"{_counted(uploads, 'upload')} · {_counted(files, 'file', more)}")
        return f'<div role="status" style="line-height:1.8">{" ".join(parts)}</div>'

    def _bulk_text(self, verb: Verb, count: int) -> tuple[str, int]:
        if verb == "cancel" and self._confirm_until and count:
            return f"Really cancel {count}?", count
        return f"{verb.capitalize()} {count}" if count else verb.capitalize(), count

    # -- clicks and choices, on any thread

    def press(self, verb: Verb) -> None:
        """Do what a click on the button of this verb does."""
        ids = self._targets[verb]
        if not ids:
            return
        if verb == "cancel" and len(ids) > 1 and not self._confirm_until:
            self._confirm_until = time.monotonic() + _CONFIRM_SECONDS  # one click must not cancel many
            self._request_render()
            return
        self.request(ids, verb)

    def request(self, ids: list[str], verb: Verb) -> None:
        """Send one request for these processes, and show what the server refuses."""
        self._confirm_until, self._bulk_error = 0.0, ""
        me = weakref.ref(self)

        def done(refusals: str) -> None:
            if (panel := me()) is not None:
                panel._bulk_error = refusals
                panel._request_render()

        self._feed.request_bulk(ids, verb, done)

    def choose(self, id: str) -> None:
        """Show the card of this process, or none. Callable from any thread."""
        self._renderer.call(partial(self._show_detail, id))

    def _show_detail(self, id: str) -> None:
        """Show the card of this process, or none. Runs on the renderer's thread."""
        if id not in self._feed.processes:
            self._detail_slot.children = ()
            return
        if self._detail is None:
            self._detail = ProcessCard(self._core, id)
        else:
            self._detail.show_process(id)
        self._detail_slot.children = (self._detail,)

    def _request_render(self) -> None:
        self._renderer.request_render()

    # -- without widgets

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        content = self._content()
        html = content.head + content.alerts + "".join(content.tables[part] for part in self._parts)
        at = _appearance.at_html(datetime.now(UTC))
        return {**(data or {}), "text/html": _table.standalone(html) + at, "text/plain": self._plain()}, metadata

    def _plain(self) -> str:
        feed = self._feed
        with feed.lock:
            lines = [feed.url, *filter(None, [feed.offline or feed.error])]
            if "processes" in self._parts:
                infos = [tracked.info for tracked in self._matching()[: _table.MAX_ROWS] if tracked.info]
                lines += [_appearance.plain(_appearance.process_appearance(info)).replace("\n", "  ") for info in infos]
            if "uploads" in self._parts:
                uploads = feed.listing.uploads.values()
                lines += [
                    f"upload {_table.upload_name(u)}: {_appearance.size(u.offset)} of {_appearance.size(u.length or 0)}"
                    for u in uploads
                ]
            if "files" in self._parts:
                lines += [f"file {file.name}: {_appearance.size(file.size)}" for file in feed.listing.files.values()]
        return "\n".join(lines)


_panels: weakref.WeakKeyDictionary[Feed, weakref.WeakValueDictionary[tuple[Part, ...], Dashboard]] = (
    weakref.WeakKeyDictionary()
)
_SNUG = {"description_width": "initial"}
_BORDER = "1px solid rgba(128,128,128,.35)"


def _counted(count: int, noun: str, more: str = "") -> str:
    return f"{count}{more} {noun}{'' if count == 1 else 's'}"


def _order(tracked: Tracked) -> tuple[bool, float]:
    info = tracked.info
    return (info is None or info.has_ended, -info.created.timestamp() if info is not None else 0.0)


def _filtered(panel: weakref.ref[Dashboard], name: str, change: Any) -> None:
    if (found := panel()) is not None:
        setattr(found, name, change["new"])
        found._request_render()


def _pressed(panel: weakref.ref[Dashboard], verb: Verb, button: ipywidgets.Button) -> None:
    if (found := panel()) is not None:
        found.press(verb)


def _chosen(panel: weakref.ref[Dashboard], change: Any) -> None:
    if (found := panel()) is not None:
        found.choose(change["new"])
