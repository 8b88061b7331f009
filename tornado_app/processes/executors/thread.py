"""Executor that runs each attempt in a thread of the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable

from holdfast.work import Stopping
from tornado_app.processes.executors import output
from tornado_app.processes.executors.attempt import KILLED, Attempt, Failed, Outcome
from tornado_app.processes.executors.driver import AttemptDriver
from tornado_app.processes.executors.interface import AttemptHandle, AttemptSink, FindWork
from tornado_app.processes.work_context import WorkContext

log = logging.getLogger("holdfast.executors")

FIRST_YIELD = 1.0
"""Seconds that a kill waits for work that has not yielded yet to say how it can be ended."""

_POLL = 0.02  # seconds


class ThreadExecutor:
    """Daemon threads that are kept for later attempts. A thread can't be killed, but perhaps what it waits for can."""

    runs_async = False

    def __init__(self, find_work: FindWork, context: WorkContext) -> None:
        self._find_work = find_work
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = 0
        self._threads = 0
        self._lock = threading.Lock()

    def check_usable(self) -> None:
        """See `Executor`."""

    def launch(self, attempt: Attempt, sink: AttemptSink) -> AttemptHandle:
        """See `Executor`."""
        work = self._find_work(attempt.work_type)
        if work is None:
            raise LookupError(f"there is no work type {attempt.work_type!r}")
        driver = AttemptDriver(work, attempt, sink, self._context.for_attempt(attempt.owner, attempt.user))
        handle = _ThreadHandle(driver, sink)

        def run() -> None:
            outcome = driver.run()
            try:
                self._loop.call_soon_threadsafe(handle.end, outcome)
            except RuntimeError:  # the loop is closed: the server has stopped, and what was durable counts
                log.info("process %s ended after the server had stopped", attempt.id)

        with self._lock:
            if self._idle == 0:
                self._threads += 1
                name = f"work-{self._threads}"
                threading.Thread(target=self._serve, args=(run,), name=name, daemon=True).start()
            else:
                self._idle -= 1
                self._queue.put(run)
        return handle

    def _serve(self, first: Callable[[], None]) -> None:
        run: Callable[[], None] | None = first
        while run is not None:
            run()
            with self._lock:
                self._idle += 1
            run = self._queue.get()

    async def close(self) -> None:
        """End idle threads; a busy one ends after its attempt, or with the server."""
        with self._lock:
            for _ in range(self._threads):
                self._queue.put(None)
        output.restore()


class _ThreadHandle:
    def __init__(self, driver: AttemptDriver, sink: AttemptSink) -> None:
        self._driver = driver
        self._sink = sink
        self.is_alive = True
        self._end_seen: asyncio.Event | None = None  # made by a kill
        self._killed = False

    def end(self, outcome: Outcome) -> None:
        """Report the end of the attempt; called on the event loop."""
        self.is_alive = False
        if self._end_seen is not None:
            self._end_seen.set()
        self._sink.ended(KILLED if self._killed and isinstance(outcome, Failed) else outcome)

    def request_stop(self, why: Stopping | None) -> None:
        self._driver.request_stop(why)

    async def kill(self, grace: float) -> str | None:
        driver = self._driver
        self._end_seen = self._end_seen or asyncio.Event()
        until = time.monotonic() + FIRST_YIELD
        while (end_wait := driver.end_wait) is None and driver.yields == 0 and time.monotonic() < until:
            if await self._has_ended(_POLL):  # it may have just begun, and not have said yet how it can be ended
                return None
        if end_wait is None:
            return "a thread can't be killed: start it with place=process, or cancel it and wait for its next yield"
        self._killed = True
        for _ in range(2):
            await asyncio.to_thread(end_wait)
            if await self._has_ended(grace):
                return None
        self._killed = False
        driver.interrupts.revoke_kill()
        return "what it waits for was ended, but it does not go on: cancel it and wait for its next yield"

    async def _has_ended(self, timeout: float) -> bool:
        if self.is_alive and self._end_seen is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._end_seen.wait()
        return not self.is_alive
