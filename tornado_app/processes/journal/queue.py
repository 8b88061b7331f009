"""The queue and its slots: which queued process begins when another one has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

from sqlalchemy import Connection, bindparam, select

from holdfast.wire import State
from tornado_app.processes.journal.queries import COLUMNS, ProcessRecord, record
from tornado_app.processes.journal.schema import processes

_CLAIMABLE = (
    select(*COLUMNS, processes.c.code)
    .where(processes.c.state == State.QUEUED.value, processes.c.retry_at.is_(None))  # `Transitions.due` takes that away
    .order_by(processes.c.priority.desc(), processes.c.n)
    .limit(bindparam("most"))
)

Hold = Literal["recovery", "room"]

Claim = tuple[ProcessRecord, bytes | None]
"""A process whose next attempt is to be launched, and the code that a client sent for it."""


class ProcessQueue:
    """Who holds a slot. Belongs to the book: what a transaction does counts only when that has landed."""

    def __init__(self, max_running: int, limits: dict[str, int]) -> None:
        self._max_running = max_running
        self._limits = limits
        self._active: dict[str, str] = {}  # id -> work type of what holds a slot
        self._freed: list[str] = []
        self._taken: dict[str, str] = {}
        self._queued = True  # whether the queue may hold something
        self._open = True
        self._held: set[Hold] = set()

    def look(self) -> None:
        """Something may have come into the queue, or its time."""
        self._queued = True

    def free(self, id: str) -> None:
        """That attempt is over."""
        self._freed.append(id)

    def close(self) -> None:
        """Begin nothing more."""
        self._open = False

    def hold(self, why: Hold) -> None:
        """Begin nothing, until `go_on` for the same reason; in a recovery, what is asked for by `take` alone."""
        self._held.add(why)

    def go_on(self, why: Hold) -> None:
        """Begin what is queued again."""
        self._held.discard(why)
        self._queued = True

    def landed(self) -> None:
        """The transaction is on disk."""
        for id in self._freed:
            self._active.pop(id, None)
        self._active |= self._taken
        self._forget()

    def aborted(self) -> None:
        """The transaction is not."""
        self._queued = True
        self._forget()

    def _forget(self) -> None:
        self._freed = []
        self._taken = {}

    def fill(self, connection: Connection, begin: Callable[[Connection, ProcessRecord], ProcessRecord]) -> list[Claim]:
        """`begin` queued processes by priority, then age, as far as slots and the work types' limits allow."""
        claimed: list[Claim] = []
        if not (self._queued and self._open) or self._held:
            return claimed
        count = self._count()
        free = self._max_running - count.total()
        while free > 0:
            full = [name for name, limit in self._limits.items() if count[name] >= limit]
            query = _CLAIMABLE.where(processes.c.work_type.not_in(full)) if full else _CLAIMABLE
            rows = connection.execute(query, {"most": free}).all()
            drained = len(rows) < free
            for row in rows:
                queued = record(row[:-1])
                if count[queued.work_type] >= self._limits.get(queued.work_type, self._max_running):
                    drained = False
                    continue
                count[queued.work_type] += 1
                free -= 1
                self._taken[queued.id] = queued.work_type
                claimed.append((begin(connection, queued), row[-1]))
            if drained:
                self._queued = bool(full)
                break
        return claimed

    def take(
        self, connection: Connection, id: str, begin: Callable[[Connection, ProcessRecord], ProcessRecord]
    ) -> Claim | None:
        """`begin` that queued process before all others; None when it is not queued, or there is no slot for it."""
        row = connection.execute(_CLAIMABLE.where(processes.c.id == id), {"most": 1}).one_or_none()
        if row is None or not self._open or "room" in self._held:
            return None
        queued = record(row[:-1])
        count = self._count()
        full = count[queued.work_type] >= self._limits.get(queued.work_type, self._max_running)
        if full or count.total() >= self._max_running:
            return None
        self._taken[queued.id] = queued.work_type
        return begin(connection, queued), row[-1]

    def _count(self) -> Counter[str]:
        """Slots that are held, by work type."""
        holding = {id: work_type for id, work_type in self._active.items() if id not in self._freed} | self._taken
        return Counter(holding.values())
