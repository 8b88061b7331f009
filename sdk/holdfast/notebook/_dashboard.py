"""Panel of everything on a server: processes, uploads and files, with a filter and buttons for many at once."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from holdfast._client.core import AnyClient, AnyCore, core_of
from holdfast.notebook._card import WidgetTree
from holdfast.notebook._feed._feed import Feed, Subscription
from holdfast.notebook._feed._registry import feed_of
from holdfast.notebook._front_end import NO_LIVE_UPDATES, needs_running_cell, takes_modules
from holdfast.notebook._html import _appearance, _table
from holdfast.notebook._html._appearance import VERBS
from holdfast.notebook._overview import Overview
from holdfast.notebook._plain._dashboard import PlainDashboard
from holdfast.notebook._process import ProcessCard
from holdfast.notebook._renderer import UpdateWidget, kernel_renderer
from holdfast.notebook._selection import ALL, Part, ViewChoice, select
from holdfast.wire import Verb

FIRST_ANSWER_TIMEOUT = 1.0
"""Seconds that a new panel waits for the first answer, so that it does not start empty."""

_RENDER_INTERVAL = 0.4  # least seconds between two renders of the tables
_CONFIRM_SECONDS = 6.0  # seconds in which a second click on Cancel confirms the first


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
        self._choice = ViewChoice()
        self._targets: dict[Verb, list[str]] = {}
        self._confirm_until = 0.0
        self._bulk_error = ""
        self._rendered: tuple[object, ...] | None = None
        self._rendered_at = 0.0
        self._deferred = False
        self._detail: Subscription | None = None
        self._detail_card: ProcessCard | None = None
        with self._feed.lock:
            self._body = self._make_body(self._overview())
        super().__init__(self._body.children, layout=self._body.layout)
        self._start_rendering()

    def _make_body(self, overview: Overview) -> Any:
        if takes_modules():
            from holdfast.notebook._live._dashboard import LiveDashboard

            return LiveDashboard(overview, self)
        return PlainDashboard(overview, partial(_receive, weakref.ref(self)))

    @classmethod
    def of(cls, client: AnyClient | AnyCore, parts: Sequence[Part] = ALL) -> Dashboard:
        """Return the open panel of these parts, or a new one."""
        panels = _panels.setdefault(feed_of(client), weakref.WeakValueDictionary())
        panel = panels.get(tuple(parts))
        if panel is None or panel.comm is None:
            panel = panels[tuple(parts)] = cls(client, parts)
        return panel

    def close(self) -> None:
        self._subscription.close()
        if self._detail is not None:
            self._detail.close()
        super().close()

    # -- rendering

    @property
    def polled(self) -> bool:  # type: ignore[override]
        """True until the client is closed: what does not move gets older, and a confirmation expires."""
        return self._deferred or bool(self._confirm_until) or not self._feed.closed

    def render(self, update: UpdateWidget) -> None:
        now = time.monotonic()
        if self._confirm_until and now > self._confirm_until:
            self._confirm_until = 0.0
        age = int(now) if self._body.ages else 0
        by_hand = (self._choice.key(), self._confirm_until, self._bulk_error, self._detail)
        current = (self._feed.revision, age, *by_hand)
        if current == self._rendered:
            self._deferred = False
            self._body.beat(update)
            return
        urgent = self._rendered is None or by_hand != self._rendered[2:]  # a person waits for the effect
        self._deferred = not urgent and now - self._rendered_at < _RENDER_INTERVAL
        if self._deferred:
            return
        self._rendered, self._rendered_at = current, now
        with self._feed.lock:
            self._body.render(update, self._overview(), urgent)

    def _overview(self) -> Overview:
        """Return what to show now. The caller holds the lock of the feed."""
        selection = select(self._feed, self._choice)
        self._targets = selection.targets
        return Overview(
            feed=self._feed,
            parts=self._parts,
            choice=self._choice,
            selection=selection,
            bulk={verb: self._bulk_text(verb, len(ids)) for verb, ids in selection.targets.items()},
            error=self._bulk_error,
            hint=self._hint,
            detail=self._detail.tracked if self._detail is not None else None,
        )

    def _bulk_text(self, verb: Verb, count: int) -> tuple[str, int]:
        if verb == "cancel" and self._confirm_until and count:
            return f"Really cancel {count}?", count
        return f"{verb.capitalize()} {count}" if count else verb.capitalize(), count

    # -- clicks and choices, on any thread

    def receive(self, message: dict[str, Any]) -> None:
        """Handle what a person did on the page."""
        match message:
            case {"filter": str(text)}:
                self._choice.query = text
            case {"state": str(state)}:
                self._choice.state = state
            case {"sort": [str(part), str(column), bool(reverse)]}:
                self._choice.sort_by(part, column, reverse)
            case {"details": str(id)}:
                self.choose(id)
            case {"bulk": verb} if verb in VERBS:
                self.press(verb)
            case {"verb": verb, "id": str(id)} if verb in VERBS:
                self._feed.request(id, verb)
            case {"notify": bool(notify), "id": str(id)}:
                self._feed.set_notify(id, notify)
        self._renderer.request_render()

    def press(self, verb: Verb) -> None:
        """Do what a click on the button of this verb does."""
        ids = self._targets[verb]
        if not ids:
            return
        if verb == "cancel" and len(ids) > 1 and not self._confirm_until:
            self._confirm_until = time.monotonic() + _CONFIRM_SECONDS  # one click must not cancel many
            self._renderer.request_render()
            return
        self.request(ids, verb)

    def request(self, ids: list[str], verb: Verb) -> None:
        """Send one request for these processes, and show what the server refuses."""
        self._confirm_until, self._bulk_error = 0.0, ""
        me = weakref.ref(self)

        def done(refusals: str) -> None:
            if (panel := me()) is not None:
                panel._bulk_error = refusals
                panel._renderer.request_render()

        self._feed.request_bulk(ids, verb, done)

    def choose(self, id: str) -> None:
        """Show the details of this process, or none. Callable from any thread."""
        self._renderer.call(partial(self._show_detail, id))

    def _show_detail(self, id: str) -> None:
        """Show the details of this process, or none. Runs on the renderer's thread."""
        before, found = self._detail, id in self._feed.processes
        if isinstance(self._body, PlainDashboard):
            self._show_card(id if found else None)
        else:
            subscribe, request_render = self._feed.subscribe, self._renderer.request_render
            self._detail = subscribe(self, request_render, id) if found else None
            if before is not None:
                before.close()
        self._renderer.request_render()

    def _show_card(self, id: str | None) -> None:
        if id is not None and self._detail_card is None:
            self._detail_card = ProcessCard(self._core, id)
        elif id is not None and self._detail_card is not None:
            self._detail_card.show_process(id)
        self._body.show_detail(self._detail_card if id is not None else None)

    # -- without widgets

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        with self._feed.lock:
            overview = self._overview()
            html, text = _table.standalone(overview.html()) + _appearance.at_html(datetime.now(UTC)), overview.plain()
        return {**(data or {}), "text/html": html, "text/plain": text}, metadata


_panels: weakref.WeakKeyDictionary[Feed, weakref.WeakValueDictionary[tuple[Part, ...], Dashboard]] = (
    weakref.WeakKeyDictionary()
)


def _receive(panel: weakref.ref[Dashboard], message: dict[str, Any]) -> None:
    if (found := panel()) is not None:
        found.receive(message)
