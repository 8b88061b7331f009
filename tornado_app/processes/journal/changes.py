"""Changes of one transaction: rows by compare-and-set, and their events, which are numbered just before the commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, bindparam, insert, select, update

from holdfast.wire import Event, State
from tornado_app import problems
from tornado_app.processes.journal.interface import Database
from tornado_app.processes.journal.queries import (
    ATTEMPTING,
    COLUMNS,
    ProcessRecord,
    changes_between,
    event_of,
    kind,
    record,
)
from tornado_app.processes.journal.queue import Claim
from tornado_app.processes.journal.schema import DELETED, events, processes
from tornado_app.processes.states import Cause, step

# Statements are built once: building one costs more than running it.
_CHANGING = (
    "state", "attempt", "version", "failures", "started", "ended", "retry_at", "deadline", "done", "total", "note",
    "checkpoint", "result", "error", "crashes", "alone", "reached", "held", "owner",
)  # fmt: skip
_CHANGE = (
    update(processes)
    .where(
        processes.c.n == bindparam("of_n"),
        processes.c.attempt == bindparam("of_attempt"),
        processes.c.state == bindparam("of_state"),
        processes.c.owner.is_not_distinct_from(bindparam("of_owner")),
    )
    .values({name: bindparam(name) for name in _CHANGING})
)
_values = attrgetter(*_CHANGING)
_INSERT_EVENTS = insert(events)

Changed = tuple[ProcessRecord, Event]
"""A row as a transaction left it, and the event that says so."""


class Batch(msgspec.Struct):
    """Content of a committed transaction, for the loop.

    `others` are events of other servers, older than all of `changed`, each with its process as it is now, or None.
    `kills` are ids of attempts of this server that others have asked to kill.
    """

    claimed: list[Claim]
    changed: list[Changed]
    others: list[tuple[ProcessRecord | None, Event]]
    kills: list[str]


class Changes:
    """Changes of the transaction that is being written. `committed` or `rolled_back` ends it.

    `on_queued` is called when a row enters the queue. `events` are those of this transaction, with their rows, still
    without numbers. `newest` is the number of the newest event, of this server's or
    another's, that a committed transaction has returned.
    """

    def __init__(self, database: Database, owner: str, on_queued: Callable[[], None]) -> None:
        self.owner = owner
        self.newest = 0
        self._database = database
        self._on_queued = on_queued
        self.events: list[tuple[ProcessRecord, dict[str, Any]]] = []
        self._passed: int | None = None  # `newest`, once this transaction is committed

    def begin_at_newest(self, connection: Connection) -> None:
        """Pass over the events that are in the journal already."""
        self.newest = self._database.newest_number(connection, events)

    def all(self, connection: Connection, *where: ColumnElement[bool]) -> list[ProcessRecord]:
        """Return the rows that meet the conditions, the oldest first."""
        return [record(row) for row in connection.execute(select(*COLUMNS).where(*where).order_by(processes.c.n))]

    def move(self, connection: Connection, row: ProcessRecord, cause: Cause, **changes: Any) -> ProcessRecord:
        """Make a transition, with other changes of the row. What is no longer attempted has no owner.

        Raises:
            ProblemError: ILLEGAL_STATE, where the table has no such transition; CONFLICT.
        """
        before = row.state
        changes |= {"state": step(before, cause), "version": row.version + 1}
        if changes["state"] not in ATTEMPTING:
            changes["owner"] = None
        row = self.change(connection, row, changes)
        if row.state is State.QUEUED:
            self._on_queued()
        self.add_event(row, before)
        return row

    def change(self, connection: Connection, row: ProcessRecord, changes: dict[str, Any]) -> ProcessRecord:
        """Compare-and-set on (id, attempt, state, owner). Raises CONFLICT when the row is another one by now."""
        after = msgspec.structs.replace(row, **changes)
        values: dict[str, Any] = dict(zip(_CHANGING, _values(after), strict=True))
        mine = {"of_n": row.n, "of_attempt": row.attempt, "of_state": row.state.value, "of_owner": row.owner}
        if connection.execute(_CHANGE, values | mine).rowcount != 1:
            raise problems.CONFLICT(f"process {row.id!r} changed meanwhile. Look at it again", id=row.id)
        return after

    def add_event(self, row: ProcessRecord, before: State | None, state: str = "") -> None:
        """Write an event at the end of the transaction."""
        deleted = state == DELETED
        event = {
            "id": row.id,
            "time": time.time(),
            "state": state or row.state.value,
            "before": None if before is None else before.value,
            "attempt": row.attempt,
            "version": row.version,
            "error": None if deleted else row.error,
            "data": kind(row) if deleted else None,
        }
        self.events.append((row, event))

    def read_others(self, connection: Connection) -> list[tuple[ProcessRecord | None, Event]]:
        """Return the events of other servers since the last that was passed on, each with its process as it is now.

        Called once in a transaction.
        """
        self._passed = self._database.newest_number(connection, events)
        if self._passed == self.newest:
            return []
        found = changes_between(connection, self.newest, self._passed + 1)
        if any(event.state is State.QUEUED for _, event in found):
            self._on_queued()
        return found

    def write_events(self, connection: Connection) -> list[Changed]:
        """Number and write the events of this transaction. `read_others` comes before."""
        assert self._passed is not None  # noqa: S101 - the order of calls
        rows: list[dict[str, Any]] = []
        changed: list[Changed] = []
        for row, event in self.events:
            self._passed += 1
            event["seq"] = self._passed
            rows.append(event)
            changed.append((row, event_of(**event)))
        if rows:
            connection.execute(_INSERT_EVENTS, rows)
        return changed

    def committed(self) -> None:
        """Count what the transaction has written."""
        if self._passed is not None:
            self.newest = self._passed
        self.events, self._passed = [], None

    def rolled_back(self) -> None:
        """Forget the transaction."""
        self.events = []
        self._passed = None
