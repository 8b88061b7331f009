"""Card of one thing that can be paused, resumed and cancelled: its state, progress bar and buttons."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import ipywidgets

from holdfast.notebook._html import _appearance
from holdfast.notebook._html._appearance import VERBS, Appearance
from holdfast.notebook._html._saved import SavedAsHTML
from holdfast.notebook._renderer import UpdateWidget, kernel_renderer, reset_reply_subshell
from holdfast.wire import Verb

ICONS: dict[Verb, str] = {"pause": "pause", "resume": "play", "cancel": "times"}


class WidgetTree(SavedAsHTML, ipywidgets.VBox):  # type: ignore[misc] # ipywidgets has no types
    """A box that the renderer keeps current until it is closed. Closing it closes every widget in it."""

    polled = False

    def __init__(self, children: list[ipywidgets.Widget], **traits: Any) -> None:
        super().__init__(children, **traits)
        self._renderer = kernel_renderer()

    def _start_rendering(self) -> None:
        for widget in self.widgets():
            reset_reply_subshell(widget)
        self._renderer.add(self)

    async def _next_tick(self) -> None:
        """Wait until the renderer has run once more."""
        await self._renderer.next_tick()

    def widgets(self) -> Iterator[ipywidgets.Widget]:
        """Yield this widget and every widget in it, with their layouts and styles."""
        return _widgets_of(self)

    def close(self) -> None:
        """Remove it from the page and close its widgets. The work itself continues."""
        if self.comm is None:
            return
        widgets = list(self.widgets())
        self._renderer.remove(self, *widgets)
        self._renderer.request_render()  # for coroutines that wait for the next tick
        super().close()
        for widget in widgets:
            if widget is not self:
                widget.close()


def _widgets_of(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _widgets_of(child)
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, ipywidgets.Widget):
            yield part


class Card(WidgetTree):
    """State, name, buttons, bar, facts, log and error of one thing.

    It shows `appearance()`. A click on a button calls `request`.
    """

    def __init__(self, appearance: Appearance) -> None:
        self._head = ipywidgets.HTML(_appearance.head_html(appearance), layout={"flex": "1 1 12em", "margin": "0"})
        style, layout = self._head.style, ipywidgets.Layout(margin="0 2px")
        self._meter = ipywidgets.HTML(_appearance.meter_html(appearance), layout=layout, style=style)
        self._lines = ipywidgets.HTML(_appearance.lines_html(appearance), layout=layout, style=style)
        self._alerts = ipywidgets.HTML(_appearance.alerts_html(appearance), layout=layout, style=style)
        self._buttons = buttons(appearance)
        me = weakref.ref(self)  # the buttons must not keep a card alive that nothing else refers to
        for verb, button in self._buttons.items():
            button.on_click(partial(_on_click, me, verb))
        row = ipywidgets.HBox(
            [self._head, ipywidgets.HBox(list(self._buttons.values()))],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        frame = {"max_width": "46em", "padding": "6px 8px", "border": "1px solid rgba(128,128,128,.35)"}
        super().__init__([row, self._meter, self._lines, self._alerts], layout={**frame, "margin": "2px 0"})
        self._shown = appearance
        self._start_rendering()

    @abstractmethod
    def appearance(self) -> Appearance:
        """Return what to show now."""

    @abstractmethod
    def request(self, verb: Verb) -> None:
        """Send a request. It does not block and is callable from any thread."""

    def has_changed(self) -> bool:
        """Return whether `appearance` may differ from what is shown."""
        return True

    def render(self, update: UpdateWidget) -> None:
        """Update the widgets whose content has changed."""
        if not self.has_changed():
            return
        new, shown = self.appearance(), self._shown
        if new == shown:
            return
        self._shown = new
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

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        new = self.appearance()
        html, text = _appearance.static_html(new, datetime.now(UTC)), _appearance.plain(new)
        data = {**(data or {}), "text/html": html, "text/plain": text}
        return data, metadata


def _on_click(card: weakref.ref[Card], verb: Verb, button: ipywidgets.Button) -> None:
    if (found := card()) is not None:
        found.request(verb)


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
