"""Every decision that changes a process. Run by the journal, one at a time, never on the loop.

Every change goes through `Transitions._move`: the transition table says what follows, the row is changed by
compare-and-set on (id, attempt, state), and an event is written in the same transaction.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import random
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, or_, select, update
from sqlalchemy.dialects import sqlite

from holdfast.wire import ENDED, BulkRequest, ErrorInfo, Event, State
from tornado_app import fault_points, problems
from tornado_app.problems import ProblemError
from tornado_app.processes.executors.attempt import Checkpoint, Failed, Outcome, StoppedAttempt, Succeeded
from tornado_app.processes.journal.logs import ProcessLogs
from tornado_app.processes.journal.queries import (
    COLUMNS,
    ProcessRecord,
    event_of,
    find,
    get,
    kind,
    matching,
    newest_event,
    owner,
    record,
)
from tornado_app.processes.journal.queue import Claim, ProcessQueue
from tornado_app.processes.journal.schema import DELETED, DELETIONS, events, labels, processes, staged_by_deleted
from tornado_app.processes.states import Cause, step

log = logging.getLogger("holdfast.processes")

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.decode

BACKOFF_FIRST = 1.0
BACKOFF_MOST = 300.0
_jitter = random.Random()  # noqa: S311 - not a secret; work in this process may seed the common one


ATTEMPTING = (State.RUNNING, State.PAUSING, State.CANCELLING)
_CHECKPOINT = (
    update(processes)
    .where(
        processes.c.id == bindparam("wanted"),
        processes.c.attempt == bindparam("of_attempt"),
        or_(*(processes.c.state == state.value for state in ATTEMPTING)),  # IN can't be used with executemany
    )
    .values({name: bindparam(name) for name in ("done", "total", "note", "checkpoint")})
)
_FIRST_PROGRESS = _CHECKPOINT.values(crashes=0, failures=0)
# Statements are built once: building one costs more than running it.
_CHANGING = (
    "state", "attempt", "version", "failures", "started", "ended", "retry_at", "deadline",
    "done", "total", "note", "checkpoint", "result", "error", "crashes", "alone", "reached", "held",
)  # fmt: skip
_CHANGE = (
    update(processes)
    .where(
        processes.c.n == bindparam("of_n"),
        processes.c.attempt == bindparam("of_attempt"),
        processes.c.state == bindparam("of_state"),
    )
    .values({name: bindparam(name) for name in _CHANGING})
)
# By the index of ends alone: with the states named, SQLite would go through all that ever ended.
ENDED_BEFORE = select(*COLUMNS).where(processes.c.ended < bindparam("before")).limit(500)
_INSERT = sqlite.insert(processes).on_conflict_do_nothing(index_elements=[processes.c.id])
_INSERT_EVENTS = insert(events)
_DELETE_STAGED = delete(staged_by_deleted).where(staged_by_deleted.c.owner == bindparam("gone"))
_INSERT_STAGED = sqlite.insert(staged_by_deleted).on_conflict_do_nothing()


class New(msgspec.Struct, frozen=True):
    """A validated request to start: what the row will hold. `created` is when it was asked."""

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
        """Equal for equal requests."""
        return hashlib.sha256(_encode(self)).digest()


def _is_repeated(there: ProcessRecord, new: New, completed: Callable[[dict[str, Any]], dict[str, Any] | None]) -> bool:
    """Whether a request differs from the one that started a process by nothing but defaults that came later."""
    params = _decode(there.params)
    if msgspec.structs.replace(new, params=params).digest() != there.request:
        return False  # something else is different, too
    now = completed(params)
    return now is not None and _encode(now) == _encode(new.params)


class Batch(msgspec.Struct):
    """What a committed transaction brought: attempts to launch with their code, changed rows with their events."""

    claimed: list[Claim]
    changed: list[tuple[ProcessRecord, Event]]


class SafePoint(NamedTuple):
    """Safe point that a running attempt has yielded; `first` of all that are progress over those before."""

    id: str
    attempt: int
    point: Checkpoint
    first: bool = False


class Recovered(msgspec.Struct):
    """Work that an earlier server left: to wait for a time, to be rolled back, and to run alone first."""

    timed: list[ProcessRecord]
    cancelling: list[ProcessRecord]
    suspects: list[ProcessRecord]


_STOPPING = -1
"""In place of a count of crashes: the server has been asked to stop, so its end is none."""


class Transitions:
    """The decisions that write. Belongs to the journal: its counts change only when a transaction lands."""

    def __init__(
        self,
        max_running: int,
        limits: dict[str, int],
        has_undo: Callable[[str], bool],
        max_crashes: int = 0,
        logs: ProcessLogs | None = None,
    ) -> None:
        self._slots = ProcessQueue(max_running, limits)
        self._has_undo = has_undo
        self._max_crashes = max_crashes
        self._logs = logs or ProcessLogs(0, 0)
        self._taken: list[Claim] = []
        self._told: list[tuple[ProcessRecord, dict[str, Any]]] = []
        self._next_event = 1

    # -- around a transaction

    def recover(self, connection: Connection) -> Recovered:
        """At start-up: what an earlier server left running goes back to the queue, or is parked.

        What ran when that server died may have been what ended it. So that this can be found out, what has made no
        progress since is to run alone, before anything else does; the queue waits for `go_on`.
        """
        self._next_event = newest_event(connection) + 1
        found = self._all(connection, processes.c.state.in_([state.value for state in ATTEMPTING]))
        tried = any(row.alone for row in found)  # if one was, it is to blame alone
        moved_on = {row.n for row in found if row.crashes == 0 and row.state is not State.CANCELLING}
        for row in found:
            self._take_back(connection, row, blamed=row.alone or not tried)
            fault_points.point("recover.written")
        timed = or_(processes.c.retry_at.is_not(None), processes.c.deadline.is_not(None))
        waiting = self._all(connection, processes.c.state.in_([State.QUEUED, State.PAUSED]), timed)
        cancelling = self._all(connection, processes.c.state == State.CANCELLING.value)
        suspects: list[ProcessRecord] = []
        if self._max_crashes:
            suspects = [row for row in cancelling if row.crashes]
            ready = (processes.c.state == State.QUEUED.value, processes.c.retry_at.is_(None))
            crashed = self._all(connection, *ready, processes.c.crashes > 0)
            suspects += [row for row in crashed if row.n not in moved_on]
        if suspects:
            self._slots.hold("recovery")
        return Recovered(waiting, cancelling, sorted(suspects, key=lambda row: -row.crashes))

    def _take_back(self, connection: Connection, row: ProcessRecord, *, blamed: bool) -> None:
        """An attempt, or a rollback, has ended with its server."""
        undoing = row.state is State.CANCELLING
        moved_on = row.crashes == 0 and not undoing  # it has made progress: the count begins anew
        crashes = max(0, row.crashes + undoing if blamed else row.crashes - (not undoing))
        if moved_on:
            crashes = 1
        elif row.crashes == _STOPPING:
            crashes = 0
        changes: dict[str, Any] = {"crashes": crashes, "alone": False}
        if blamed and not moved_on and 0 < self._max_crashes <= crashes:
            what = "rollbacks" if undoing else "attempts"
            log.error("process %s is parked: %d %s in a row ended with the server", row.id, crashes, what)
            error = ErrorInfo(
                "ServerDied",
                f"{crashes} {what} in a row ended with the server, without progress: it may be what ends it, so it is "
                "tried no more by itself; see the server's log, then resume it (or cancel it) to try again",
            )
            cause = Cause.ROLLBACK_FAILED if undoing else Cause.FAILED
            self._move(connection, row, cause, **changes, error=_encode(error), ended=time.time())
        elif undoing:
            self._change(connection, row, changes)
        else:
            self._move(connection, row, Cause.INTERRUPTED, **changes)

    def try_alone(self, connection: Connection, id: str) -> bool:
        """While the queue waits: begin that process, or mark its rollback, as what runs alone. False if it can't be."""
        row = find(connection, id)
        if row is not None and row.state is State.CANCELLING:
            self._change(connection, row, {"alone": True})
            return True
        claim = self._slots.take(connection, id, functools.partial(self._begin, alone=True))
        if claim is None:
            return False
        self._taken.append(claim)
        fault_points.point("alone.written")
        return True

    def trust(self, connection: Connection, id: str) -> None:
        """Note that a process that was tried alone has stood it so far."""
        connection.execute(update(processes).where(processes.c.id == id).values(alone=0))

    def go_on(self, connection: Connection) -> None:
        """Whatever had to run alone has: begin what is queued."""
        self._slots.go_on("recovery")

    def stopping(self, connection: Connection) -> None:
        """The server has been asked to stop: what it leaves behind did not end it."""
        mine = processes.c.state.in_([state.value for state in ATTEMPTING])
        connection.execute(update(processes).where(mine).values(crashes=_STOPPING, alone=0))

    @property
    def newest(self) -> int:
        """The number of the newest event on disk."""
        return self._next_event - 1

    def close_queue(self) -> None:
        """Claim no more: the server is stopping."""
        self._slots.close()

    def finish_batch(self, connection: Connection) -> Batch | None:
        """The journal's `last`: claim what fits into free slots and write the events of the whole transaction."""
        claimed = [*self._taken, *self._slots.fill(connection, self._begin)]
        for seq, (_, event) in enumerate(self._told, self._next_event):
            event["seq"] = seq
        if not self._told:
            return None
        connection.execute(_INSERT_EVENTS, [event for _, event in self._told])
        return Batch(claimed, [(row, event_of(**event)) for row, event in self._told])

    def landed(self) -> None:
        """The transaction is on disk."""
        self._next_event += len(self._told)
        self._told = []
        self._taken = []
        self._slots.landed()

    def aborted(self) -> None:
        """The transaction is not: nothing of it counts."""
        self._told = []
        self._taken = []
        self._logs.aborted()
        self._slots.aborted()

    def _begin(self, connection: Connection, row: ProcessRecord, alone: bool = False) -> ProcessRecord:
        """The next attempt of what was queued."""
        changes = {
            "attempt": row.attempt + 1,
            "started": row.started if row.started is not None else time.time(),
            "retry_at": None,
            "crashes": row.crashes + 1,
            "alone": alone,
            "reached": max((done for done in (row.reached, row.done) if done is not None), default=None),
        }
        row = self._move(connection, row, Cause.CLAIM, **changes)
        fault_points.point("claim.written")
        return row

    def due(self, connection: Connection, id: str, attempt: int) -> None:
        """The time of a retry has come: it waits for a slot alone."""
        mine = (processes.c.id == id, processes.c.attempt == attempt, processes.c.state == State.QUEUED.value)
        if connection.execute(update(processes).where(*mine).values(retry_at=None)).rowcount:
            self._slots.look()

    # -- decisions

    def start(
        self, connection: Connection, new: New, completed: Callable[[dict[str, Any]], dict[str, Any] | None]
    ) -> tuple[ProcessRecord, bool]:
        """The process of this id, and whether it was made now.

        `completed` gives the parameters of an earlier request with the defaults that the work type has gained since;
        None when they do not fit it any more.

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
        )
        values = msgspec.structs.asdict(row) | {"code": new.code}
        del values["n"]
        inserted = connection.execute(_INSERT, values)
        if not inserted.rowcount:
            there = get(connection, new.id)
            if there.request != digest and not _is_repeated(there, new, completed):
                raise problems.ID_TAKEN(
                    f"process {there.id!r} was started with another request ({there.work_type}): choose another id, "
                    "or ask for this one with the same work type and parameters",
                    id=there.id,
                )
            return there, False
        n: int = inserted.lastrowid
        row = msgspec.structs.replace(row, n=n)
        if new.labels:
            connection.execute(insert(labels), [{"key": k, "value": v, "n": n} for k, v in new.labels.items()])
        self._slots.look()
        self._tell(row, None)
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
        was = row.state
        row = self._move(connection, row, cause, **changes)
        if cause is Cause.CANCEL and was not in (State.RUNNING, State.PAUSING) and not self._must_undo(row):
            row = self._move(connection, row, Cause.ROLLED_BACK, error=None, ended=time.time())
        fault_points.point(f"{cause}.written")
        return row

    def _move_on(self, connection: Connection, row: ProcessRecord) -> ProcessRecord:
        """A person pauses what the engine had paused: it waits for that person now."""
        row = self._change(connection, row, {"held": False, "error": None, "version": row.version + 1})
        self._tell(row, row.state)
        return row

    def hold_for_room(self) -> None:
        """Begin nothing, until `go_on_with_room`."""
        self._slots.hold("room")

    def pause_for_room(self, connection: Connection, error: ErrorInfo) -> list[ProcessRecord]:
        """Begin nothing, and pause all that runs, until `go_on_with_room`; the rows that were changed."""
        self.hold_for_room()
        running = self._all(connection, processes.c.state == State.RUNNING.value)
        return [self._move(connection, row, Cause.PAUSE, error=_encode(error), held=True) for row in running]

    def go_on_with_room(self, connection: Connection) -> list[ProcessRecord]:
        """Go on with what was paused for want of room; the rows that were changed."""
        self._slots.go_on("room")
        mine = (processes.c.held == 1, processes.c.state.in_([State.PAUSED.value, State.PAUSING.value]))
        return [self._ask(connection, row, Cause.RESUME) for row in self._all(connection, *mine)]

    def _must_undo(self, row: ProcessRecord) -> bool:
        return row.attempt > 0 and self._has_undo(row.work_type)

    def ask_all(
        self, connection: Connection, wanted: BulkRequest, cause: Cause
    ) -> tuple[list[ProcessRecord], dict[str, str]]:
        """A verb for all that match; refusals by id."""
        changed: list[ProcessRecord] = []
        refused: dict[str, str] = {}
        for row in self._all(connection, *matching(wanted)):
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
        """Keep safe points of running attempts; how many landed. Those of an old attempt change nothing."""
        rows: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for id, attempt, y, first in newest:
            row = {"wanted": id, "of_attempt": attempt}
            row |= {"done": y.done, "total": y.total, "note": y.note, "checkpoint": y.data}
            rows[first].append(row)
        landed = 0
        for statement, some in ((_CHECKPOINT, rows[False]), (_FIRST_PROGRESS, rows[True])):
            if some:
                landed += connection.execute(statement, some).rowcount
        fault_points.point("checkpoint.written")
        return landed

    def add_logs(self, connection: Connection, lines: Sequence[tuple[str, float, int, str]]) -> list[int]:
        """Keep log lines (id, time, attempt, message); the sequence number of each."""
        seqs = self._logs.add(connection, lines)
        fault_points.point("log.written")
        return seqs

    def ended(
        self, connection: Connection, id: str, attempt: int, outcome: Outcome, latest: Checkpoint | None, shutdown: bool
    ) -> ProcessRecord | None:
        """An attempt is over and its slot is free. None when it was an old one, whose report changes nothing.

        When the row is `cancelling` afterwards, its rollback is what comes next.
        """
        row = find(connection, id)
        if row is None or row.attempt != attempt or row.state not in ATTEMPTING:
            return None
        self._slots.free(id)
        changes: dict[str, Any] = {"crashes": 0, "alone": False}
        if latest is not None:
            changes |= {
                "done": latest.done,
                "total": latest.total,
                "note": latest.note,
                "checkpoint": latest.data,
            }
            if row.is_surpassed_by(latest.data, latest.done):
                changes["failures"] = 0
        if row.state is State.CANCELLING:
            if isinstance(outcome, Failed):
                changes["error"] = _encode(ErrorInfo(outcome.type, outcome.message))
            row = self._change(connection, row, changes)
            if not self._must_undo(row):
                row = self._move(connection, row, Cause.ROLLED_BACK, error=None, ended=time.time())
        elif isinstance(outcome, Succeeded):
            row = self._move(
                connection,
                row,
                Cause.SUCCEEDED,
                **changes,
                result=outcome.result,
                error=None,
                held=False,
                ended=time.time(),
            )
        elif isinstance(outcome, StoppedAttempt):
            row = self._move(connection, row, Cause.INTERRUPTED if shutdown else Cause.STOPPED, **changes)
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
            return self._move(connection, row, Cause.RETRY, **changes)
        return self._move(connection, row, Cause.FAILED, **changes, ended=time.time())

    def undone(self, connection: Connection, id: str, attempt: int, outcome: Outcome) -> ProcessRecord | None:
        """A rollback is over. One that failed is shown with both errors and can be tried again by cancelling again."""
        row = find(connection, id)
        if row is None or row.attempt != attempt or row.state is not State.CANCELLING:
            return None
        if isinstance(outcome, Failed):
            before = _decode(row.error, type=ErrorInfo) if row.error else ErrorInfo("Cancelled", "it was cancelled")
            both = ErrorInfo(before.type, before.message, f"{outcome.type}: {outcome.message}")
            row = self._move(connection, row, Cause.ROLLBACK_FAILED, error=_encode(both), ended=time.time())
        else:
            row = self._move(connection, row, Cause.ROLLED_BACK, error=None, ended=time.time())
        fault_points.point("undone.written")
        return row

    def overdue(self, connection: Connection, id: str) -> ProcessRecord | None:
        """Fail what waits, now that its deadline has passed; what runs is the answer, for its place to stop."""
        row = find(connection, id)
        if row is None or row.deadline is None:
            return None
        if row.state in (State.QUEUED, State.PAUSED):
            self._move(connection, row, Cause.FAILED, error=_encode(DEADLINE_PASSED), ended=time.time())
            fault_points.point("overdue.written")
        return row if row.state in (State.RUNNING, State.PAUSING) else None

    def delete(self, connection: Connection, id: str) -> None:
        """Forget one that has ended. Raises NO_SUCH_PROCESS, ILLEGAL_STATE."""
        row = get(connection, id)
        if row.state not in ENDED:
            raise problems.ILLEGAL_STATE(
                f"process {id!r} is {row.state}: cancel it and wait until it has ended, then delete it", state=row.state
            )
        self._delete(connection, [row])

    def expire(self, connection: Connection, before: float) -> int:
        """Forget some of those that ended before that time, and that older ones were deleted; how many processes."""
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
        connection.execute(_INSERT_STAGED, [{"owner": owner(row)} for row in old])
        for row in old:
            self._tell(row, row.state, DELETED)
        fault_points.point("delete.written")

    def dropped(self, connection: Connection, owners: Collection[str]) -> None:
        """Note that the staged data of these deleted processes is gone."""
        connection.execute(_DELETE_STAGED, [{"gone": owner} for owner in owners])

    # -- rows

    def _all(self, connection: Connection, *where: ColumnElement[bool]) -> list[ProcessRecord]:
        return [record(row) for row in connection.execute(select(*COLUMNS).where(*where).order_by(processes.c.n))]

    def _move(self, connection: Connection, row: ProcessRecord, cause: Cause, **changes: Any) -> ProcessRecord:
        before = row.state
        changes |= {"state": step(before, cause), "version": row.version + 1}
        row = self._change(connection, row, changes)
        if row.state is State.QUEUED:
            self._slots.look()
        self._tell(row, before)
        return row

    def _change(self, connection: Connection, row: ProcessRecord, changes: dict[str, Any]) -> ProcessRecord:
        """Compare-and-set on (id, attempt, state)."""
        after = msgspec.structs.replace(row, **changes)
        values = {name: getattr(after, name) for name in _CHANGING}
        mine = {"of_n": row.n, "of_attempt": row.attempt, "of_state": row.state.value}
        if connection.execute(_CHANGE, values | mine).rowcount != 1:
            raise problems.CONFLICT(f"process {row.id!r} changed meanwhile; look at it again", id=row.id)
        return after

    def _tell(self, row: ProcessRecord, before: State | None, state: str = "") -> None:
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
        self._told.append((row, event))


DEADLINE_PASSED = ErrorInfo("DeadlineExceeded", "its deadline passed before it was done")
