"""Reports that come too late or can't be read: they change nothing, and nobody else suffers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from multiprocessing.popen_forkserver import Popen
from typing import Any

import pytest
from sqlalchemy import Connection

from holdfast.wire import BulkRequest, State
from tests.support import work
from tests.support.processes import makes_progress, reaches, start, until
from tests.tornado_app.processes.conftest import Make
from tornado_app.processes.executors.attempt import Checkpoint, Failed, StoppedAttempt, Succeeded
from tornado_app.processes.journal import queries
from tornado_app.processes.journal.transitions import SafePoint
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine

POINT = SafePoint("p", 1, Checkpoint(9, 9, "late", b"9"), first=True)
LATE: dict[str, Callable[[Engine, Connection], Any]] = {
    "succeeded": lambda engine, c: engine.transitions.ended(c, "p", 1, Succeeded(b"1"), None, False),
    "failed": lambda engine, c: engine.transitions.ended(c, "p", 1, Failed("E", "late", retry=True), None, False),
    "stopped": lambda engine, c: engine.transitions.ended(c, "p", 1, StoppedAttempt(), POINT.point, False),
    "a checkpoint": lambda engine, c: engine.transitions.checkpoints(c, [POINT]),
    "undone": lambda engine, c: engine.transitions.rollback_ended(c, "p", 1, Succeeded(b"null")),
    "of nobody": lambda engine, c: engine.transitions.ended(c, "q", 1, Succeeded(b"1"), None, False),
    "of nobody's rollback": lambda engine, c: engine.transitions.rollback_ended(c, "q", 1, Succeeded(b"1")),
}


async def test_what_stopped_for_a_pause_that_was_then_revoked_queues_and_goes_on(make_engine: Make) -> None:
    engine = await make_engine(journal_interval=30)
    engine.queue._limits.clear()  # a work type that is full keeps the queue looked at
    await start(engine, "p", "bad", how="spins", place="process")
    await until(engine, "p", lambda p: p.version & 0xFFFFFF > 0)
    await engine.journal.write(lambda c: engine.transitions.ended(c, "p", 1, StoppedAttempt(), None, False))
    await until(engine, "p", lambda p: p.attempt == 2 and p.state == State.RUNNING)


@pytest.mark.parametrize("report", LATE)
@pytest.mark.parametrize("state", ["running", "paused", "queued", "cancelled"])
async def test_a_late_report_of_an_old_attempt_changes_nothing(make_engine: Make, report: str, state: str) -> None:
    engine = await make_engine(max_running=1, journal_interval=30)
    await start(engine, "p", "bad", how="spins", place="process")  # nothing else reports meanwhile
    await until(engine, "p", lambda p: p.version & 0xFFFFFF > 0)
    await engine.kill("p")
    await engine.resume("p")
    await until(engine, "p", lambda p: p.attempt == 2 and p.version & 0xFFFFFF > 0)
    if state in ("paused", "queued"):
        await engine.kill("p")
        await start(engine, "other", "bad", how="spins", place="process")
        await until(engine, "other", lambda p: p.state == State.RUNNING)
        await engine.resume("p")
        if state == "paused":
            await engine.pause("p")
    elif state == "cancelled":
        await engine.kill("p")
        await engine.cancel("p")
        await reaches(engine, "p", State.CANCELLED)

    def look(connection: Connection) -> queries.ProcessRecord:
        return queries.get(connection, "p")

    before, events = await engine.journal.read(look), await engine.events_after(0, BulkRequest())
    assert before.state == state
    assert not await engine.journal.write(lambda connection: LATE[report](engine, connection))
    assert await engine.journal.read(look) == before
    assert await engine.events_after(0, BulkRequest()) == events


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("sends_a_report_beyond_the_limit", "its process sent a report of 2147483647 bytes"),
        ("sends_a_report_that_is_none", "its process sent a report that can't be read"),
    ],
)
async def test_a_process_that_meddles_with_its_channel_is_ended(engine: Engine, how: str, words: str) -> None:
    await start(engine, "p", "bad", how=how, place="process")
    last = await reaches(engine, "p", State.FAILED)
    assert last.error is not None
    assert (last.error.type, last.error.message) == ("BadWork", words)
    await start(engine, "next", to=1, place="process")
    await reaches(engine, "next", State.SUCCEEDED)


async def test_work_that_another_process_cannot_load_says_so(make_engine: Make, registry: Registry) -> None:
    registry._modules["steps"] = "no.such.module"
    registry._modules["empty"] = "tests.support.processes"
    engine = await make_engine()
    for id, work_type, words in (("p", "steps", "No module named 'no'"), ("q", "empty", "has no work type 'empty'")):
        await start(engine, id, work_type, place="process")
        last = await reaches(engine, id, State.FAILED)
        assert last.error is not None
        assert "its code can't be loaded in a process of its own" in last.error.message
        assert words in last.error.message


@pytest.mark.usefixtures("no_backoff")
async def test_a_process_that_cannot_be_started_is_tried_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("multiprocessing.context.ForkServerProcess.start", refuse)
        await start(engine, "p", to=1, place="process", retries=1)
        last = await reaches(engine, "p", State.FAILED)
    assert last.attempt == 2
    assert last.error is not None
    assert "its OS process can't be started: [Errno 11]" in last.error.message
    await engine.resume("p")
    await reaches(engine, "p", State.SUCCEEDED)


async def test_a_bug_in_one_report_does_not_end_the_reports_of_all(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(engine.runner.reports, "_publish", bug)
        await start(engine, "p")
        await until(engine, "p", lambda p: "ZeroDivisionError" in caplog.text)
    await makes_progress(engine, "p", (await engine.get("p")).progress.done or 0)


async def test_a_kill_that_comes_while_the_process_starts_is_heard(engine: Engine) -> None:
    await start(engine, "p", "bad", how="spins", place="process")
    await until(engine, "p", lambda p: p.state == State.RUNNING)
    assert (await engine.kill("p")).state == State.FAILED
    assert work.RELEASE.is_set() is False


async def test_how_an_os_process_ended_is_read_by_one_thread_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads it second is told "exit status 255"."""
    asking: list[str] = []
    poll = Popen.poll

    def noted(popen: Popen, flag: int = os.WNOHANG) -> int | None:
        asking.append(threading.current_thread().name)
        return poll(popen, flag)

    monkeypatch.setattr(Popen, "poll", noted)
    await start(engine, "p", "bad", how="spins", place="process")
    await until(engine, "p", lambda p: p.version & 0xFFFFFF > 0)
    await start(engine, "q", to=1, place="process")  # to start one, multiprocessing looks at the others
    await reaches(engine, "q", State.SUCCEEDED)
    assert (await engine.kill("p")).state == State.FAILED
    assert len(set(asking)) == 1
