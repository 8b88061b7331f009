"""Blocking calls in worker threads, off the event loop; those that are submitted in one iteration run as a batch."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SLOW_S = 0.001
"""Seconds after which the calls behind a slow one go on in another thread."""


class _Call(NamedTuple):
    future: asyncio.Future[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Worker:
    """A thread that runs tasks. While it is idle, only who wakes it touches it."""

    def __init__(self, threads: WorkerThreads, name: str) -> None:
        self.task: Callable[[], None] | None = None
        self.wake = threading.Lock()
        self.wake.acquire()
        self._threads = threads
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def _work(self) -> None:
        while True:
            self.wake.acquire()
            task, self.task = self.task, None
            if task is None:
                return  # woken to end
            while task is not None:
                task()
                task = self._threads.next_task(self)


class WorkerThreads:
    """A pool of threads. The one that became idle last is used first: its caches are still warm.

    A ThreadPoolExecutor wakes its threads in turn, and each task then takes ten calls of futex instead of two.
    """

    def __init__(self, most: int, name: str) -> None:
        self.closed = False
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._waiting: deque[Callable[[], None]] = deque()

    def submit(self, task: Callable[[], None]) -> None:
        """Run a task as soon as a thread is free; it must not raise. Raises `RuntimeError` when closed."""
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
                self._waiting.append(task)
                return
        worker.task = task
        worker.wake.release()

    def next_task(self, worker: _Worker) -> Callable[[], None] | None:
        """Return the task that waits longest, for a worker that has finished one; None makes it idle."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self.closed:
                worker.wake.release()
            else:
                self._idle.append(worker)
            return None

    @property
    def idle(self) -> int:
        """Return how many threads wait for a task."""
        return len(self._idle)

    def close(self) -> None:
        """Wait for every task, and end the threads."""
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.wake.release()
        for worker in self._workers:
            worker.thread.join()


class BlockingExecutor:
    """Runs blocking functions in threads. Those that are submitted in one iteration of the loop run as one batch.

    Handing work to a thread and back costs more than a small read does: two wake-ups, and contention for the GIL. The
    calls of a batch share that cost. When one of them turns out to be slow, those behind it go on in other threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = WorkerThreads(threads, name)
        self._pending: deque[_Call] = deque()

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Return a future with the result of a blocking function. For the event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._pending:
            loop.call_soon(self._submit_batch, loop)
        self._pending.append(_Call(future, function, args, kwargs))
        return future

    def close(self) -> None:
        """Wait for what is running, and end the threads."""
        self._threads.close()

    def _submit_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        calls, self._pending = self._pending, deque()
        batch = _Batch(calls, loop, self._threads)
        try:
            batch.submit()
        except RuntimeError as error:  # closed
            for call in calls:
                if not call.future.done():
                    call.future.set_exception(error)


class _Batch:
    """Calls that run together. Threads take them from the left; results wait for the loop to fetch them."""

    def __init__(self, calls: deque[_Call], loop: asyncio.AbstractEventLoop, threads: WorkerThreads) -> None:
        self._calls = calls
        self._loop = loop
        self._threads = threads
        self._results: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def submit(self) -> None:
        """Use one thread, and another one if calls still wait a little later. Raises `RuntimeError` when closed."""
        if len(self._calls) > 1:
            self._timer = self._loop.call_later(_SLOW_S, self._add_thread)
        self._threads.submit(self._run)

    def _add_thread(self) -> None:
        self._timer = None
        self._deliver()
        if self._calls:
            try:
                self.submit()
            except RuntimeError:
                pass  # closed: the thread that is at work takes them all

    def _run(self) -> None:
        """In a thread: make the calls that no other has taken."""
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
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _deliver(self) -> None:
        """On the loop: set the results that are there."""
        while self._results:
            future, result, error = self._results.popleft()
            if future.done():
                continue  # cancelled meanwhile
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if self._timer is not None and not self._calls:
            # A call that is still running is delivered by its own thread.
            self._timer.cancel()
            self._timer = None
