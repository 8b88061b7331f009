"""Executor that runs each attempt of an async generator as a task on the event loop."""

from __future__ import annotations

import asyncio

from holdfast.work import Stopping
from tornado_app.processes.executors.attempt import KILLED, Attempt, Failed
from tornado_app.processes.executors.driver import AttemptDriver
from tornado_app.processes.executors.interface import AttemptHandle, AttemptSink, FindWork
from tornado_app.processes.work_context import WorkContext

_CANCELLATION = 1.0  # seconds that cancelled tasks have when the executor is closed


class LoopExecutor:
    """A task for each attempt."""

    runs_async = True

    def __init__(self, find_work: FindWork, context: WorkContext) -> None:
        self._find_work = find_work
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def check_usable(self) -> None:
        """See `Executor`."""

    def launch(self, attempt: Attempt, sink: AttemptSink) -> AttemptHandle:
        """See `Executor`."""
        work = self._find_work(attempt.work_type)
        if work is None:
            raise LookupError(f"there is no work type {attempt.work_type!r}")
        driver = AttemptDriver(work, attempt, sink, self._context.for_attempt(attempt.owner, attempt.user))
        handle = _LoopHandle(driver, sink)
        handle.task = self._loop.create_task(handle.run(), name=f"work {attempt.id}")
        self._tasks.add(handle.task)
        handle.task.add_done_callback(self._tasks.discard)
        return handle

    async def close(self) -> None:
        """Cancel the tasks that are left."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CANCELLATION)


class _LoopHandle:
    task: asyncio.Task[None]

    def __init__(self, driver: AttemptDriver, sink: AttemptSink) -> None:
        self._driver = driver
        self._sink = sink
        self._killed = False

    @property
    def is_alive(self) -> bool:
        return not self.task.done()

    async def run(self) -> None:
        outcome = await self._driver.run_async()
        self._sink.ended(KILLED if self._killed and isinstance(outcome, Failed) else outcome)

    def request_stop(self, why: Stopping | None) -> None:
        self._driver.request_stop(why)

    async def kill(self, grace: float) -> str | None:
        self._killed = True
        self.task.cancel()
        await asyncio.wait([self.task], timeout=grace)
        if self.task.done():
            return None
        self._killed = False
        return "it did not end when its task was cancelled: start it as a plain generator with place=process"
