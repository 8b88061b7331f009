"""Card of one thing that can be paused, resumed and cancelled: its state, progress bar and buttons."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import ipywidgets

from holdfast.notebook._front_end import takes_modules
from holdfast.notebook._html import _appearance
from holdfast.notebook._html._appearance import VERBS, Appearance
from holdfast.notebook._html._saved import SavedAsHTML
from holdfast.notebook._plain._card import PlainCard
from holdfast.notebook._renderer import UpdateWidget, kernel_renderer, reset_reply_subshell
from holdfast.wire import Verb


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

    can_notify = False

    def __init__(self, appearance: Appearance) -> None:
        me = weakref.ref(self)  # the body must not keep a card alive that nothing else refers to
        if takes_modules():
            from holdfast.notebook._live._card import LiveCard

            self._body: LiveCard | PlainCard = LiveCard(appearance, self, can_notify=self.can_notify)
        else:
            self._body = PlainCard(appearance, partial(_request, me))
        super().__init__(self._body.children, layout=self._body.layout)
        self._start_rendering()

    @abstractmethod
    def appearance(self) -> Appearance:
        """Return what to show now."""

    @abstractmethod
    def request(self, verb: Verb) -> None:
        """Send a request. It does not block and is callable from any thread."""

    def set_notify(self, notify: bool) -> None:
        """Have the browser announce the end, or not."""

    def receive(self, message: dict[str, Any]) -> None:
        """Handle a message of the page."""
        if (verb := message.get("verb")) in VERBS:
            self.request(verb)
        elif isinstance(notify := message.get("notify"), bool):
            self.set_notify(notify)

    def has_changed(self) -> bool:
        """Return whether `appearance` may differ from what is shown."""
        return True

    def render(self, update: UpdateWidget) -> None:
        """Update what has changed."""
        if self.has_changed():
            self._body.render(update, self.appearance())

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        new = self.appearance()
        html, text = _appearance.static_html(new, datetime.now(UTC)), _appearance.plain(new)
        data = {**(data or {}), "text/html": html, "text/plain": text}
        return data, metadata


def _request(card: weakref.ref[Card], verb: Verb) -> None:
    if (found := card()) is not None:
        found.request(verb)
