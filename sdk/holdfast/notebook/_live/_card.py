"""Body of a card, shown by the browser module."""

from __future__ import annotations

from typing import ClassVar

from holdfast.notebook._html._appearance import Appearance
from holdfast.notebook._live._content import card_content
from holdfast.notebook._live._view import LiveView, MessageReceiver
from holdfast.notebook._renderer import UpdateWidget


class LiveCard:
    """Card of one thing. `receiver` gets `{"verb": …}` for a button and `{"notify": …}` for the bell."""

    layout: ClassVar[dict[str, str]] = {"max_width": "48em", "overflow": "visible"}

    def __init__(self, appearance: Appearance, receiver: MessageReceiver, *, can_notify: bool) -> None:
        self._can_notify = can_notify
        self._view = LiveView(card_content(appearance, can_notify=can_notify), receiver)
        self.children = [self._view]

    def render(self, update: UpdateWidget, new: Appearance) -> None:
        """Send what differs, and now and then that it is still there."""
        content, shown = card_content(new, can_notify=self._can_notify), self._view.content
        if content != shown:
            urgent = any(content[name] != shown[name] for name in ("state", "verbs", "error", "warning", "notify"))
            update(self._view, urgent=urgent, content=content)
        elif not self._view.is_current:
            update(self._view, is_current=True)
