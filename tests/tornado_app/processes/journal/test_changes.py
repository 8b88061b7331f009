"""Changes of a transaction: compare-and-set of rows, and events that are numbered densely, whoever writes them."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import Connection

from holdfast.wire import State
from tests.support.journals import JournalServer
from tornado_app.problems import CONFLICT, ProblemError
from tornado_app.processes.executors.attempt import Succeeded
from tornado_app.processes.journal.queries import ProcessRecord
from tornado_app.processes.journal.sqlite import SqliteDatabase, SqliteJournal
from tornado_app.processes.states import Cause

Two = tuple[JournalServer, JournalServer]


@pytest.fixture
async def two(shared: SqliteJournal) -> Two:
    """Return two servers on one journal."""
    found = JournalServer(shared, SqliteDatabase()), JournalServer(shared, SqliteDatabase())
    for server in found:
        await server(server.takeover.recover)
    return found


@pytest.mark.parametrize("change", [{"state": State.QUEUED}, {"attempt": 7}, {"owner": "another"}, {"owner": None}])
async def test_a_change_of_a_row_that_has_changed_meanwhile_is_refused(two: Two, change: dict[str, object]) -> None:
    first, _ = two
    await first.start("p")
    before = await first.row("p")
    stale = msgspec.structs.replace(before, **change)

    def set_note(connection: Connection) -> ProcessRecord:
        return first.transitions.changes.change(connection, stale, {"note": "changed"})

    with pytest.raises(ProblemError) as refusal:
        await first(set_note)
    assert refusal.value.kind is CONFLICT
    assert await first.row("p") == before


async def test_an_illegal_transition_changes_nothing(two: Two) -> None:
    first, _ = two
    await first.start("p")
    before = await first.row("p")
    with pytest.raises(ProblemError, match="cannot resume"):
        await first(lambda c: first.transitions.changes.move(c, before, Cause.RESUME))
    assert await first.row("p") == before


async def test_numbers_are_dense_and_each_server_is_given_those_of_the_other_first(two: Two) -> None:
    first, second = two
    await first.start("a")  # a start and a claim
    assert numbers(first) == ([], [1, 2])
    await second.start("b")
    assert numbers(second) == ([1, 2], [3, 4])
    await first(lambda c: first.transitions.ended(c, "a", 1, Succeeded(b"1"), None, False))
    assert numbers(first) == ([3, 4], [5])
    await second(second.transitions.poll)
    assert numbers(second) == ([5], [])
    await second(second.transitions.poll)
    assert second.batch is None, "nothing is new"


async def test_what_another_server_has_changed_comes_with_its_row_as_it_is_now(two: Two) -> None:
    first, second = two
    await first.start("a")
    await second(second.transitions.poll)
    assert second.batch is not None
    assert [(row.owner, event.state) for row, event in second.batch.others if row is not None] == [
        (first.lease.id, State.QUEUED),
        (first.lease.id, State.RUNNING),
    ]


async def test_what_is_rolled_back_counts_for_nothing(two: Two, shared: SqliteJournal) -> None:
    first, second = two

    def broken(connection: Connection) -> None:
        first.transitions.poll(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await first(broken)
    first.transitions.rolled_back()
    await second.start("b")
    await first.start("a")
    assert numbers(first) == ([1, 2], [3, 4])


def numbers(server: JournalServer) -> tuple[list[int | None], list[int | None]]:
    """Return the numbers of the events in the last transaction: of others, and its own."""
    assert server.batch is not None
    return [event.seq for _, event in server.batch.others], [event.seq for _, event in server.batch.changed]
