"""Where attempts run. A place launches one and lends a handle on it; the driver inside is always the same."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from holdfast.work import Stopping, WorkType
from tornado_app.processes.executors import output
from tornado_app.processes.executors.driver import Attempt, Control, Drive, Failed, Outcome
from tornado_app.processes.work_context import WorkContext

log = logging.getLogger("holdfast.places")

_BEGINNING = 1.0  # seconds in which work that has yielded nothing yet may come to say how it is killed
_LOOK = 0.02

Ended = Callable[[Outcome], None]
"""Called once, on the loop, when the attempt is over."""


class Handle(Protocol):
    """One attempt that runs."""

    def stop(self, why: Stopping | None) -> None:
        """Ask it to stop at its next yield; None revokes that, if it has not stopped yet."""
        ...

    async def kill(self, grace: float) -> str | None:
        """End it without its consent. None when it could, else what would be right, as a sentence."""
        ...


class Place(Protocol):
    """Runs attempts."""

    def launch(self, work: WorkType, attempt: Attempt, control: Control, ended: Ended) -> Handle:
        """Start one. `control` is shared with the caller: it shows the newest safe point."""
        ...

    async def close(self) -> None:
        """Let go of what the place holds; what still runs is abandoned to the end of the server."""
        ...


class ThreadPlace:
    """A daemon thread for each attempt, kept for the next one. A thread can't be killed, what it waits for perhaps."""

    def __init__(self, services: WorkContext) -> None:
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = 0
        self._threads = 0
        self._lock = threading.Lock()

    def launch(self, work: WorkType, attempt: Attempt, control: Control, ended: Ended) -> Handle:
        """Run a plain generator."""
        handle = _ThreadHandle(control, ended)

        def run() -> None:
            outcome = Drive(work, attempt, control, self._services.to(attempt.owner)).run()
            try:
                self._loop.call_soon_threadsafe(handle.over, outcome)
            except RuntimeError:  # the loop is closed: the server has gone, and what was durable is what counts
                log.info("process %s ended after the server had stopped", attempt.id)

        with self._lock:
            if self._idle == 0:
                threading.Thread(target=self._serve, args=(run,), name=f"work-{self._threads + 1}", daemon=True).start()
                self._threads += 1
            else:
                self._idle -= 1
                self._work.put(run)
        return handle

    def _serve(self, first: Callable[[], None]) -> None:
        run: Callable[[], None] | None = first
        while run is not None:
            run()
            with self._lock:
                self._idle += 1
            run = self._work.get()

    async def close(self) -> None:
        """Idle threads end; a busy one ends after its work, or with the server."""
        with self._lock:
            for _ in range(self._threads):
                self._work.put(None)
        output.restore()


class _ThreadHandle:
    def __init__(self, control: Control, ended: Ended) -> None:
        self._control = control
        self._ended = ended
        self._over = asyncio.Event()
        self._killed = False

    def over(self, outcome: Outcome) -> None:
        """On the loop: the attempt is over."""
        self._over.set()
        self._ended(Failed("Killed", "it was killed") if self._killed and isinstance(outcome, Failed) else outcome)

    def stop(self, why: Stopping | None) -> None:
        self._control.stop(why)

    async def kill(self, grace: float) -> str | None:
        interrupts = self._control.interrupts
        until = time.monotonic() + _BEGINNING
        while (end := self._end()) is None and self._control.yields == 0 and time.monotonic() < until:
            with contextlib.suppress(TimeoutError):  # it may have just begun, and not say yet how it can be ended
                async with asyncio.timeout(_LOOK):
                    await self._over.wait()
                return None
        if end is None:
            return "a thread can't be killed: start it with place=process, or cancel it and wait for its next yield"
        self._killed = True
        for _ in range(2):
            await asyncio.to_thread(end)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._over.wait()
                return None
        self._killed = interrupts.killed = False
        return "what it waits for was ended, but it does not go on: cancel it and wait for its next yield"

    def _end(self) -> Callable[[], None] | None:
        interrupts = self._control.interrupts
        return self._control.on_kill or (interrupts.kill if interrupts.used else None)


class LoopPlace:
    """A task on the IOLoop for each async generator."""

    def __init__(self, services: WorkContext) -> None:
        self._services = services
        self._tasks: set[asyncio.Task[None]] = set()

    def launch(self, work: WorkType, attempt: Attempt, control: Control, ended: Ended) -> Handle:
        """Run an async generator."""
        handle = _LoopHandle(control)

        async def run() -> None:
            outcome = await Drive(work, attempt, control, self._services.to(attempt.owner)).run_async()
            ended(Failed("Killed", "it was killed") if handle.killed and isinstance(outcome, Failed) else outcome)

        handle.task = asyncio.get_running_loop().create_task(run(), name=f"work {attempt.id}")
        self._tasks.add(handle.task)
        handle.task.add_done_callback(self._tasks.discard)
        return handle

    async def close(self) -> None:
        """Cancel what is left: its last safe point is what counts."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)


class _LoopHandle:
    def __init__(self, control: Control) -> None:
        self._control = control
        self.task: asyncio.Task[None] | None = None
        self.killed = False

    def stop(self, why: Stopping | None) -> None:
        self._control.stop(why)

    async def kill(self, grace: float) -> str | None:
        assert self.task is not None  # noqa: S101 - launch sets it
        self.killed = True
        self.task.cancel()
        await asyncio.wait([self.task], timeout=grace)
        if self.task.done():
            return None
        self.killed = False
        return "it did not end when its task was cancelled: start it as a plain generator with place=process"
