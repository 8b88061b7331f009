"""Attempts in threads of the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest

from holdfast.work import Job, Progress, work_type
from tests.support.executor_conformance import ExecutorConformance, RecordingSink, attempt_of
from tests.support.processes import eventually
from tornado_app.processes.executors import thread
from tornado_app.processes.executors.attempt import KILLED, StoppedAttempt
from tornado_app.processes.executors.thread import ThreadExecutor
from tornado_app.processes.registry import Registry
from tornado_app.processes.work_context import WorkContext


@pytest.fixture
async def executor(registry: Registry, context: WorkContext) -> AsyncIterator[ThreadExecutor]:
    executor = ThreadExecutor(registry.get, context)
    yield executor
    await executor.close()


class TestThreadExecutor(ExecutorConformance):
    """The suite."""


async def test_a_kill_of_work_that_has_just_begun_waits_until_it_says_how_it_can_be_ended(
    registry: Registry, executor: ThreadExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread, "FIRST_YIELD", 60.0)
    may_say, ended = threading.Event(), threading.Event()

    @work_type("slow-to-begin")
    def work(job: Job[Any]) -> Generator[Progress, None, None]:
        may_say.wait(30)
        job.when_killed(ended.set)
        ended.wait(30)
        raise RuntimeError("ended")
        yield

    registry.add(work, __name__)
    sink = RecordingSink()
    handle = executor.launch(attempt_of("slow-to-begin"), sink)
    killing = asyncio.create_task(handle.kill(60.0))
    await asyncio.sleep(0)
    assert not killing.done()
    may_say.set()
    assert await killing is None
    assert await sink.outcome() == KILLED


async def test_a_kill_of_work_that_has_yielded_and_offers_no_way_is_refused_at_once(
    executor: ThreadExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread, "FIRST_YIELD", 60.0)
    sink = RecordingSink()
    handle = executor.launch(attempt_of("steps"), sink)
    await sink.progress()
    refusal = await handle.kill(60.0)
    assert refusal is not None
    assert refusal.startswith("a thread can't be killed: start it with place=process")
    handle.request_stop("pause")
    assert await sink.outcome() == StoppedAttempt()


async def test_a_thread_is_kept_for_the_next_attempt(executor: ThreadExecutor) -> None:
    for _ in range(5):
        sink = RecordingSink()
        executor.launch(attempt_of("steps", to=1, every=0), sink)
        await sink.outcome()
        await asyncio.sleep(0.01)
    names = [each.name for each in threading.enumerate() if each.name.startswith("work-")]
    assert len(names) <= 2


async def test_idle_threads_end_when_it_is_closed(registry: Registry, context: WorkContext) -> None:
    before = set(threading.enumerate())
    executor, sink = ThreadExecutor(registry.get, context), RecordingSink()
    executor.launch(attempt_of("steps", to=1, every=0), sink)
    await sink.outcome()
    await executor.close()
    await eventually(lambda: set(threading.enumerate()) <= before)


async def test_an_unknown_work_type_is_not_launched(executor: ThreadExecutor) -> None:
    with pytest.raises(LookupError, match="'moon'"):
        executor.launch(attempt_of("moon"), RecordingSink())
