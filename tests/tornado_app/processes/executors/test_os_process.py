"""Attempts in OS processes of their own, and what is sent to these."""

from __future__ import annotations

import dataclasses
import multiprocessing.reduction
from collections.abc import AsyncIterator

import pytest

from holdfast.work import Stopping
from tests.support import work
from tests.support.executor_conformance import ExecutorConformance, RecordingSink, attempt_of
from tests.support.processes import alive, eventually
from tests.support.servers import wait_until
from tornado_app.files.workspace import Workspace
from tornado_app.processes.executors.attempt import Failed, Succeeded
from tornado_app.processes.executors.os_process import OSProcessExecutor, OSProcessHandle
from tornado_app.settings import Settings


@pytest.fixture
async def executor(settings: Settings, workspace: Workspace) -> AsyncIterator[OSProcessExecutor]:
    executor = OSProcessExecutor(settings, workspace, lambda name: work.__name__)
    yield executor
    await executor.close()


@pytest.mark.slow
class TestOSProcessExecutor(ExecutorConformance):
    """The suite."""


async def test_no_token_is_sent_to_the_child(settings: Settings, workspace: Workspace) -> None:
    secret = dataclasses.replace(settings, token="hunter2-token", metrics_token="hunter2-metrics")
    executor = OSProcessExecutor(secret, workspace, lambda name: work.__name__)
    sent = multiprocessing.reduction.ForkingPickler.dumps(executor.task_of(attempt_of("steps")))
    assert b"tests.support.work" in bytes(sent)
    assert b"hunter2" not in bytes(sent)
    assert b"Settings" not in bytes(sent).replace(b"WorkSettings", b"")
    await executor.close()


async def test_a_kill_ends_the_child_by_sigterm(executor: OSProcessExecutor) -> None:
    sink = RecordingSink()
    handle = executor.launch(attempt_of("steps", every=0.01), sink)
    await sink.progress()
    assert await handle.kill(10) is None
    assert await sink.outcome() == Failed("Killed", "it was killed with SIGTERM")


async def test_what_is_left_is_killed_when_it_is_closed(settings: Settings, workspace: Workspace) -> None:
    executor, sink = OSProcessExecutor(settings, workspace, lambda name: work.__name__), RecordingSink()
    handle = executor.launch(attempt_of("steps", every=0.01), sink)
    await sink.progress()
    assert isinstance(handle, OSProcessHandle)
    assert handle.pid is not None
    await executor.close()
    assert not handle.is_alive
    assert not alive(handle.pid)


async def test_an_unknown_work_type_fails_the_attempt(executor: OSProcessExecutor) -> None:
    sink = RecordingSink()
    executor.launch(attempt_of("moon"), sink)
    outcome = await sink.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.message.endswith("module tests.support.work has no work type 'moon'")


@pytest.mark.slow
async def test_while_there_is_no_room_for_log_lines_the_child_waits(executor: OSProcessExecutor) -> None:
    sink = RecordingSink()
    sink.room = False
    executor.launch(attempt_of("flood", to=50_000), sink)
    await eventually(lambda: sink.asked > 3)
    assert len(sink.lines) < 50_000
    assert not sink.outcomes
    sink.room = True
    assert isinstance(await sink.outcome(), Succeeded)
    assert len(sink.lines) == 50_000


@pytest.mark.slow
@pytest.mark.parametrize("why", ["pause", "cancel", "shutdown"])
async def test_a_request_that_comes_when_its_os_process_has_ended_loses_nothing(
    executor: OSProcessExecutor, why: Stopping
) -> None:
    sink = RecordingSink()
    handle = executor.launch(attempt_of("steps", to=2, every=0.2), sink)
    await sink.progress()
    assert isinstance(handle, OSProcessHandle)
    pid = handle.pid
    assert pid is not None
    wait_until(lambda: not alive(pid))  # the loop stands still: no report is read before the request is sent
    handle.request_stop(why)
    assert await sink.outcome() == Succeeded(b'{"at":2}')
    assert sink.yields == 2
