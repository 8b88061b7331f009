"""Ownership of what runs: leases of servers, takeover of what has no living owner, and requests to kill.

A server owns the attempts that it runs while its lease lasts: one row a server, renewed on the journal's clock. What
another server is to pause or cancel, it finds by its state; what it is to kill, by a row of `kill_requests`.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from holdfast.wire import ErrorInfo, State
from tornado_app import fault_points
from tornado_app.processes.journal.changes import Changes
from tornado_app.processes.journal.interface import Database
from tornado_app.processes.journal.queries import ATTEMPTING, ProcessRecord, cancelling, find
from tornado_app.processes.journal.queue import ProcessQueue
from tornado_app.processes.journal.schema import kill_requests, processes, servers
from tornado_app.processes.states import Cause

log = logging.getLogger("holdfast.processes")

LEASE = 10.0
"""Seconds for which a server owns what it runs without being seen."""

_BEATS = 5  # in a lease
_SAFE = 2 / 3  # of a lease: after that without a renewal a server stops what it runs, before others begin it

_DROP_UNANSWERABLE = delete(kill_requests).where(kill_requests.c.owner.not_in(select(servers.c.id)))
_RENEW = update(servers).where(servers.c.id == bindparam("mine")).values(seen=bindparam("now"))


class ServerLease:
    """Lease of this server on what it runs. The methods that take a connection are decisions of the journal."""

    def __init__(self, database: Database, *, shared: bool, seconds: float = LEASE, name: str = "") -> None:
        self.id = secrets.token_hex(8)
        self.seconds = seconds
        self.is_shared = shared
        self._database = database
        self._name = name
        self._renewed = time.monotonic()  # on this server's own clock

    @property
    def interval(self) -> float:
        """Return the seconds between two renewals."""
        return self.seconds / _BEATS

    @property
    def is_safe(self) -> bool:
        """Return whether no other server can have taken over what this one runs."""
        return not self.is_shared or time.monotonic() - self._renewed < self.seconds * _SAFE

    def acquire(self, connection: Connection) -> None:
        """Register this server. Where no other one can have the journal open, all that are registered are gone."""
        if not self.is_shared:
            connection.execute(delete(servers))
        now = self._database.now(connection)
        connection.execute(insert(servers).values(id=self.id, name=self._name, seen=now, lease=self.seconds))

    def renew(self, connection: Connection) -> bool:
        """Renew the lease. False when another server has taken over: then it is acquired anew by `acquire`."""
        return connection.execute(_RENEW, {"mine": self.id, "now": self._database.now(connection)}).rowcount == 1

    def renewed(self, began: float) -> None:
        """Note that a renewal was committed that began at that time of `time.monotonic`."""
        self._renewed = max(self._renewed, began)

    def release(self, connection: Connection) -> None:
        """End the lease: this server runs nothing any more."""
        connection.execute(delete(servers).where(servers.c.id == self.id))

    def end_expired(self, connection: Connection) -> bool:
        """Remove the servers whose leases have expired, and what dead servers were asked; whether there were any."""
        now = self._database.now(connection)
        ago = or_(servers.c.seen + servers.c.lease < now, servers.c.seen > now + servers.c.lease)  # clock began anew
        expired = connection.execute(delete(servers).where(servers.c.id != self.id, ago)).rowcount > 0
        connection.execute(_DROP_UNANSWERABLE)
        return expired


class Recovered(msgspec.Struct):
    """Work that an earlier server left: to wait for a time, to be rolled back, and to run alone first."""

    timed: list[ProcessRecord]
    cancelling: list[ProcessRecord]
    suspects: list[ProcessRecord]


_STOPPING = -1
"""In place of a count of crashes: the server has been asked to stop, so its end is none."""

_UNOWNED = (
    processes.c.state.in_([state.value for state in ATTEMPTING]),
    or_(processes.c.owner.is_(None), processes.c.owner.not_in(select(servers.c.id))),
)
"""Condition of processes that are attempted, and have no living owner."""


class Takeover:
    """Decisions about what has no living owner: its attempt has ended with its server."""

    def __init__(
        self,
        changes: Changes,
        queue: ProcessQueue,
        lease: ServerLease,
        begin: Callable[..., ProcessRecord],
        max_crashes: int,
    ) -> None:
        self._changes = changes
        self._queue = queue
        self._lease = lease
        self._begin = begin
        self._max_crashes = max_crashes

    def recover(self, connection: Connection) -> Recovered:
        """Begin as a server: acquire the lease, and put what has no living owner back into the queue, or park it.

        What ran when its server died may have been what ended it. So that this can be found out, what has made no
        progress since is to run alone, before anything else does; the queue waits for `go_on`.
        """
        self._lease.acquire(connection)
        self._lease.end_expired(connection)
        self._changes.begin_at_newest(connection)
        found = self._changes.all(connection, *_UNOWNED)
        moved_on = {row.n for row in found if row.crashes == 0 and row.state is not State.CANCELLING}
        self._take(connection, found)
        timed = or_(processes.c.retry_at.is_not(None), processes.c.deadline.is_not(None))
        waiting = self._changes.all(connection, processes.c.state.in_([State.QUEUED, State.PAUSED]), timed)
        mine = cancelling(connection, self._lease.id)
        suspects: list[ProcessRecord] = []
        if self._max_crashes:
            suspects = [row for row in mine if row.crashes]
            ready = (processes.c.state == State.QUEUED.value, processes.c.retry_at.is_(None))
            crashed = self._changes.all(connection, *ready, processes.c.crashes > 0)
            suspects += [row for row in crashed if row.n not in moved_on]
        if suspects:
            self._queue.hold("recovery")
        return Recovered(waiting, mine, sorted(suspects, key=lambda row: -row.crashes))

    def take_over(self, connection: Connection) -> list[ProcessRecord]:
        """While this server runs: take what has lost its owner. Returns what this server is to roll back."""
        if not self._lease.is_shared:
            return []
        self._lease.end_expired(connection)
        found = self._changes.all(connection, *_UNOWNED)
        if found:
            log.warning("%d attempts have lost their server and are taken over", len(found))
        return [row for row in self._take(connection, found) if row.state is State.CANCELLING]

    def _take(self, connection: Connection, found: list[ProcessRecord]) -> list[ProcessRecord]:
        tried = any(row.alone for row in found)  # if one was, it is to blame alone
        return [self._take_one(connection, row, blamed=row.alone or not tried) for row in found]

    def _take_one(self, connection: Connection, row: ProcessRecord, *, blamed: bool) -> ProcessRecord:
        """An attempt, or a rollback, has ended with its server."""
        rolling_back = row.state is State.CANCELLING
        moved_on = row.crashes == 0 and not rolling_back  # it has made progress: the count begins anew
        crashes = max(0, row.crashes + rolling_back if blamed else row.crashes - (not rolling_back))
        if moved_on:
            crashes = 1
        elif row.crashes == _STOPPING:
            crashes = 0
        changes: dict[str, Any] = {"crashes": crashes, "alone": False}
        if blamed and not moved_on and 0 < self._max_crashes <= crashes:
            what = "rollbacks" if rolling_back else "attempts"
            log.error("process %s is parked: %d %s in a row ended with the server", row.id, crashes, what)
            error = ErrorInfo(
                "ServerDied",
                f"{crashes} {what} in a row ended with the server, without progress: it may be what ends it, so it is "
                "tried no more by itself. See the server's log, then resume it (or cancel it) to try again",
            )
            cause = Cause.ROLLBACK_FAILED if rolling_back else Cause.FAILED
            ended = {"error": msgspec.json.encode(error), "ended": time.time()}
            row = self._changes.move(connection, row, cause, **changes, **ended)
        elif rolling_back:
            row = self._changes.change(connection, row, changes | {"owner": self._lease.id})
        else:
            row = self._changes.move(connection, row, Cause.INTERRUPTED, **changes)
        fault_points.point("recover.written")
        return row

    def try_alone(self, connection: Connection, id: str) -> bool:
        """While the queue waits: begin that process, or mark its rollback, as what runs alone. False if it can't be."""
        row = find(connection, id)
        if row is not None and row.state is State.CANCELLING:
            self._changes.change(connection, row, {"alone": True})
            return True

        def begin(connection: Connection, queued: ProcessRecord) -> ProcessRecord:
            return self._begin(connection, queued, alone=True)

        if not self._queue.claim_one(connection, id, begin):
            return False
        fault_points.point("alone.written")
        return True

    def trust(self, connection: Connection, id: str) -> None:
        """Note that a process that was tried alone has not ended its server so far."""
        connection.execute(update(processes).where(processes.c.id == id).values(alone=0))

    def go_on(self, connection: Connection) -> None:
        """Let the queue go on: whatever had to run alone has."""
        self._queue.go_on("recovery")

    def stopping(self, connection: Connection) -> None:
        """Note that this server has been asked to stop: what it leaves behind did not end it."""
        mine = (processes.c.state.in_([state.value for state in ATTEMPTING]), processes.c.owner == self._lease.id)
        connection.execute(update(processes).where(*mine).values(crashes=_STOPPING, alone=0))


def request_kill(connection: Connection, row: ProcessRecord) -> None:
    """Ask the owner of a running attempt to kill it. A second request for the same attempt waits with the first."""
    of_it = (
        kill_requests.c.id == row.id,
        kill_requests.c.attempt == row.attempt,
        kill_requests.c.owner == row.owner,  # a rollback keeps its attempt when its owner changes
        kill_requests.c.refusal.is_(None),
    )
    if connection.execute(select(kill_requests.c.id).where(*of_it)).first() is None:
        connection.execute(delete(kill_requests).where(kill_requests.c.id == row.id))
        values = {"id": row.id, "attempt": row.attempt, "owner": row.owner, "taken": 0}
        connection.execute(insert(kill_requests).values(values))


def take_kills(connection: Connection, owner: str) -> list[str]:
    """Return the ids that this server is asked to kill, each once."""
    mine = (kill_requests.c.owner == owner, kill_requests.c.taken == 0)
    found = list(connection.execute(select(kill_requests.c.id).where(*mine)).scalars())
    if found:
        connection.execute(update(kill_requests).where(*mine).values(taken=1))
    return found


def answer_kill(connection: Connection, id: str, refusal: str | None) -> None:
    """Answer a request: with why the attempt can't be killed, or None when it was."""
    if refusal is None:
        connection.execute(delete(kill_requests).where(kill_requests.c.id == id))
    else:
        connection.execute(update(kill_requests).where(kill_requests.c.id == id).values(refusal=refusal))


def kill_answer(connection: Connection, id: str) -> tuple[bool, str | None]:
    """Return whether a request has its answer, and the refusal if it is one."""
    row = connection.execute(select(kill_requests.c.refusal).where(kill_requests.c.id == id)).one_or_none()
    return (True, None) if row is None else (row.refusal is not None, row.refusal)
