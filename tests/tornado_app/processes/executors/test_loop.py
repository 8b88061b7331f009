"""Attempts as tasks on the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.executor_conformance import ExecutorConformance, RecordingSink, attempt_of
from tornado_app.processes.executors.loop import LoopExecutor
from tornado_app.processes.registry import Registry
from tornado_app.processes.work_context import WorkContext


@pytest.fixture
async def executor(registry: Registry, context: WorkContext) -> AsyncIterator[LoopExecutor]:
    executor = LoopExecutor(registry.get, context)
    yield executor
    await executor.close()


class TestLoopExecutor(ExecutorConformance):
    """The suite."""

    suffix = "-async"


async def test_what_is_left_is_cancelled_when_it_is_closed(registry: Registry, context: WorkContext) -> None:
    executor, sink = LoopExecutor(registry.get, context), RecordingSink()
    handle = executor.launch(attempt_of("bad-async", how="waits"), sink)
    await sink.progress()
    await executor.close()
    assert not handle.is_alive


async def test_a_kill_cancels_what_the_work_awaits(executor: LoopExecutor) -> None:
    sink = RecordingSink()
    handle = executor.launch(attempt_of("bad-async", how="waits"), sink)
    await sink.progress()
    assert await handle.kill(5) is None
    assert not handle.is_alive


async def test_an_unknown_work_type_is_not_launched(executor: LoopExecutor) -> None:
    with pytest.raises(LookupError, match="'moon'"):
        executor.launch(attempt_of("moon"), RecordingSink())
