"""Trips off the event loop: blocking calls in worker threads, those of one turn of the loop together."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE_S = 0.001


class _Call(NamedTuple):
    future: asyncio.Future[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Worker:
    """A thread that makes trips; while it is idle, nobody but who wakes it touches it."""

    def __init__(self, crew: WorkerThreads, name: str) -> None:
        self.trip: Callable[[], None] | None = None
        self.wake = threading.Lock()
        self.wake.acquire()
        self._crew = crew
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def _work(self) -> None:
        while True:
            self.wake.acquire()
            trip, self.trip = self.trip, None
            if trip is None:
                return  # woken for the end
            while trip is not None:
                trip()
                trip = self._crew.next(self)


class WorkerThreads:
    """At most so many threads. The one that came back last goes first: it is still warm.

    A ThreadPoolExecutor wakes its threads in turn, and every trip is then ten calls of futex instead of two.
    """

    def __init__(self, most: int, name: str) -> None:
        self.closed = False
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._waiting: deque[Callable[[], None]] = deque()

    def submit(self, trip: Callable[[], None]) -> None:
        """Make a trip as soon as a thread is free; it must not raise. Raises `RuntimeError` when closed."""
        with self._lock:
            if self.closed:
                raise RuntimeError("the threads have ended")
            if self._idle:
                worker = self._idle.pop()
            elif len(self._workers) < self._most:
                worker = _Worker(self, f"{self._name}_{len(self._workers)}")
                self._workers.append(worker)
                worker.thread.start()
            else:
                self._waiting.append(trip)
                return
        worker.trip = trip
        worker.wake.release()

    def next(self, worker: _Worker) -> Callable[[], None] | None:
        """What waits, for a worker that has come back; else it is idle."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self.closed:
                worker.wake.release()
            else:
                self._idle.append(worker)
            return None

    def close(self) -> None:
        """Wait for every trip, and end the threads."""
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.wake.release()
        for worker in self._workers:
            worker.thread.join()


class BlockingExecutor:
    """Calls blocking functions in threads. What is asked for in one turn of the loop goes in one trip.

    Handing work to a thread and back costs more than a small read does: two wake-ups, and a struggle for the GIL. Calls
    of one turn share them. When one of them turns out to be slow, those behind it go on in other threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._crew = WorkerThreads(threads, name)
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
        self._crew.close()

    def _depart(self, loop: asyncio.AbstractEventLoop) -> None:
        calls, self._asked = self._asked, deque()
        trip = _Trip(calls, loop, self._crew)
        try:
            trip.depart()
        except RuntimeError as error:  # closed
            for call in calls:
                if not call.future.done():
                    call.future.set_exception(error)


class _Trip:
    """Calls that go together. Threads take them from the left; results wait for the loop to fetch them."""

    def __init__(self, calls: deque[_Call], loop: asyncio.AbstractEventLoop, crew: WorkerThreads) -> None:
        self._calls = calls
        self._loop = loop
        self._crew = crew
        self._results: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def depart(self) -> None:
        """Send a thread; if calls are still waiting a little later, the next one. Raises `RuntimeError` when closed."""
        if len(self._calls) > 1:
            self._timer = self._loop.call_later(_PATIENCE_S, self._relieve)
        self._crew.submit(self._travel)

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
