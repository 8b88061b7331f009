"""Retention: what the journal forgets, when it is asked to or when it has ended long ago by the journal's own time."""

from __future__ import annotations

import time
from collections.abc import Collection

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from holdfast.wire import ENDED
from tornado_app import fault_points, problems
from tornado_app.clocks import steady
from tornado_app.processes.journal.changes import Changes
from tornado_app.processes.journal.interface import Database
from tornado_app.processes.journal.logs import ProcessLogs
from tornado_app.processes.journal.queries import COLUMNS, ProcessRecord, get, record, stager
from tornado_app.processes.journal.schema import (
    DELETED,
    DELETIONS,
    clock,
    events,
    labels,
    processes,
    staged_by_deleted,
)

# By the index of ends alone: with the states named, SQLite would go through all that ever ended.
ENDED_BEFORE = select(*COLUMNS).where(processes.c.ended < bindparam("before")).limit(500)
_DELETE_STAGED = delete(staged_by_deleted).where(staged_by_deleted.c.owner == bindparam("gone"))

_FASTEST = 60.0
_SAVE_EVERY = 600.0
_NEWEST = select(func.max(events.c.time))


class JournalClock:
    """A clock that is never ahead of the wall's, and that a leap of it moves by no more than sixty times real time.

    So a clock that is weeks ahead for a minute makes nothing older than an hour; one that stays there, as after weeks
    in which no server ran, is believed within hours. It is kept in the journal. Belongs to the journal's writer.
    """

    def __init__(self) -> None:
        self._seen: float | None = None
        self._read_at = 0.0
        self._saved: float | None = None

    def now(self, connection: Connection) -> float:
        """Return seconds since the epoch, and write them down now and then."""
        wall, read_at = time.time(), steady()
        if self._seen is None:
            self._saved = connection.execute(select(clock.c.seen)).scalar()
            newest = self._saved if self._saved is not None else connection.execute(_NEWEST).scalar()
            self._seen = wall if newest is None else newest
        else:
            self._seen = max(self._seen, min(wall, self._seen + (read_at - self._read_at) * _FASTEST))
        self._read_at = read_at
        if self._saved is None or self._seen - self._saved >= _SAVE_EVERY:
            connection.execute(delete(clock))
            connection.execute(insert(clock).values(seen=self._seen))
            self._saved = self._seen
        return min(wall, self._seen)


class Retention:
    """Decisions that delete. `keep_ended` is for how many seconds ended processes are kept by `expire`."""

    def __init__(self, changes: Changes, logs: ProcessLogs, database: Database, keep_ended: float) -> None:
        self._changes = changes
        self._logs = logs
        self._keep_ended = keep_ended
        self._clock = JournalClock()
        self._insert_staged = database.insert(staged_by_deleted).on_conflict_do_nothing()

    def delete(self, connection: Connection, id: str) -> None:
        """Forget one that has ended. Raises NO_SUCH_PROCESS, ILLEGAL_STATE."""
        row = get(connection, id)
        if row.state not in ENDED:
            raise problems.ILLEGAL_STATE(
                f"process {id!r} is {row.state}: cancel it and wait until it has ended, then delete it", state=row.state
            )
        self._delete(connection, [row])

    def expire(self, connection: Connection) -> int:
        """Forget some of those that ended long ago, and that older ones were deleted. Returns how many processes."""
        before = self._clock.now(connection) - self._keep_ended
        ended = map(record, connection.execute(ENDED_BEFORE, {"before": before}))
        old = [row for row in ended if row.state in ENDED]
        self._delete(connection, old)
        connection.execute(delete(events).where(DELETIONS, events.c.time < before))
        return len(old)

    def _delete(self, connection: Connection, old: list[ProcessRecord]) -> None:
        if not old:
            return
        ids = [row.id for row in old]
        connection.execute(delete(labels).where(labels.c.n.in_([row.n for row in old])))
        self._logs.delete(connection, ids)
        connection.execute(delete(events).where(events.c.id.in_(ids), events.c.state != DELETED))
        connection.execute(delete(processes).where(processes.c.id.in_(ids)))
        connection.execute(self._insert_staged, [{"owner": stager(row)} for row in old])
        for row in old:
            self._changes.add_event(row, row.state, DELETED)
        fault_points.point("delete.written")

    def staged_removed(self, connection: Connection, owners: Collection[str]) -> None:
        """Note that the staged data of these deleted processes is gone."""
        connection.execute(_DELETE_STAGED, [{"gone": owner} for owner in owners])
