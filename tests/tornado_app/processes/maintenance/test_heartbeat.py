"""Heartbeat of a server: it outlives every error, claims nothing without a lease, and is quiet and rare when alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from holdfast.wire import State
from tests.support.processes import reaches, start
from tornado_app import problems
from tornado_app.processes.journal.ownership import ServerLease
from tornado_app.processes.maintenance.heartbeat import ALONE, POLL
from tornado_app.processes.service import Engine


def raises(error: Exception) -> Callable[[object], bool]:
    def renew(connection: object) -> bool:
        raise error

    return renew


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and "lease" in r.getMessage()]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), problems.UNAVAILABLE("the journal does not answer")])
async def test_errors_are_logged_once_until_the_lease_is_renewed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    engine.lease.is_shared = True
    with monkeypatch.context() as patch:
        patch.setattr(engine.lease, "renew", raises(error))
        for _ in range(3):
            await engine.heartbeat.beat()
    (message,) = warnings(caplog)
    assert "can't be renewed" in message
    await engine.heartbeat.beat()
    assert warnings(caplog)[1:] == ["the lease of this server can be renewed again"]


async def test_a_lease_that_a_bug_keeps_from_being_renewed_is_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine.lease.is_shared = True
    monkeypatch.setattr(engine.lease, "renew", raises(RuntimeError("a bug")))
    monkeypatch.setattr(ServerLease, "is_safe", property(lambda lease: False))
    await engine.heartbeat.beat()
    assert "the lease of this server is lost" in caplog.text


async def test_a_server_that_is_alone_warns_of_no_lease(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine.lease, "renew", raises(problems.UNAVAILABLE("the journal does not answer")))
    await engine.heartbeat.beat()
    assert warnings(caplog) == []


@pytest.mark.parametrize(("shared", "seconds"), [(False, ALONE), (True, POLL)])
async def test_a_server_that_is_alone_beats_rarely(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, shared: bool, seconds: float
) -> None:
    asked = asyncio.get_running_loop().create_future()

    class Recorder:
        async def wait(self, timeout: float) -> None:
            asked.set_result(timeout)
            await asyncio.Event().wait()

    engine.lease.is_shared = shared
    monkeypatch.setattr(engine.journal, "notifications", Recorder())
    beating = asyncio.create_task(engine.heartbeat.run())
    assert await asked == seconds
    beating.cancel()


async def test_a_server_that_has_lost_its_lease_claims_nothing_in_that_very_transaction(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.queue.hold("lease")
    await start(engine, "p", "empty")
    with monkeypatch.context() as patch:
        patch.setattr(engine.lease, "renew", lambda connection: False)
        engine.queue.go_on("lease")
        await engine.heartbeat.beat()
    process = await engine.get("p")
    assert (process.state, process.attempt) == (State.QUEUED, 0)
    for _ in range(2):  # held again; then claim
        await engine.heartbeat.beat()
    await reaches(engine, "p", State.SUCCEEDED)
