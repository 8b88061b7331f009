"""The list of executors is open: one that the server does not know runs whole processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.wire import State
from tests.support.executor_conformance import ExecutorConformance, RecordingSink, attempt_of
from tests.support.processes import engine_on, makes_progress, reaches, shut, start, told
from tests.support.remote_executor import RemoteExecutor, RemoteHandle
from tornado_app.problems import ProblemError
from tornado_app.processes.executors.attempt import Succeeded
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.settings import Settings


@pytest.fixture
async def executor(registry: Registry) -> AsyncIterator[RemoteExecutor]:
    executor = RemoteExecutor(registry.get)
    yield executor
    await executor.close()


@pytest.fixture
async def remote(settings: Settings, registry: Registry) -> AsyncIterator[Engine]:
    """An engine with one executor more."""
    engine = engine_on(settings, registry, {"remote": lambda: RemoteExecutor(registry.get)})
    await engine.open()
    yield engine
    await shut(engine, 0.5)


class TestRemoteExecutor(ExecutorConformance):
    """The suite."""


async def test_of_two_runs_of_one_attempt_one_begins(executor: RemoteExecutor, trail: Path) -> None:
    sink = RecordingSink()
    handle = executor.launch(attempt_of("steps", to=5, every=0.001, trail=trail), sink)
    assert await sink.outcome() == Succeeded(b'{"at":5}')
    assert isinstance(handle, RemoteHandle)
    assert (handle.refused, len(sink.runs)) == (1, 2)
    assert told(trail) == ["run 1 0", "stop 1 5 None"]


async def test_a_process_is_paused_resumed_cancelled_and_rolled_back_in_it(remote: Engine, trail: Path) -> None:
    await start(remote, "p", place="remote", trail=trail)
    await makes_progress(remote, "p", 2)
    await remote.pause("p")
    paused = await reaches(remote, "p", State.PAUSED)
    at = int(paused.progress.done or 0)
    await remote.resume("p")
    await makes_progress(remote, "p", at)
    await remote.cancel("p")
    last = await reaches(remote, "p", State.CANCELLED)
    end = int(last.progress.done or 0)
    assert told(trail) == ["run 1 0", f"stop 1 {at} pause", f"run 2 {at}", f"stop 2 {end} cancel", f"undo 2 {end}"]
    assert last.place == "remote"


async def test_a_process_succeeds_and_fails_in_it(remote: Engine) -> None:
    await start(remote, "p", place="remote", to=3, every=0)
    assert (await reaches(remote, "p", State.SUCCEEDED)).result == {"at": 3}
    await start(remote, "q", place="remote", fails=1)
    error = (await reaches(remote, "q", State.FAILED)).error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "not yet")


async def test_what_it_can_not_do_is_said_by_its_own_words(remote: Engine) -> None:
    await start(remote, "p", place="remote")
    await makes_progress(remote, "p")
    with pytest.raises(ProblemError, match="this cluster can't kill"):
        await remote.kill("p")
    with pytest.raises(ProblemError, match="there are thread, loop, process, remote"):
        await start(remote, "q", place="moon")
    with pytest.raises(ProblemError, match="steps-async is an async generator, which does not run in place 'remote'"):
        await start(remote, "q", "steps-async", place="remote")
