"""A card: one thing that can be paused, resumed and cancelled, with its bar and its buttons."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import ipywidgets

from holdfast.notebook._html import _appearance
from holdfast.notebook._html._appearance import VERBS, Look, Verb
from holdfast.notebook._renderer import RenderedView, Renderer, free_replies, pump

ICONS: dict[Verb, str] = {"pause": "pause", "resume": "play", "cancel": "times"}


class WidgetTree(ipywidgets.VBox):  # type: ignore[misc] # ipywidgets has no types
    """A box that closes everything in it when it is closed, and is kept up to date by the pump until then."""

    polled = False

    def __init__(self, children: list[ipywidgets.Widget], **traits: Any) -> None:
        super().__init__(children, **traits)
        self._pump: Renderer | None = None

    def _keep_up_to_date(self) -> None:
        for widget in _all_in(self):
            free_replies(widget)
        self._pump = pump()
        if self._pump is not None:
            self._pump.add(self)

    async def _next_tick(self) -> None:
        """Wait until the pump has been at work."""
        if self._pump is not None:
            await self._pump.next_tick()

    def close(self) -> None:
        """Take it off the page and let go of everything; the work itself goes on."""
        if self.comm is None:
            return
        widgets = list(_all_in(self))
        if self._pump is not None:
            self._pump.remove(self, *widgets)
            self._pump.wake()  # for who waits for the next tick
        super().close()
        for widget in widgets:
            if widget is not self:
                widget.close()


def _all_in(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _all_in(child)
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, ipywidgets.Widget):
            yield part


class Card(WidgetTree):
    """State, name, buttons, bar, facts, log and error of one thing. Shows what `look()` says; its buttons `ask`."""

    def __init__(self, look: Look) -> None:
        self._head = ipywidgets.HTML(_appearance.head_html(look), layout={"flex": "1 1 12em", "margin": "0"})
        style, layout = self._head.style, ipywidgets.Layout(margin="0 2px")
        self._meter = ipywidgets.HTML(_appearance.meter_html(look), layout=layout, style=style)
        self._lines = ipywidgets.HTML(_appearance.lines_html(look), layout=layout, style=style)
        self._trouble = ipywidgets.HTML(_appearance.trouble_html(look), layout=layout, style=style)
        self._buttons = buttons(look)
        me = weakref.ref(self)  # a card that nobody else holds goes, buttons and all
        for verb, button in self._buttons.items():
            button.on_click(partial(_press, me, verb))
        row = ipywidgets.HBox(
            [self._head, ipywidgets.HBox(list(self._buttons.values()))],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        frame = {"max_width": "46em", "padding": "6px 8px", "border": "1px solid rgba(128,128,128,.35)"}
        super().__init__([row, self._meter, self._lines, self._trouble], layout={**frame, "margin": "2px 0"})
        self._shown = look
        self._keep_up_to_date()

    @abstractmethod
    def look(self) -> Look:
        """What is to be shown now."""

    @abstractmethod
    def ask(self, verb: Verb) -> None:
        """Send a request; must not block, and may be called from any thread."""

    def has_changed(self) -> bool:
        """Whether a new look is worth asking for."""
        return True

    def render(self, put: RenderedView) -> None:
        """Put what differs from what is shown."""
        if not self.has_changed():
            return
        look, shown = self.look(), self._shown
        if look == shown:
            return
        self._shown = look
        put(self._meter, urgent=look.state != shown.state, value=_appearance.meter_html(look))
        if (look.state, look.title, look.kind) != (shown.state, shown.title, shown.kind):
            put(self._head, urgent=True, value=_appearance.head_html(look))
        if (look.trouble, look.warning) != (shown.trouble, shown.warning):
            put(self._trouble, urgent=True, value=_appearance.trouble_html(look))
        if look.lines != shown.lines:
            put(self._lines, value=_appearance.lines_html(look))
        for verb in look.verbs ^ shown.verbs:
            put(self._buttons[verb], urgent=True, disabled=verb not in look.verbs)
        if look.title != shown.title:
            for verb, widget in self._buttons.items():
                put(widget, tooltip=f"{verb.capitalize()} {look.title}")

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        look = self.look()
        html, text = _appearance.static_html(look, datetime.now(UTC)), _appearance.plain(look)
        data = {**(data or {}), "text/html": html, "text/plain": text}
        return data, metadata


def _press(card: weakref.ref[Card], verb: Verb, button: ipywidgets.Button) -> None:
    if (found := card()) is not None:
        found.ask(verb)


def buttons(look: Look) -> dict[Verb, ipywidgets.Button]:
    """A button a verb, each saying what it does to what."""
    style, layout = ipywidgets.ButtonStyle(), ipywidgets.Layout(width="auto", margin="1px 2px")
    return {
        verb: ipywidgets.Button(
            description=verb.capitalize(),
            icon=ICONS[verb],
            tooltip=f"{verb.capitalize()} {look.title}",
            disabled=verb not in look.verbs,
            layout=layout,
            style=style,
        )
        for verb in VERBS
    }
