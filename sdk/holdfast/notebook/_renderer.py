"""Sends updates of widgets from a thread of its own, at most ten messages a second to the browser in all.

Feeds and transfers request a render from their threads. The renderer's thread asks each view for its updates and sends
those traits that differ, one message a widget. If a widget changes faster than messages may be sent, only its newest
values are sent. The kernel's loop has no part in it, so views move while a cell runs: ipykernel passes messages of any
thread on to its own thread for output (`IOPubThread.schedule`).
"""

from __future__ import annotations

import asyncio
import logging
import queue
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

_PROGRESS_MESSAGES = 7  # of those, so that a change of state never waits behind progress
_TICK = 0.1
_POLL_INTERVAL = 0.2  # seconds between renders of views that are polled
_IDLE_CHECK = 1.0  # seconds after which the thread sees that its last view was collected

_log = logging.getLogger(__name__)


class View(Protocol):
    """A view that the renderer keeps current. `polled` views are rendered again without a request."""

    polled: bool

    def render(self, update: UpdateWidget) -> None:
        """Pass every trait that has changed to `update`. Runs on the renderer's thread."""
        ...


class UpdateWidget(Protocol):
    """Queues traits for a widget. Urgent ones are sent before progress."""

    def __call__(self, widget: ipywidgets.Widget, *, urgent: bool = False, **traits: Any) -> None: ...


class Renderer:
    """Renders all open views of a kernel; nothing else assigns to their widgets. Every method is thread-safe.

    Its thread runs while there are views or calls. A request takes no lock, because feeds send theirs under their own.
    """

    def __init__(self) -> None:
        self._rendering = threading.RLock()  # held while views are rendered and updates are sent
        self._views: dict[int, weakref.ref[Any]] = {}
        self._queue: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()  # calls, and None to wake
        self._pending: dict[ipywidgets.Widget, tuple[bool, dict[str, Any]]] = {}
        self._sent_at: deque[float] = deque()
        self._requested = False
        self._polled = False
        self._last_tick = -_TICK
        self._tick_waiters: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def add(self, view: View) -> None:
        """Render `view` from now on, until it is removed or garbage-collected."""
        self._views[id(view)] = weakref.ref(view)
        self.request_render()

    def remove(self, view: View, *widgets: ipywidgets.Widget) -> None:
        """Stop rendering `view`, and drop the pending updates of these widgets. None is sent after the return."""
        with self._rendering:
            self._views.pop(id(view), None)
            for widget in widgets:
                self._pending.pop(widget, None)

    def request_render(self) -> None:
        """Render all views at the next tick."""
        if not self._requested:
            self._requested = True
            self._enqueue(None)

    def call(self, function: Callable[[], Any]) -> None:
        """Call `function` on the renderer's thread."""
        self._enqueue(function)

    async def next_tick(self) -> None:
        """Wait until the views have been rendered once more."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._tick_waiters.append((loop, future))
        self._enqueue(None)
        await future

    # -- the thread

    def _enqueue(self, function: Callable[[], Any] | None) -> None:
        self._queue.put(function)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="holdfast-renderer", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        while not self._ends():
            wait = self._time_to_next_tick()
            if wait <= 0:
                with self._rendering:
                    self._tick()
            try:
                function = self._queue.get(timeout=max(0.0, self._time_to_next_tick()))
            except queue.Empty:
                continue
            if function is not None:
                _call(function)
            del function  # it may refer to a view

    def _ends(self) -> bool:
        """Return whether there is nothing to do any more. The thread is given up then."""
        if self._is_needed():
            return False
        with self._starting:
            self._requested = False
            self._thread = None
            if not self._is_needed():  # after that: who sees no thread starts one, and here its request is seen
                return True
            self._requested, self._thread = True, threading.current_thread()
            return False

    def _is_needed(self) -> bool:
        return bool(self._views or self._pending or self._tick_waiters) or not self._queue.empty()

    def _time_to_next_tick(self) -> float:
        now = time.monotonic()
        if self._requested or self._pending or self._tick_waiters:
            return self._last_tick + _TICK - now
        return self._last_tick + (_POLL_INTERVAL if self._polled else _IDLE_CHECK) - now

    def _tick(self) -> None:
        """Render the views, those that are polled alone without a request, and send what may be sent now."""
        self._last_tick = time.monotonic()
        waiters, polled = len(self._tick_waiters), False
        requested, self._requested = self._requested or waiters > 0, False
        for key, reference in list(self._views.items()):
            view = reference()
            try:
                if view is not None:
                    if requested or view.polled:
                        view.render(self.update)
                    polled |= view.polled
                elif self._views.get(key) is reference:  # it was collected
                    del self._views[key]
            except Exception:  # a bug in one view must not stop the others
                self._views.pop(key, None)
                _log.exception("%r could not be rendered", view)
        self._polled = polled
        self._send()
        for _ in range(waiters):
            _resolve(*self._tick_waiters.popleft())

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
                try:
                    if assign_traits(widget, traits):
                        self._sent_at.append(now)
                except Exception:  # closed meanwhile, or an observer's own error: the others are sent all the same
                    _log.exception("%r could not be updated", widget)


def _call(function: Callable[[], Any]) -> None:
    try:
        function()
    except Exception:
        _log.exception("a call for a widget failed")


def _resolve(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(None))
    except RuntimeError:  # the loop is closed: nobody waits any more
        pass


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

    ipykernel (7.4) routes messages of a comm to the shell that the comm last sent from, which is the main thread's
    for every thread that is not a subshell.
    """
    if (comm := widget.comm) is not None:  # any thread may close a widget
        vars(comm).pop("_reply_subshell_id", None)


# -- the kernel

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


def kernel_renderer() -> Renderer:
    """Return the one renderer of this kernel."""
    global _current
    with _lock:
        if _current is None:
            _current = Renderer()
        return _current


def _shell() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()
