"""Trips off the event loop: blocking calls in worker threads, those of one turn of the loop together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE_S = 0.001


class _Call(NamedTuple):
    future: asyncio.Future[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Trips:
    """Calls blocking functions in threads. What is asked for in one turn of the loop goes in one trip.

    Handing work to a thread and back costs more than a small read does: two wake-ups, and a struggle for the GIL. Calls
    of one turn share them. When one of them turns out to be slow, those behind it go on in other threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._asked: deque[_Call] = deque()

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """The result of a blocking function, to be awaited on the loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._depart, loop)
        self._asked.append(_Call(future, function, args, kwargs))
        return future

    def close(self) -> None:
        """Wait for what is under way, and end the threads."""
        self._executor.shutdown()

    def _depart(self, loop: asyncio.AbstractEventLoop) -> None:
        calls, self._asked = self._asked, deque()
        trip = _Trip(calls, loop, self._executor)
        try:
            trip.depart()
        except RuntimeError as error:  # closed
            for call in calls:
                if not call.future.done():
                    call.future.set_exception(error)


class _Trip:
    """Calls that go together. Threads take them from the left; results wait for the loop to fetch them."""

    def __init__(self, calls: deque[_Call], loop: asyncio.AbstractEventLoop, executor: Executor) -> None:
        self._calls = calls
        self._loop = loop
        self._executor = executor
        self._results: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def depart(self) -> None:
        """Send a thread; if calls are still waiting a little later, the next one. Raises `RuntimeError` when closed."""
        if len(self._calls) > 1:
            self._timer = self._loop.call_later(_PATIENCE_S, self._relieve)
        self._executor.submit(self._travel)

    def _relieve(self) -> None:
        self._timer = None
        self._arrive()
        if self._calls:
            try:
                self.depart()
            except RuntimeError:
                pass  # closed: the thread that is under way takes them all

    def _travel(self) -> None:
        """In a thread: make the calls that nobody has taken yet."""
        while True:
            try:
                future, function, args, kwargs = self._calls.popleft()
            except IndexError:
                break
            if future.cancelled():
                continue
            try:
                self._results.append((future, function(*args, **kwargs), None))
            except BaseException as error:
                self._results.append((future, None, error))
        try:
            self._loop.call_soon_threadsafe(self._arrive)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _arrive(self) -> None:
        """On the loop: hand over the results there are."""
        while self._results:
            future, result, error = self._results.popleft()
            if future.done():
                continue  # cancelled meanwhile
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if self._timer is not None and not self._calls:
            # What a thread still works on, it brings home itself.
            self._timer.cancel()
            self._timer = None
