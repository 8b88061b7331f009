"""Leases of servers, and what is taken over when one has expired: decisions alone, with a clock that the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from holdfast.wire import State
from tornado_app.processes.executors.attempt import Checkpoint, Succeeded
from tornado_app.processes.journal import ownership, queries
from tornado_app.processes.journal.logs import ProcessLogs
from tornado_app.processes.journal.ownership import ServerLease, Takeover
from tornado_app.processes.journal.queries import ProcessRecord
from tornado_app.processes.journal.queue import ProcessQueue
from tornado_app.processes.journal.schema import servers
from tornado_app.processes.journal.sqlite import SqliteDatabase, SqliteJournal
from tornado_app.processes.journal.transitions import New, SafePoint, Transitions
from tornado_app.processes.states import Cause


class SetClock(SqliteDatabase):
    """SQLite with a clock that a test sets."""

    time = 100.0

    def now(self, connection: Connection) -> float:
        return self.time


class Server:
    """The decisions of one server, on a journal that several share. Each call is a transaction of its own."""

    def __init__(self, journal: SqliteJournal, database: SetClock, lease: float = 10.0) -> None:
        self._journal = journal
        self.lease = ServerLease(database, shared=True, seconds=lease)
        queue = ProcessQueue(10, {}, self.lease.id, shared=True)
        logs = ProcessLogs(database, 0, 0)
        self.transitions = Transitions(database, queue, self.lease.id, lambda name: True, logs)
        self.takeover = Takeover(self.transitions.changes, queue, self.lease, self.transitions.begin, 3)

    async def __call__(self, decision: Callable[[Connection], Any]) -> Any:
        def whole(connection: Connection) -> Any:
            answer = decision(connection)
            self.transitions.finish(connection)
            return answer

        answer = await self._journal.write(whole)
        self.transitions.committed()
        return answer

    async def start(self, id: str) -> None:
        new = New(id=id, work_type="t", params={}, place="thread", priority=0, labels={}, retries=0, deadline_s=None)
        await self(lambda connection: self.transitions.start(connection, new, lambda params: params))

    async def row(self, id: str) -> ProcessRecord:
        return await self._journal.read(lambda connection: queries.get(connection, id))


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    journal = SqliteJournal(tmp_path / "journal.sqlite", shared=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, journal.open, loop)
    yield journal
    await loop.run_in_executor(None, journal.close)


@pytest.fixture
def database() -> SetClock:
    return SetClock()


Two = tuple[Server, Server]


@pytest.fixture
async def two(journal: SqliteJournal, database: SetClock) -> Two:
    """Two servers; the first runs the process `p`."""
    first, second = Server(journal, database), Server(journal, database)
    await first(first.takeover.recover)
    await first.start("p")
    await second(second.takeover.recover)
    return first, second


async def test_a_claimed_process_is_its_servers_until_it_has_ended(two: Two) -> None:
    first, _ = two
    assert (await first.row("p")).owner == first.lease.id
    await first(lambda c: first.transitions.ended(c, "p", 1, Succeeded(b"1"), None, False))
    row = await first.row("p")
    assert (row.state, row.owner) == (State.SUCCEEDED, None)


@pytest.mark.parametrize(("passed", "taken"), [(9.0, False), (11.0, True), (-50.0, True)])
async def test_what_an_expired_server_ran_is_taken_over(
    two: Two, database: SetClock, passed: float, taken: bool
) -> None:
    """A clock that is far behind has begun anew: the machine was started again."""
    first, second = two
    database.time += passed
    await second(second.lease.renew)
    await second(second.takeover.take_over)
    row = await second.row("p")
    assert (row.owner == second.lease.id) is taken
    assert row.attempt == (2 if taken else 1)
    assert await first(first.lease.renew) is not taken


async def test_a_renewed_lease_lasts(two: Two, database: SetClock) -> None:
    first, second = two
    for _ in range(5):
        database.time += 6
        await first(first.lease.renew)
        await second(second.takeover.take_over)
    assert (await second.row("p")).owner == first.lease.id


async def test_reports_of_what_was_taken_over_change_nothing(two: Two, database: SetClock) -> None:
    first, second = two
    database.time += 11
    await second(second.takeover.take_over)
    before = await second.row("p")
    point = SafePoint("p", 1, Checkpoint(9, 9, "late", b"9"), first=True)
    assert await first(lambda c: first.transitions.checkpoints(c, [point])) == 0
    assert await first(lambda c: first.transitions.ended(c, "p", 1, Succeeded(b"1"), None, False)) is None
    assert await second.row("p") == before


async def test_a_rollback_is_taken_over_and_its_old_report_changes_nothing(two: Two, database: SetClock) -> None:
    first, second = two
    await second(lambda c: second.transitions.ask(c, "p", Cause.CANCEL))
    assert (await second.row("p")).owner == first.lease.id, "a request to the owner"
    database.time += 11
    (row,) = await second(second.takeover.take_over)
    assert (row.id, row.owner, row.state) == ("p", second.lease.id, State.CANCELLING)
    assert await first(lambda c: first.transitions.rollback_ended(c, "p", 1, Succeeded(b"null"))) is None
    assert await second(second.takeover.take_over) == []
    await second(lambda c: second.transitions.rollback_ended(c, "p", 1, Succeeded(b"null")))
    assert (await second.row("p")).state == State.CANCELLED


async def test_a_server_that_is_stopping_notes_only_what_it_runs(two: Two, database: SetClock) -> None:
    first, second = two
    await second.start("q")
    await second(second.takeover.stopping)
    assert (await second.row("q")).crashes < 0
    assert (await second.row("p")).crashes == 1
    await second(second.lease.release)
    await first(first.takeover.take_over)
    assert (await first.row("q")).owner == first.lease.id


async def test_without_others_all_earlier_servers_are_gone(two: Two, journal: SqliteJournal) -> None:
    alone = Server(journal, SetClock())
    alone.lease.is_shared = False
    await alone(alone.takeover.recover)
    assert (await alone.row("p")).state == State.QUEUED, "it runs alone first: it may have ended its server"
    ids = await journal.read(lambda c: list(c.execute(select(servers.c.id)).scalars()))
    assert ids == [alone.lease.id]


async def test_a_kill_is_asked_for_once_and_answered(two: Two) -> None:
    first, second = two
    row = await second.row("p")
    await second(lambda c: ownership.request_kill(c, row))
    await second(lambda c: ownership.request_kill(c, row))
    assert await second(lambda c: ownership.kill_answer(c, "p")) == (False, None)
    assert await second(lambda c: ownership.take_kills(c, second.lease.id)) == []
    assert await first(lambda c: ownership.take_kills(c, first.lease.id)) == ["p"]
    assert await first(lambda c: ownership.take_kills(c, first.lease.id)) == []
    await first(lambda c: ownership.answer_kill(c, "p", "it can't be"))
    assert await second(lambda c: ownership.kill_answer(c, "p")) == (True, "it can't be")
    await second(lambda c: ownership.request_kill(c, row))
    await first(lambda c: ownership.answer_kill(c, "p", None))
    assert await second(lambda c: ownership.kill_answer(c, "p")) == (True, None)


async def test_a_lease_that_was_not_renewed_for_two_thirds_is_not_safe(database: SetClock) -> None:
    lease = ServerLease(database, shared=True, seconds=1e-9)
    assert not lease.is_safe
    assert ServerLease(database, shared=False, seconds=1e-9).is_safe, "nobody else can take over"
    assert ServerLease(database, shared=True, seconds=1e9).is_safe
