"""Everything on a server in one panel: processes, uploads and files, with a filter and buttons for many at once."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import ipywidgets

from holdfast.notebook._card import ICONS, WidgetTree
from holdfast.notebook._feed._feed import CLOSED, Feed, feed_of
from holdfast.notebook._feed._tracked import Tracked
from holdfast.notebook._html import _appearance, _table
from holdfast.notebook._html._appearance import LEGAL, VERBS, Verb, box_html
from holdfast.notebook._process import ProcessCard
from holdfast.notebook._renderer import STANDS_STILL, RenderedView, only_while_a_cell_runs, waker
from holdfast.wire import ENDED, State

if TYPE_CHECKING:
    from holdfast._async.client import AsyncClient
    from holdfast._sync.client import Client

Part = Literal["processes", "uploads", "files"]
ALL: tuple[Part, ...] = ("processes", "uploads", "files")

FIRST = 1.0
"""Seconds that a new panel waits for the first answer, so that it does not begin empty."""

_DRAW = 0.4  # seconds between two drawings of the tables
_ARMED = 6.0  # seconds in which a second click on Cancel counts
_STATES = [("any state", ""), ("not ended", "live"), *((state.value, state.value) for state in State)]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a dashboard shows at one moment. `bulk` is the description of a button and how many it is for."""

    head: str
    tables: dict[Part, str]
    trouble: str
    bulk: dict[Verb, tuple[str, int]]
    ids: tuple[str, ...]


class Dashboard(WidgetTree):
    """A panel of all that is on a server, live. It owns nothing: made again it shows the same.

    Args:
        client: whose server it is.
        parts: what to show of it.
    """

    def __init__(self, client: Client | AsyncClient, parts: Sequence[Part] = ALL) -> None:
        self._client = client
        self._parts = tuple(parts)
        self._feed = feed_of(client)
        self._hint = STANDS_STILL if only_while_a_cell_runs() else ""
        self._follow = self._feed.follow(self, waker())
        self._feed.listed.wait(FIRST)
        self._rows: dict[str, tuple[object, str]] = {}
        self._query = self._state = ""
        self._armed_until = 0.0
        self._said = ""
        self._seen: tuple[object, ...] | None = None
        self._drawn_at = 0.0
        self._late = False
        self._detail: ProcessCard | None = None
        self._shown = drawn = self._draw()
        self._make(drawn)
        super().__init__(self._rows_of_widgets(), layout={"padding": "6px 8px", "border": _BORDER, "margin": "2px 0"})
        self._keep_up_to_date()

    @classmethod
    def of(cls, client: Client | AsyncClient, parts: Sequence[Part] = ALL) -> Dashboard:
        """The panel of these parts; the same one again while it is open, however often it is shown."""
        panels = _panels.setdefault(feed_of(client), weakref.WeakValueDictionary())
        panel = panels.get(tuple(parts))
        if panel is None or panel.comm is None:
            panel = panels[tuple(parts)] = cls(client, parts)
        return panel

    # -- widgets

    def _make(self, drawn: Drawn) -> None:
        me = weakref.ref(self)
        self._head = ipywidgets.HTML(drawn.head)
        style = self._head.style
        self._trouble = ipywidgets.HTML(drawn.trouble, style=style)
        scroll = ipywidgets.Layout(max_height="26em", overflow="auto", margin="2px 0")
        self._tables = {part: ipywidgets.HTML(drawn.tables[part], style=style, layout=scroll) for part in self._parts}
        self._filter = ipywidgets.Text(
            description="Filter", placeholder="part of a name or a note", layout={"width": "19em"}, style=_SNUG
        )
        self._filter.observe(partial(_filtered, me, "_query"), "value")
        self._choice = ipywidgets.Dropdown(options=_STATES, description="State", layout={"width": "11em"}, style=_SNUG)
        self._choice.observe(partial(_filtered, me, "_state"), "value")
        self._bulk = {verb: self._bulk_button(verb, drawn) for verb in VERBS}
        self._details = ipywidgets.Combobox(
            description="Details", placeholder="a process", options=drawn.ids, layout={"width": "19em"}, style=_SNUG
        )
        self._details.observe(partial(_chosen, me), "value")
        self._detail_slot = ipywidgets.VBox([])

    def _bulk_button(self, verb: Verb, drawn: Drawn) -> ipywidgets.Button:
        description, count = drawn.bulk[verb]
        button = ipywidgets.Button(
            description=description,
            icon=ICONS[verb],
            tooltip=f"{verb.capitalize()} all that the filter shows",
            disabled=not count,
            layout={"width": "auto"},
        )
        button.on_click(partial(_pressed, weakref.ref(self), verb))
        return button

    def _rows_of_widgets(self) -> list[ipywidgets.Widget]:
        wrap = {"flex_flow": "row wrap", "align_items": "center"}
        rows: list[ipywidgets.Widget] = [self._head]
        if "processes" in self._parts:
            rows += [
                ipywidgets.HBox([self._filter, self._choice, *self._bulk.values()], layout=wrap),
                self._trouble,
                self._tables["processes"],
                self._details,
                self._detail_slot,
            ]
        else:
            rows += [self._filter, self._trouble]
        return rows + [self._tables[part] for part in self._parts if part != "processes"]

    def close(self) -> None:
        self._follow.close()
        super().close()

    # -- drawing

    @property
    def polled(self) -> bool:  # type: ignore[override]
        """While there is something to draw once it is time."""
        return self._late or bool(self._armed_until)

    def render(self, put: RenderedView) -> None:
        now = time.monotonic()
        if self._armed_until and now > self._armed_until:
            self._armed_until = 0.0
        wanted = (self._feed.revision, self._query, self._state, self._armed_until, self._said)
        if wanted == self._seen:
            self._late = False
            return
        self._late = now - self._drawn_at < _DRAW
        if self._late:
            return
        urgent = self._seen is None or wanted[1:] != self._seen[1:]  # someone has done something, and waits for it
        self._seen, self._drawn_at = wanted, now
        drawn, shown = self._draw(), self._shown
        self._shown = drawn
        if drawn.head != shown.head:
            put(self._head, value=drawn.head)
        if drawn.trouble != shown.trouble:
            put(self._trouble, urgent=True, value=drawn.trouble)
        for part, table in self._tables.items():
            if drawn.tables[part] != shown.tables[part]:
                put(table, urgent=urgent, value=drawn.tables[part])
        for verb, (description, count) in drawn.bulk.items():
            if drawn.bulk[verb] != shown.bulk[verb]:
                put(self._bulk[verb], urgent=urgent, description=description, disabled=not count)
        if drawn.ids != shown.ids:
            put(self._details, options=drawn.ids)

    def _draw(self) -> Drawn:
        feed = self._feed
        with feed.lock:
            matching = self._matching()
            shown = matching[: _table.MOST_ROWS]
            rows = [self._row(tracked) for tracked in shown]
            tables: dict[Part, str] = {
                "processes": _table.processes_html(rows, len(matching) - len(rows)),
                **self._stock_tables(),
            }
            self._targets = {
                verb: [t.id for t in matching if t.info and verb in LEGAL[t.info.state] and not feed.closed]
                for verb in VERBS
            }
            waiting = feed.offline or feed.trouble or (CLOSED if feed.closed else self._hint)
            return Drawn(
                head=self._head_html(),
                tables=tables,
                trouble=box_html(self._said, "bad") + box_html(waiting, "waiting"),
                bulk={verb: self._bulk_text(verb, len(ids)) for verb, ids in self._targets.items()},
                ids=tuple(tracked.id for tracked in shown),
            )

    def _matching(self) -> list[Tracked]:
        """What the filter lets through: what has not ended first, then the newest."""
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
            assert tracked.info is not None  # noqa: S101 - `_matching` has seen to it
            look = _appearance.process_look(tracked.info, offline=self._feed.offline, refusal=tracked.refusal)
            known = self._rows[tracked.id] = (key, _table.process_row(look, tracked.speed))
            if len(self._rows) > 4 * _table.MOST_ROWS:
                self._rows.clear()
        return known[1]

    def _stock_tables(self) -> dict[Part, str]:
        stock, query = self._feed.stock, self._query.lower()
        uploads = [upload for upload in stock.uploads.values() if query in _table.upload_name(upload).lower()]
        files = [file for name, file in sorted(stock.files.items()) if query in name.lower()]
        most = _table.MOST_ROWS
        upload_rows = [_table.upload_row(upload, stock.speeds.get(upload.id)) for upload in uploads[:most]]
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
            more = "+" if feed.stock.more else ""
            uploads, files = len(feed.stock.uploads), len(feed.stock.files)
            parts.append(f"{_many(uploads, 'upload')} · {_many(files, 'file', more)}")
        return f'<div role="status" style="line-height:1.8">{" ".join(parts)}</div>'

    def _bulk_text(self, verb: Verb, count: int) -> tuple[str, int]:
        if verb == "cancel" and self._armed_until and count:
            return f"Really cancel {count}?", count
        return f"{verb.capitalize()} {count}" if count else verb.capitalize(), count

    # -- what people do; any thread

    def _press(self, verb: Verb) -> None:
        ids = self._targets[verb]
        if not ids:
            return
        if verb == "cancel" and len(ids) > 1 and not self._armed_until:
            self._armed_until = time.monotonic() + _ARMED  # many are not cancelled by one click
            self._wake()
            return
        self._armed_until, self._said = 0.0, ""
        me = weakref.ref(self)

        def done(said: str) -> None:
            if (panel := me()) is not None:
                panel._said = said
                panel._wake()

        self._feed.ask_all(ids, verb, done)

    def _choose(self, id: str) -> None:
        """On the kernel's loop: show the card of a process, or none."""
        if id not in self._feed.processes:
            self._detail_slot.children = ()
            return
        if self._detail is None:
            self._detail = ProcessCard(self._client, id)
        else:
            self._detail.turn_to(id)
        self._detail_slot.children = (self._detail,)

    def _wake(self) -> None:
        if self._pump is not None:
            self._pump.wake()

    # -- without widgets

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        drawn = self._draw()
        html = drawn.head + drawn.trouble + "".join(drawn.tables[part] for part in self._parts)
        at = _appearance.at_html(datetime.now(UTC))
        return {**(data or {}), "text/html": html + at, "text/plain": self._plain()}, metadata

    def _plain(self) -> str:
        feed = self._feed
        with feed.lock:
            lines = [feed.url, *filter(None, [feed.offline or feed.trouble])]
            if "processes" in self._parts:
                infos = [tracked.info for tracked in self._matching()[: _table.MOST_ROWS] if tracked.info]
                lines += [_appearance.plain(_appearance.process_look(info)).replace("\n", "  ") for info in infos]
            if "uploads" in self._parts:
                uploads = feed.stock.uploads.values()
                lines += [
                    f"upload {_table.upload_name(u)}: {_appearance.size(u.offset)} of {_appearance.size(u.length or 0)}"
                    for u in uploads
                ]
            if "files" in self._parts:
                lines += [f"file {file.name}: {_appearance.size(file.size)}" for file in feed.stock.files.values()]
        return "\n".join(lines)


_panels: weakref.WeakKeyDictionary[Feed, weakref.WeakValueDictionary[tuple[Part, ...], Dashboard]] = (
    weakref.WeakKeyDictionary()
)
_SNUG = {"description_width": "initial"}
_BORDER = "1px solid rgba(128,128,128,.35)"


def _many(count: int, what: str, more: str = "") -> str:
    return f"{count}{more} {what}{'' if count == 1 else 's'}"


def _order(tracked: Tracked) -> tuple[bool, float]:
    info = tracked.info
    return (info is None or info.has_ended, -info.created.timestamp() if info is not None else 0.0)


def _filtered(panel: weakref.ref[Dashboard], name: str, change: Any) -> None:
    if (found := panel()) is not None:
        setattr(found, name, change["new"])
        found._wake()


def _pressed(panel: weakref.ref[Dashboard], verb: Verb, button: ipywidgets.Button) -> None:
    if (found := panel()) is not None:
        found._press(verb)


def _chosen(panel: weakref.ref[Dashboard], change: Any) -> None:
    if (found := panel()) is not None and found._pump is not None:
        found._pump.call(partial(found._choose, change["new"]))
