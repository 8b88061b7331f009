"""Body of a card, made of buttons and HTML."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import ipywidgets

from holdfast.notebook._html import _appearance
from holdfast.notebook._html._appearance import VERBS, Appearance
from holdfast.notebook._renderer import UpdateWidget
from holdfast.wire import Verb

ICONS: dict[Verb, str] = {"pause": "pause", "resume": "play", "cancel": "times"}
FRAME = {"padding": "6px 8px", "border": "1px solid rgba(128,128,128,.35)", "margin": "2px 0"}


class PlainCard:
    """State, name, buttons, bar, facts, log and error of one thing.

    Args:
        appearance: what to show first.
        request: called with the verb of a button that is clicked. It must not keep the card alive.
    """

    layout: ClassVar[dict[str, str]] = FRAME | {"max_width": "46em"}

    def __init__(self, appearance: Appearance, request: Callable[[Verb], None]) -> None:
        self._head = ipywidgets.HTML(_appearance.head_html(appearance), layout={"flex": "1 1 12em", "margin": "0"})
        style, layout = self._head.style, ipywidgets.Layout(margin="0 2px")
        self._meter = ipywidgets.HTML(_appearance.meter_html(appearance), layout=layout, style=style)
        self._lines = ipywidgets.HTML(_appearance.lines_html(appearance), layout=layout, style=style)
        self._alerts = ipywidgets.HTML(_appearance.alerts_html(appearance), layout=layout, style=style)
        self._buttons = buttons(appearance)
        for verb, button in self._buttons.items():
            button.on_click(partial(_on_click, request, verb))
        row = ipywidgets.HBox(
            [self._head, ipywidgets.HBox(list(self._buttons.values()))],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        self.children = [row, self._meter, self._lines, self._alerts]
        self._shown = appearance
        self._pace = appearance.pace()

    def render(self, update: UpdateWidget, new: Appearance) -> None:
        """Update the widgets whose content has changed."""
        shown, pace = self._shown, new.pace()
        if new == shown and pace == self._pace:
            return
        self._shown, self._pace = new, pace
        update(self._meter, urgent=new.state != shown.state, value=_appearance.meter_html(new))
        if (new.state, new.title, new.kind) != (shown.state, shown.title, shown.kind):
            update(self._head, urgent=True, value=_appearance.head_html(new))
        if (new.error, new.warning) != (shown.error, shown.warning):
            update(self._alerts, urgent=True, value=_appearance.alerts_html(new))
        if new.lines != shown.lines:
            update(self._lines, value=_appearance.lines_html(new))
        for verb in new.verbs ^ shown.verbs:
            update(self._buttons[verb], urgent=True, disabled=verb not in new.verbs)
        if new.title != shown.title:
            for verb, widget in self._buttons.items():
                update(widget, tooltip=f"{verb.capitalize()} {new.title}")


def _on_click(request: Callable[[Verb], None], verb: Verb, button: Any) -> None:
    request(verb)


def buttons(appearance: Appearance) -> dict[Verb, ipywidgets.Button]:
    """Return one button for each verb. Its tooltip names the verb and the thing."""
    style, layout = ipywidgets.ButtonStyle(), ipywidgets.Layout(width="auto", margin="1px 2px")
    return {
        verb: ipywidgets.Button(
            description=verb.capitalize(),
            icon=ICONS[verb],
            tooltip=f"{verb.capitalize()} {appearance.title}",
            disabled=verb not in appearance.verbs,
            layout=layout,
            style=style,
        )
        for verb in VERBS
    }
