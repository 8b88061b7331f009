"""Widget whose content is a JSON object. Changes go to the browser as merge patches (RFC 7396)."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any, Protocol

import anywidget
import traitlets

from holdfast.notebook._html._saved import SavedAsHTML
from holdfast.notebook._page import _bundle

Content = dict[str, Any]
"""A JSON object. No value in it is None, which removes a member in a merge patch."""

WHOLE_INTERVAL = 10.0
"""Seconds after which the whole content is sent again, for pages that missed a patch while the kernel was busy."""

MESSAGE_INTERVAL = 5.0
"""Most seconds between two messages of content that is `live`. The page says so when they stay away."""


class MessageReceiver(Protocol):
    """Owner of a view. It gets what the page sends."""

    def receive(self, message: dict[str, Any]) -> None:
        """Handle a message of the page. Runs on any thread and must not block."""


class LiveView(SavedAsHTML, anywidget.AnyWidget):
    """View of `content`. Assign a new content, and what differs is sent. Assign on one thread at a time.

    Args:
        content: the first content.
        receiver: gets the messages of the page. The view does not keep it alive.
    """

    _esm = _bundle.bundle("views/view.js")
    _css = _bundle.text("views/views.css")

    snapshot = traitlets.Any().tag(sync=True, to_json=lambda value, view: view._as_json())

    def __init__(self, content: Content, receiver: MessageReceiver) -> None:
        self._content, self._version = content, 0
        self._sending = threading.RLock()
        self._sent_at = self._whole_sent_at = time.monotonic()
        super().__init__()
        self.on_msg(_MessageHandler(self, receiver))

    def _as_json(self) -> dict[str, Any]:
        return {"version": self._version, "now": _now(), "content": self._content}

    @property
    def content(self) -> Content:
        """Content that the page shows."""
        return self._content

    @content.setter
    def content(self, content: Content) -> None:
        with self._sending:
            patch = merge_patch(self._content, content)
            if not patch:
                return
            base, self._version, self._content = self._version, self._version + 1, content
            self._sent_at = time.monotonic()
            self.send({"base": base, "version": self._version, "now": _now(), "patch": patch})
            if self._sent_at - self._whole_sent_at >= WHOLE_INTERVAL:
                self.send_whole()

    @property
    def is_current(self) -> bool:
        """Return whether the page has heard of this view lately. Assign True to send the whole content."""
        return not self._content.get("live") or time.monotonic() - self._sent_at < MESSAGE_INTERVAL

    @is_current.setter
    def is_current(self, wanted: bool) -> None:
        self.send_whole()

    def send_whole(self) -> None:
        """Send the whole content."""
        with self._sending:
            self._sent_at = self._whole_sent_at = time.monotonic()
            self.send_state("snapshot")


class _MessageHandler:
    """Passes messages on, with weak references, so that a view that nobody uses is collected."""

    def __init__(self, view: LiveView, receiver: MessageReceiver) -> None:
        self._view, self._receiver = weakref.ref(view), weakref.ref(receiver)

    def __call__(self, widget: Any, message: dict[str, Any], buffers: Any) -> None:
        view, receiver = self._view(), self._receiver()
        if view is None or receiver is None:
            return
        if message.get("whole"):
            view.send_whole()
        else:
            receiver.receive(message)


def _now() -> float:
    return round(time.monotonic(), 2)


def merge_patch(old: Content, new: Content) -> Content:
    """Return the merge patch (RFC 7396) that makes `old` into `new`. An array is replaced whole."""
    patch: Content = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        known = old.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            if inner := merge_patch(known, value):
                patch[key] = inner
        elif known != value or key not in old:
            patch[key] = value
    return patch
