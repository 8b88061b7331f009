"""The queue and its slots: which queued process begins when another one has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

from sqlalchemy import Connection, bindparam, func, select

from holdfast.wire import State
from tornado_app.processes.journal.queries import ATTEMPTING, COLUMNS, ProcessRecord, record
from tornado_app.processes.journal.schema import processes

_CLAIMABLE = (
    select(*COLUMNS, processes.c.code)
    .where(processes.c.state == State.QUEUED.value, processes.c.retry_at.is_(None))  # `Transitions.due` takes that away
    .order_by(processes.c.priority.desc(), processes.c.n)
    .limit(bindparam("most"))
)

Hold = Literal["recovery", "room", "lease"]

Claim = tuple[ProcessRecord, bytes | None]
"""A process whose next attempt is to be launched, and the code that a client sent for it."""


class ProcessQueue:
    """Slots of this server, and claims of what is queued. `max_running` is this server's; a limit of a work type is of
    all servers that share the journal: what others run is counted in the database.

    `committed` or `rolled_back` ends each transaction: what one does counts only then.
    """

    def __init__(self, max_running: int, limits: dict[str, int], owner: str, *, shared: bool) -> None:
        self._max_running = max_running
        self._limits = limits
        self._active: dict[str, str] = {}  # id -> work type of what holds a slot
        self._released: list[str] = []
        self._claimed: list[Claim] = []
        self._is_awake = True  # whether the queue may hold something
        self._is_open = True
        self._held: set[Hold] = set()
        self._elsewhere = (
            select(processes.c.work_type, func.count())
            .where(
                processes.c.state.in_([state.value for state in ATTEMPTING]),
                processes.c.owner != owner,
                processes.c.work_type.in_(list(limits)),
            )
            .group_by(processes.c.work_type)
            if shared and limits
            else None
        )

    def wake(self) -> None:
        """Query the queue in this transaction: something may have come into it, or its time."""
        self._is_awake = True

    def release(self, id: str) -> None:
        """Release the slot of an attempt that is over."""
        self._released.append(id)

    def close(self) -> None:
        """Claim nothing more."""
        self._is_open = False

    def hold(self, why: Hold) -> None:
        """Claim nothing, until `go_on` for the same reason; in a recovery, only what `claim_one` is asked for."""
        self._held.add(why)

    def go_on(self, why: Hold) -> None:
        """Claim what is queued again."""
        self._held.discard(why)
        self._is_awake = True

    def committed(self) -> None:
        """Count what the transaction has claimed and released."""
        for id in self._released:
            self._active.pop(id, None)
        for row, _ in self._claimed:
            self._active[row.id] = row.work_type
        self._released, self._claimed = [], []

    def rolled_back(self) -> None:
        """Forget the transaction."""
        self._is_awake = True
        self._released, self._claimed = [], []

    def claim(self, connection: Connection, begin: Callable[[Connection, ProcessRecord], ProcessRecord]) -> list[Claim]:
        """`begin` queued processes by priority, then age, as far as slots and limits allow.

        Returns all claims of this transaction, those of `claim_one` included.
        """
        if not (self._is_awake and self._is_open) or self._held:
            return self._claimed
        free, count = self._count(connection)
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
                self._claimed.append((begin(connection, queued), row[-1]))
            if drained:
                self._is_awake = bool(full)
                break
        return self._claimed

    def claim_one(
        self, connection: Connection, id: str, begin: Callable[[Connection, ProcessRecord], ProcessRecord]
    ) -> bool:
        """`begin` that queued process before all others. False when it is not queued, or there is no slot for it."""
        row = connection.execute(_CLAIMABLE.where(processes.c.id == id), {"most": 1}).one_or_none()
        if row is None or not self._is_open or self._held - {"recovery"}:
            return False
        queued = record(row[:-1])
        free, count = self._count(connection)
        if free <= 0 or count[queued.work_type] >= self._limits.get(queued.work_type, self._max_running):
            return False
        self._claimed.append((begin(connection, queued), row[-1]))
        return True

    def _count(self, connection: Connection) -> tuple[int, Counter[str]]:
        """Return the free slots of this server, and what holds one on any server, by work type."""
        holding = dict(self._active)
        for id in self._released:
            holding.pop(id, None)
        for row, _ in self._claimed:
            holding[row.id] = row.work_type
        count = Counter(holding.values())
        free = self._max_running - count.total()
        if self._elsewhere is not None:
            for work_type, others in connection.execute(self._elsewhere):
                count[work_type] += others
        return free, count
