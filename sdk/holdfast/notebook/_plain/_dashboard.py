"""Body of a dashboard, made of fields, buttons and HTML tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import ipywidgets

from holdfast.notebook._html._appearance import VERBS
from holdfast.notebook._overview import STATES, Overview, tables_html
from holdfast.notebook._plain._card import FRAME, ICONS
from holdfast.notebook._renderer import UpdateWidget
from holdfast.notebook._selection import Part
from holdfast.wire import Verb

_SNUG = {"description_width": "initial"}


class PlainDashboard:
    """Fields for the filter and the state, buttons for all that is shown, and the tables.

    Args:
        overview: what to show first.
        send: gets what a person does, as the browser module says it. It must not keep the dashboard alive.
    """

    layout: ClassVar[dict[str, str]] = FRAME
    ages = True
    """The age of what does not move is a part of the HTML, so the tables are made again as it grows."""

    def __init__(self, overview: Overview, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._head = ipywidgets.HTML(overview.head_html())
        style = self._head.style
        self._alerts = ipywidgets.HTML(overview.alerts_html(), style=style)
        scroll = ipywidgets.Layout(max_height="26em", overflow="auto", margin="2px 0")
        self._html = tables_html(overview)
        self._tables = {part: ipywidgets.HTML(self._html[part], style=style, layout=scroll) for part in overview.parts}
        self._filter = ipywidgets.Text(
            description="Filter", placeholder="part of a name or a note", layout={"width": "19em"}, style=_SNUG
        )
        self._filter.observe(partial(_changed, send, "filter"), "value")
        self._state = ipywidgets.Dropdown(options=STATES, description="State", layout={"width": "11em"}, style=_SNUG)
        self._state.observe(partial(_changed, send, "state"), "value")
        self._bulk = {verb: _bulk_button(verb, overview, send) for verb in VERBS}
        self._details = ipywidgets.Combobox(
            description="Details",
            placeholder="a process",
            options=_ids(overview),
            layout={"width": "19em"},
            style=_SNUG,
        )
        self._details.observe(partial(_changed, send, "details"), "value")
        self._detail_slot = ipywidgets.VBox([])
        self.children = self._rows(overview.parts)

    def _rows(self, parts: tuple[Part, ...]) -> list[ipywidgets.Widget]:
        wrap = {"flex_flow": "row wrap", "align_items": "center"}
        rows: list[ipywidgets.Widget] = [self._head]
        if "processes" in parts:
            rows += [
                ipywidgets.HBox([self._filter, self._state, *self._bulk.values()], layout=wrap),
                self._alerts,
                self._tables["processes"],
                self._details,
                self._detail_slot,
            ]
        else:
            rows += [self._filter, self._alerts]
        return rows + [self._tables[part] for part in parts if part != "processes"]

    def show_detail(self, card: ipywidgets.Widget | None) -> None:
        """Show a card below the processes, or none."""
        self._detail_slot.children = () if card is None else (card,)

    def render(self, update: UpdateWidget, overview: Overview, urgent: bool) -> None:
        """Update the widgets whose content has changed."""
        update(self._head, value=overview.head_html())
        update(self._alerts, urgent=True, value=overview.alerts_html())
        html, shown = tables_html(overview), self._html
        self._html = html
        for part, table in self._tables.items():
            if html[part] != shown[part]:
                update(table, urgent=urgent, value=html[part])
        for verb, (description, count) in overview.bulk.items():
            update(self._bulk[verb], urgent=urgent, description=description, disabled=not count)
        update(self._details, options=_ids(overview))

    def beat(self, update: UpdateWidget) -> None:
        """Do nothing: this front end has no clock of its own."""


def _ids(overview: Overview) -> tuple[str, ...]:
    return tuple(tracked.id for tracked in overview.selection.processes)


def _bulk_button(verb: Verb, overview: Overview, send: Callable[[dict[str, Any]], None]) -> ipywidgets.Button:
    description, count = overview.bulk[verb]
    button = ipywidgets.Button(
        description=description,
        icon=ICONS[verb],
        tooltip=f"{verb.capitalize()} all that the filter shows",
        disabled=not count,
        layout={"width": "auto"},
    )
    button.on_click(partial(_pressed, send, verb))
    return button


def _pressed(send: Callable[[dict[str, Any]], None], verb: Verb, button: ipywidgets.Button) -> None:
    send({"bulk": verb})


def _changed(send: Callable[[dict[str, Any]], None], name: str, change: Any) -> None:
    send({name: change["new"]})
