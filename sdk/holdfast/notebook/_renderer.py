"""Applies updates to widgets on the kernel's loop, at most ten messages a second to the browser in all.

Feeds and transfers request a render from their threads. On the loop the renderer asks each view for its updates and
sends those traits that differ, one message a widget. If a widget changes faster than messages may be sent, only its
newest values are sent.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import ipywidgets

MESSAGES_PER_SECOND = 10
"""Most messages to the browser in any second. Each widget that changes is one."""

NO_LIVE_UPDATES = "this front end shows updates only while a cell runs"

_PROGRESS_MESSAGES = 7  # of those, so that a change of state never waits behind progress
_TICK = 0.1
_POLL_INTERVAL = 0.2  # seconds between renders of views that are polled


class View(Protocol):
    """A view that the renderer keeps current. `polled` views are rendered again without a request."""

    polled: bool

    def render(self, update: UpdateWidget) -> None:
        """Pass every trait that has changed to `update`. Runs on the kernel's loop, so it must be quick."""
        ...


class UpdateWidget(Protocol):
    """Queues traits for a widget. Urgent ones are sent before progress."""

    def __call__(self, widget: ipywidgets.Widget, *, urgent: bool = False, **traits: Any) -> None: ...


class Renderer:
    """Renders all open views of a kernel; nothing else assigns to their widgets."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._views: weakref.WeakSet[Any] = weakref.WeakSet()
        self._pending: dict[ipywidgets.Widget, tuple[bool, dict[str, Any]]] = {}
        self._sent_at: deque[float] = deque()
        self._requested = False
        self._timer: asyncio.TimerHandle | None = None
        self._last_tick = -_TICK
        self._tick_waiters: list[asyncio.Future[None]] = []

    def add(self, view: View) -> None:
        """Render `view` from now on, until it is removed or garbage-collected."""
        self._views.add(view)
        self.request_render()

    def remove(self, view: View, *widgets: ipywidgets.Widget) -> None:
        """Stop rendering `view`, and drop the pending updates of these widgets."""
        self._views.discard(view)
        self.call(lambda: [self._pending.pop(widget, None) for widget in widgets])

    def request_render(self) -> None:
        """Render all views at the next tick. Callable from any thread."""
        if not self._requested:
            self._requested = True
            self.call(self._schedule)

    def call(self, function: Callable[[], Any]) -> None:
        """Call `function` on the kernel's loop. Callable from any thread."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed: the kernel ends
            pass

    async def next_tick(self) -> None:
        """Wait, on the loop, until the views have been rendered once more."""
        future = self.loop.create_future()
        self._tick_waiters.append(future)
        await future

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_at(max(self.loop.time(), self._last_tick + _TICK), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._requested = False
        self._last_tick = self.loop.time()
        views = list(self._views)
        for view in views:
            try:
                view.render(self.update)
            except Exception as error:  # a bug in one view must not stop the others
                self._views.discard(view)
                self.loop.call_exception_handler({"message": f"{view!r} could not be rendered", "exception": error})
        self._send()
        for future in self._tick_waiters:
            if not future.done():
                future.set_result(None)
        self._tick_waiters.clear()
        if self._pending:
            self._schedule()
        elif any(view.polled for view in views):
            self._timer = self.loop.call_later(_POLL_INTERVAL, self._tick)

    def update(self, widget: ipywidgets.Widget, *, urgent: bool = False, **traits: Any) -> None:
        """Queue traits of `widget`, to be sent as soon as the message rate allows."""
        waiting_urgent, waiting = self._pending.get(widget, (False, {}))
        self._pending[widget] = (urgent or waiting_urgent, {**waiting, **traits})

    def _send(self) -> None:
        now = time.monotonic()
        while self._sent_at and now - self._sent_at[0] >= 1.0:
            self._sent_at.popleft()
        for send_urgent, most in ((True, MESSAGES_PER_SECOND), (False, _PROGRESS_MESSAGES)):
            for widget, (urgent, traits) in list(self._pending.items()):
                if urgent is not send_urgent:
                    continue
                if len(self._sent_at) >= most:
                    break
                del self._pending[widget]
                if assign_traits(widget, traits):
                    self._sent_at.append(now)


def assign_traits(widget: ipywidgets.Widget, traits: dict[str, Any]) -> bool:
    """Assign those traits that differ, in one message. Return whether there was any."""
    changed = {name: value for name, value in traits.items() if getattr(widget, name) != value}
    if not changed or widget.comm is None:
        return False
    with widget.hold_sync():
        for name, value in changed.items():
            setattr(widget, name, value)
    reset_reply_subshell(widget)
    return True


def reset_reply_subshell(widget: ipywidgets.Widget) -> None:
    """Let the front end choose where a click runs: on a subshell while a cell keeps the main thread busy.

    ipykernel (7.4) routes messages of a comm to the thread that the comm last sent from, which is always the main
    thread here.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)


# -- the kernel's loop

_current: Renderer | None = None
_lock = threading.Lock()


def kernel_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop of the kernel's main thread, else the running loop; None if there is neither."""
    kernel = getattr(_shell(), "kernel", None)
    loop = getattr(getattr(kernel, "io_loop", None), "asyncio_loop", None)
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def render_callback() -> Callable[[], None]:
    """Return a function that requests a render, callable from any thread. It holds no view."""
    renderer = kernel_renderer()
    return renderer.request_render if renderer is not None else _ignore


def _ignore() -> None:
    """Do nothing: there is no renderer."""


def kernel_renderer() -> Renderer | None:
    """Return the renderer of this kernel; None without a loop to render on."""
    global _current
    loop = kernel_loop()
    with _lock:
        if loop is None:
            return None
        if _current is None or _current.loop is not loop:
            _current = Renderer(loop)
        return _current


def needs_running_cell() -> bool:
    """Return whether the front end shows updates only while a cell runs (Colab does: googlecolab/colabtools#3373)."""
    return "google.colab" in sys.modules or kernel_loop() is None


def _shell() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()
