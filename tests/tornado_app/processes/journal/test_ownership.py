"""Leases of servers, and what is taken over when one has expired: decisions alone, with a clock that the test sets."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import select

from holdfast.wire import State
from tests.support.journals import JournalServer, SetClock
from tornado_app.processes.executors.attempt import Checkpoint, Succeeded
from tornado_app.processes.journal import ownership
from tornado_app.processes.journal.ownership import ServerLease
from tornado_app.processes.journal.schema import kill_requests, servers
from tornado_app.processes.journal.sqlite import SqliteJournal
from tornado_app.processes.journal.transitions import SafePoint
from tornado_app.processes.states import Cause

Two = tuple[JournalServer, JournalServer]


@pytest.fixture
async def two(shared: SqliteJournal, database: SetClock) -> Two:
    """Two servers; the first runs the process `p`."""
    first, second = JournalServer(shared, database), JournalServer(shared, database)
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


async def test_without_others_all_earlier_servers_are_gone(two: Two, shared: SqliteJournal) -> None:
    alone = JournalServer(shared, SetClock())
    alone.lease.is_shared = False
    await alone(alone.takeover.recover)
    assert (await alone.row("p")).state == State.QUEUED, "it runs alone first: it may have ended its server"
    ids = await shared.read(lambda c: list(c.execute(select(servers.c.id)).scalars()))
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


async def test_a_kill_is_asked_for_anew_of_a_new_owner_and_what_the_dead_one_was_asked_is_gone(
    two: Two, shared: SqliteJournal, database: SetClock
) -> None:
    first, second = two
    await second(lambda c: second.transitions.ask(c, "p", Cause.CANCEL))
    row = await second.row("p")
    await second(lambda c: ownership.request_kill(c, row))
    await second(lambda c: ownership.request_kill(c, msgspec.structs.replace(row, owner=second.lease.id)))
    assert await first(lambda c: ownership.take_kills(c, first.lease.id)) == []
    assert await second(lambda c: ownership.take_kills(c, second.lease.id)) == ["p"]
    database.time += 11
    await first(first.lease.renew)
    await first(first.takeover.take_over)
    assert await shared.read(lambda c: list(c.execute(select(kill_requests.c.id)))) == []


async def test_two_reads_of_requests_in_one_transaction_lose_no_kill(two: Two) -> None:
    first, second = two
    row = await second.row("p")
    await second(lambda c: ownership.request_kill(c, row))
    await first(lambda c: (first.transitions.poll(c), first.transitions.poll(c)))
    assert first.batch is not None
    assert first.batch.kills == ["p"]


async def test_a_lease_that_was_not_renewed_for_two_thirds_is_not_safe(database: SetClock) -> None:
    lease = ServerLease(database, shared=True, seconds=1e-9)
    assert not lease.is_safe
    assert ServerLease(database, shared=False, seconds=1e-9).is_safe, "nobody else can take over"
    assert ServerLease(database, shared=True, seconds=1e9).is_safe
