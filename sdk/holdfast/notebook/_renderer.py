"""Brings views up to date on the kernel's loop, at most ten messages a second to the browser in all.

Feeds and transfers wake the pump from their threads; on the loop it asks every view what it would like to show, and
assigns what has changed, a widget a message. What changes faster than it may be sent is sent in its newest form.
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

MESSAGES = 10
"""Most messages to the browser in any second. Each widget that changes is one."""

STANDS_STILL = "this front end shows updates only while a cell runs"

_FOR_PROGRESS = 7  # of those, so that a change of state never waits for bars to move
_TICK = 0.1
_POLL = 0.2  # seconds between looks at what tells nothing by itself


class View(Protocol):
    """What the pump brings up to date."""

    polled: bool

    def render(self, put: RenderedView) -> None:
        """Put what it would like to show, if anything has changed. On the kernel's loop; must be quick."""
        ...


class RenderedView(Protocol):
    """Takes traits that a widget is to have."""

    def __call__(self, widget: ipywidgets.Widget, *, urgent: bool = False, **traits: Any) -> None: ...


class Renderer:
    """The only one who assigns to the widgets of views that are open."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._views: weakref.WeakSet[Any] = weakref.WeakSet()
        self._wanted: dict[ipywidgets.Widget, tuple[bool, dict[str, Any]]] = {}
        self._sent: deque[float] = deque()
        self._awake = False
        self._timer: asyncio.TimerHandle | None = None
        self._last = -_TICK
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, view: View) -> None:
        """Bring `view` up to date from now on, until it is removed or gone."""
        self._views.add(view)
        self.wake()

    def remove(self, view: View, *widgets: ipywidgets.Widget) -> None:
        """No longer; what waits to be sent to its widgets is dropped."""
        self._views.discard(view)
        self.call(lambda: [self._wanted.pop(widget, None) for widget in widgets])

    def wake(self) -> None:
        """Something has changed. From any thread."""
        if not self._awake:
            self._awake = True
            self.call(self._schedule)

    def call(self, function: Callable[[], Any]) -> None:
        """Have `function` called on the kernel's loop. From any thread."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed: the kernel ends
            pass

    async def next_tick(self) -> None:
        """Wait, on the loop, until views were brought up to date again."""
        future = self.loop.create_future()
        self._waiting.append(future)
        await future

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_at(max(self.loop.time(), self._last + _TICK), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._awake = False
        self._last = self.loop.time()
        views = list(self._views)
        for view in views:
            try:
                view.render(self.put)
            except Exception as error:  # a bug in one view must not stop the others
                self._views.discard(view)
                self.loop.call_exception_handler({"message": f"{view!r} can't be shown", "exception": error})
        self._send()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
        if self._wanted:
            self._schedule()
        elif any(view.polled for view in views):
            self._timer = self.loop.call_later(_POLL, self._tick)

    def put(self, widget: ipywidgets.Widget, *, urgent: bool = False, **traits: Any) -> None:
        """Have `widget` show these, as soon as there is room."""
        waiting_urgent, waiting = self._wanted.get(widget, (False, {}))
        self._wanted[widget] = (urgent or waiting_urgent, {**waiting, **traits})

    def _send(self) -> None:
        now = time.monotonic()
        while self._sent and now - self._sent[0] >= 1.0:
            self._sent.popleft()
        for wanted_urgent, most in ((True, MESSAGES), (False, _FOR_PROGRESS)):
            for widget, (urgent, traits) in list(self._wanted.items()):
                if urgent is not wanted_urgent:
                    continue
                if len(self._sent) >= most:
                    break
                del self._wanted[widget]
                if assign(widget, traits):
                    self._sent.append(now)


def assign(widget: ipywidgets.Widget, traits: dict[str, Any]) -> bool:
    """Set those traits that differ, in one message; whether there was any."""
    changed = {name: value for name, value in traits.items() if getattr(widget, name) != value}
    if not changed or widget.comm is None:
        return False
    with widget.hold_sync():
        for name, value in changed.items():
            setattr(widget, name, value)
    free_replies(widget)
    return True


def free_replies(widget: ipywidgets.Widget) -> None:
    """Let the front end choose where a click runs: on a subshell, that is, while a cell keeps the kernel busy.

    ipykernel (7.4) sends what a comm gets to where the comm last spoke from, which is always the main thread here.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)


# -- the kernel's loop

_pump: Renderer | None = None
_lock = threading.Lock()


def kernel_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of the kernel's main thread (or else the one that runs here); None where there is none."""
    kernel = getattr(_shell(), "kernel", None)
    loop = getattr(getattr(kernel, "io_loop", None), "asyncio_loop", None)
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def waker() -> Callable[[], None]:
    """What wakes the pump of this kernel, from any thread; holds no view."""
    found = pump()
    return found.wake if found is not None else _nothing


def _nothing() -> None:
    """There is nothing to wake."""


def pump() -> Renderer | None:
    """The pump of this kernel; None where nothing could be brought up to date."""
    global _pump
    loop = kernel_loop()
    with _lock:
        if loop is None:
            return None
        if _pump is None or _pump.loop is not loop:
            _pump = Renderer(loop)
        return _pump


def only_while_a_cell_runs() -> bool:
    """Whether the front end shows updates only while a cell runs (Colab does: googlecolab/colabtools#3373)."""
    return "google.colab" in sys.modules or kernel_loop() is None


def _shell() -> Any:
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()
