"""Every decision that changes a process. Run by the journal, one at a time, never on the loop.

Every change goes through `Changes.move`: the transition table says what follows, the row is changed by
compare-and-set on (id, attempt, state, owner), and an event is written in the same transaction.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, insert, or_, update

from holdfast.wire import BulkRequest, ErrorInfo, State
from tornado_app import fault_points, problems
from tornado_app.problems import ProblemError
from tornado_app.processes.executors.attempt import Checkpoint, Failed, Outcome, StoppedAttempt, Succeeded
from tornado_app.processes.journal.changes import Batch, Changes
from tornado_app.processes.journal.interface import Database
from tornado_app.processes.journal.logs import ProcessLogs
from tornado_app.processes.journal.ownership import take_kills
from tornado_app.processes.journal.queries import (
    ATTEMPTING,
    ProcessRecord,
    find,
    get,
    matching,
)
from tornado_app.processes.journal.queue import ProcessQueue
from tornado_app.processes.journal.schema import labels, processes
from tornado_app.processes.states import Cause, step

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.decode

DEADLINE_PASSED = ErrorInfo("DeadlineExceeded", "its deadline passed before it was done")
"""The error of a process that had not ended when its deadline passed."""

BACKOFF_FIRST = 1.0
BACKOFF_MOST = 300.0
_jitter = random.Random()  # noqa: S311 - not a secret; work in this process may seed the common one


_CHECKPOINT = (
    update(processes)
    .where(
        processes.c.id == bindparam("wanted"),
        processes.c.attempt == bindparam("of_attempt"),
        processes.c.owner == bindparam("of_owner"),
        or_(*(processes.c.state == state.value for state in ATTEMPTING)),  # IN can't be used with executemany
    )
    .values({name: bindparam(name) for name in ("done", "total", "note", "checkpoint")})
)
_FIRST_PROGRESS = _CHECKPOINT.values(crashes=0, failures=0)


class New(msgspec.Struct, frozen=True):
    """A validated request to start: what the row will hold."""

    id: str
    work_type: str
    params: dict[str, Any]
    place: str
    priority: int
    labels: dict[str, str]
    retries: int
    deadline_s: float | None
    code: bytes | None = None

    def digest(self) -> bytes:
        """Return a digest that is equal for equal requests."""
        return hashlib.sha256(_encode(self)).digest()


def _is_repeated(there: ProcessRecord, new: New, completed: Callable[[dict[str, Any]], dict[str, Any] | None]) -> bool:
    """Return whether a request differs from the one that started a process only by defaults that came later."""
    params = _decode(there.params)
    if msgspec.structs.replace(new, params=params).digest() != there.request:
        return False  # something else is different, too
    now = completed(params)
    return now is not None and _encode(now) == _encode(new.params)


class SafePoint(NamedTuple):
    """Safe point that a running attempt has yielded; `first` of all that are progress over those before."""

    id: str
    attempt: int
    point: Checkpoint
    first: bool = False


class Transitions:
    """The decisions that write, and the journal's participant: what a transaction counts, counts when it is committed.

    `has_rollback` says whether a work type of that name must be rolled back when it is cancelled.
    """

    def __init__(
        self,
        database: Database,
        queue: ProcessQueue,
        owner: str,
        has_rollback: Callable[[str], bool],
        logs: ProcessLogs,
    ) -> None:
        self._queue = queue
        self._has_rollback = has_rollback
        self._logs = logs
        self._changes = Changes(database, owner, queue.wake)
        self._database = database
        self._owner = owner
        self._polled = False
        self._kills: list[str] = []
        self._insert = database.insert(processes).on_conflict_do_nothing(index_elements=[processes.c.id])

    # -- around a transaction

    @property
    def changes(self) -> Changes:
        """Return the changes of the transaction that is being written, for decisions of other modules."""
        return self._changes

    def poll(self, connection: Connection) -> None:
        """Read what other servers have committed and asked, in this transaction."""
        self._polled = True
        self._kills += take_kills(connection, self._owner)

    def finish(self, connection: Connection) -> Batch | None:
        """Claim what fits into free slots, and write the events of the whole transaction."""
        changes, has_read, others = self._changes, False, []
        if changes.events or self._polled:
            has_read, others = True, changes.read_others(connection)
        claimed = self._queue.claim(connection, self.begin)
        if not changes.events:
            return Batch(claimed, [], others, self._kills) if others or self._kills else None
        if not has_read:
            others = changes.read_others(connection)
        changed = changes.write_events(connection)
        return Batch(claimed, changed, others, self._kills)

    def committed(self) -> None:
        """Count what the transaction has changed."""
        self._changes.committed()
        self._queue.committed()
        self._polled, self._kills = False, []

    def rolled_back(self) -> None:
        """Forget the transaction."""
        self._changes.rolled_back()
        self._logs.rolled_back()
        self._queue.rolled_back()
        self._polled, self._kills = False, []

    def begin(self, connection: Connection, row: ProcessRecord, alone: bool = False) -> ProcessRecord:
        """Begin the next attempt of what was queued, as this server's."""
        changes = {
            "attempt": row.attempt + 1,
            "started": row.started if row.started is not None else time.time(),
            "retry_at": None,
            "crashes": row.crashes + 1,
            "alone": alone,
            "reached": row.done if row.reached is None else max(row.reached, row.done or row.reached),
            "owner": self._owner,
        }
        row = self._changes.move(connection, row, Cause.CLAIM, **changes)
        fault_points.point("claim.written")
        return row

    def due(self, connection: Connection, id: str, attempt: int) -> None:
        """Let a process whose retry is due wait for a slot alone."""
        mine = (processes.c.id == id, processes.c.attempt == attempt, processes.c.state == State.QUEUED.value)
        if connection.execute(update(processes).where(*mine).values(retry_at=None)).rowcount:
            self._queue.wake()

    # -- decisions

    def start(
        self,
        connection: Connection,
        new: New,
        completed: Callable[[dict[str, Any]], dict[str, Any] | None],
        user: str | None = None,
    ) -> tuple[ProcessRecord, bool]:
        """Return the process of this id, and whether it was made now.

        `completed` gives the parameters of an earlier request with the defaults that the work type has gained since;
        None when they do not fit it any more. `user` is the folder of whom it belongs to, where users are kept apart.

        Raises:
            ProblemError: ID_TAKEN when the id belongs to another request.
        """
        digest = new.digest()
        now = time.time()
        row = ProcessRecord(
            n=0,
            id=new.id,
            work_type=new.work_type,
            params=_encode(new.params),
            request=digest,
            state=State.QUEUED,
            place=new.place,
            priority=new.priority,
            labels=_encode(new.labels),
            retries=new.retries,
            failures=0,
            attempt=0,
            version=1,
            created=now,
            deadline=None if new.deadline_s is None else now + new.deadline_s,
            serial=secrets.token_urlsafe(12),
            user=user,
        )
        values = msgspec.structs.asdict(row) | {"code": new.code}
        del values["n"]
        inserted = connection.execute(self._insert, values)
        if not inserted.rowcount:
            there = get(connection, new.id)
            if there.request != digest and not _is_repeated(there, new, completed):
                raise problems.ID_TAKEN(
                    f"process {there.id!r} was started with another request ({there.work_type}): choose another id, "
                    "or ask for this one with the same work type and parameters",
                    id=there.id,
                )
            return there, False
        n = self._database.inserted_number(inserted)
        row = msgspec.structs.replace(row, n=n)
        if new.labels:
            connection.execute(insert(labels), [{"key": k, "value": v, "n": n} for k, v in new.labels.items()])
        self._queue.wake()
        self._changes.add_event(row, None)
        fault_points.point("start.written")
        return row, True

    def ask(self, connection: Connection, id: str, cause: Cause) -> ProcessRecord:
        """Pause, resume, cancel or kill, where the transition table has it.

        Raises:
            ProblemError: NO_SUCH_PROCESS, ILLEGAL_STATE.
        """
        return self._ask(connection, get(connection, id), cause)

    def _ask(self, connection: Connection, row: ProcessRecord, cause: Cause) -> ProcessRecord:
        if cause is Cause.KILL:
            step(row.state, cause)
            return row
        if cause is Cause.PAUSE and row.held and row.state in (State.PAUSING, State.PAUSED):
            return self._move_on(connection, row)
        changes: dict[str, Any] = {}
        if cause is Cause.RESUME and row.held:
            changes = {"error": None, "held": False}
        if cause is Cause.RESUME and row.state in (State.PAUSED, State.FAILED):
            changes = {"error": None, "ended": None, "failures": 0, "retry_at": None, "crashes": 0, "held": False}
            if row.state is State.FAILED:
                changes["deadline"] = None  # it may have been the reason; a person decided to go on
        elif cause is Cause.CANCEL:
            changes = {"ended": None, "crashes": 0, "alone": False, "held": False}
            if row.owner is None:
                changes["owner"] = self._owner  # this server rolls it back
        was = row.state
        row = self._changes.move(connection, row, cause, **changes)
        if cause is Cause.CANCEL and was not in (State.RUNNING, State.PAUSING) and not self._must_roll_back(row):
            row = self._changes.move(connection, row, Cause.ROLLED_BACK, error=None, ended=time.time())
        fault_points.point(f"{cause}.written")
        return row

    def _move_on(self, connection: Connection, row: ProcessRecord) -> ProcessRecord:
        """Let a person pause what the engine had paused: it waits for that person now."""
        row = self._changes.change(connection, row, {"held": False, "error": None, "version": row.version + 1})
        self._changes.add_event(row, row.state)
        return row

    def hold_for_room(self) -> None:
        """Begin nothing, until `go_on_with_room`."""
        self._queue.hold("room")

    def pause_for_room(self, connection: Connection, error: ErrorInfo) -> list[ProcessRecord]:
        """Begin nothing, and pause all that runs, until `go_on_with_room`. Returns the rows that were changed."""
        self.hold_for_room()
        running = self._changes.all(
            connection, processes.c.state == State.RUNNING.value, processes.c.owner == self._owner
        )
        return [self._changes.move(connection, row, Cause.PAUSE, error=_encode(error), held=True) for row in running]

    def go_on_with_room(self, connection: Connection) -> list[ProcessRecord]:
        """Resume what was paused for want of room. Returns the rows that were changed."""
        self._queue.go_on("room")
        mine = (processes.c.held == 1, processes.c.state.in_([State.PAUSED.value, State.PAUSING.value]))
        return [self._ask(connection, row, Cause.RESUME) for row in self._changes.all(connection, *mine)]

    def _must_roll_back(self, row: ProcessRecord) -> bool:
        return row.attempt > 0 and self._has_rollback(row.work_type)

    def ask_all(
        self, connection: Connection, wanted: BulkRequest, cause: Cause
    ) -> tuple[list[ProcessRecord], dict[str, str]]:
        """Apply a verb to all that match. Returns the rows that were changed, and refusals by id."""
        changed: list[ProcessRecord] = []
        refused: dict[str, str] = {}
        for row in self._changes.all(connection, *matching(wanted)):
            try:
                changed.append(self._ask(connection, row, cause))
            except ProblemError as refusal:
                refused[row.id] = refusal.detail
        known = {row.id for row in changed} | set(refused)
        refused |= {
            id: f"there is no process {id!r}, or it does not match" for id in wanted.ids or () if id not in known
        }
        return changed, refused

    def checkpoints(self, connection: Connection, newest: Iterable[SafePoint]) -> int:
        """Keep safe points of running attempts. Returns how many; those of an old attempt change nothing."""
        rows: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for id, attempt, y, first in newest:
            row: dict[str, Any] = {"wanted": id, "of_attempt": attempt, "of_owner": self._owner}
            row |= {"done": y.done, "total": y.total, "note": y.note, "checkpoint": y.data}
            rows[first].append(row)
        kept = 0
        for statement, some in ((_CHECKPOINT, rows[False]), (_FIRST_PROGRESS, rows[True])):
            if some:
                kept += connection.execute(statement, some).rowcount
        fault_points.point("checkpoint.written")
        return kept

    def add_logs(self, connection: Connection, lines: Sequence[tuple[str, float, int, str]]) -> list[int]:
        """Keep log lines (id, time, attempt, message). Returns the sequence number of each."""
        seqs = self._logs.add(connection, lines)
        fault_points.point("log.written")
        return seqs

    def ended(
        self, connection: Connection, id: str, attempt: int, outcome: Outcome, latest: Checkpoint | None, shutdown: bool
    ) -> ProcessRecord | None:
        """End an attempt and release its slot. None for an old attempt, whose report changes nothing.

        When the row is `cancelling` afterwards, its rollback is what comes next.
        """
        row = find(connection, id)
        if row is None or row.attempt != attempt or row.state not in ATTEMPTING or row.owner != self._owner:
            if row is None or row.owner != self._owner:
                self._queue.release(id)  # another server has taken it over
            return None
        self._queue.release(id)
        changes: dict[str, Any] = {"crashes": 0, "alone": False}
        if latest is not None:
            changes |= {"done": latest.done, "total": latest.total, "note": latest.note, "checkpoint": latest.data}
            if row.is_surpassed_by(latest.data, latest.done):
                changes["failures"] = 0
        if row.state is State.CANCELLING:
            if isinstance(outcome, Failed):
                changes["error"] = _encode(ErrorInfo(outcome.type, outcome.message))
            row = self._changes.change(connection, row, changes)
            if not self._must_roll_back(row):
                row = self._changes.move(connection, row, Cause.ROLLED_BACK, error=None, ended=time.time())
        elif isinstance(outcome, Succeeded):
            changes |= {"result": outcome.result, "error": None, "held": False, "ended": time.time()}
            row = self._changes.move(connection, row, Cause.SUCCEEDED, **changes)
        elif isinstance(outcome, StoppedAttempt):
            row = self._changes.move(connection, row, Cause.INTERRUPTED if shutdown else Cause.STOPPED, **changes)
        else:
            row = self._failed(connection, row, outcome, changes)
        fault_points.point("ended.written")
        return row

    def _failed(
        self, connection: Connection, row: ProcessRecord, failure: Failed, changes: dict[str, Any]
    ) -> ProcessRecord:
        changes["error"] = _encode(ErrorInfo(failure.type, failure.message))
        failures = changes.get("failures", row.failures)  # since there was progress
        if failure.retry and failures < row.retries:
            most = min(BACKOFF_MOST, BACKOFF_FIRST * 2**failures)
            # Equal jitter (AWS, "Exponential Backoff And Jitter"): spread out, but never at once.
            changes["retry_at"] = time.time() + most * _jitter.uniform(0.5, 1.0)
            changes["failures"] = failures + 1
            return self._changes.move(connection, row, Cause.RETRY, **changes)
        return self._changes.move(connection, row, Cause.FAILED, **changes, ended=time.time())

    def rollback_ended(self, connection: Connection, id: str, attempt: int, outcome: Outcome) -> ProcessRecord | None:
        """End a rollback. One that failed is shown with both errors; another cancel tries it again."""
        row = find(connection, id)
        if row is None or row.attempt != attempt or row.state is not State.CANCELLING or row.owner != self._owner:
            return None
        if isinstance(outcome, Failed):
            before = _decode(row.error, type=ErrorInfo) if row.error else ErrorInfo("Cancelled", "it was cancelled")
            both = ErrorInfo(before.type, before.message, f"{outcome.type}: {outcome.message}")
            row = self._changes.move(connection, row, Cause.ROLLBACK_FAILED, error=_encode(both), ended=time.time())
        else:
            row = self._changes.move(connection, row, Cause.ROLLED_BACK, error=None, ended=time.time())
        fault_points.point("undone.written")
        return row

    def deadline_passed(self, connection: Connection, id: str) -> ProcessRecord | None:
        """Fail what waits, now that its deadline has passed. What runs is returned, for its executor to stop."""
        row = find(connection, id)
        if row is None or row.deadline is None:
            return None
        if row.state in (State.QUEUED, State.PAUSED):
            self._changes.move(connection, row, Cause.FAILED, error=_encode(DEADLINE_PASSED), ended=time.time())
            fault_points.point("overdue.written")
        return row if row.state in (State.RUNNING, State.PAUSING) else None
