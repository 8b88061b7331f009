"""Servers that share one journal, as their decisions alone: no loop runs anything, and a test sets the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from tornado_app.processes.journal import queries
from tornado_app.processes.journal.changes import Batch
from tornado_app.processes.journal.logs import ProcessLogs
from tornado_app.processes.journal.ownership import ServerLease, Takeover
from tornado_app.processes.journal.queries import ProcessRecord
from tornado_app.processes.journal.queue import ProcessQueue
from tornado_app.processes.journal.sqlite import SqliteDatabase, SqliteJournal
from tornado_app.processes.journal.transitions import New, Transitions


class SetClock(SqliteDatabase):
    """SQLite with a clock that a test sets."""

    time = 100.0

    def now(self, connection: Connection) -> float:
        return self.time


class JournalServer:
    """The decisions of one server, on a journal that several share. Each call is a transaction of its own."""

    def __init__(self, journal: SqliteJournal, database: SqliteDatabase, lease: float = 10.0) -> None:
        self._journal = journal
        self.lease = ServerLease(database, shared=True, seconds=lease)
        queue = ProcessQueue(10, {}, self.lease.id, shared=True)
        logs = ProcessLogs(database, 0, 0)
        self.transitions = Transitions(database, queue, self.lease.id, lambda name: True, logs)
        self.batch: Batch | None = None  # of the last transaction
        self.takeover = Takeover(self.transitions.changes, queue, self.lease, self.transitions.begin, 3)

    async def __call__(self, decision: Callable[[Connection], Any]) -> Any:
        def whole(connection: Connection) -> Any:
            answer = decision(connection)
            self.batch = self.transitions.finish(connection)
            return answer

        answer = await self._journal.write(whole)
        self.transitions.committed()
        return answer

    async def start(self, id: str) -> None:
        new = New(id=id, work_type="t", params={}, place="thread", priority=0, labels={}, retries=0, deadline_s=None)
        await self(lambda connection: self.transitions.start(connection, new, lambda params: params))

    async def row(self, id: str) -> ProcessRecord:
        return await self._journal.read(lambda connection: queries.get(connection, id))
