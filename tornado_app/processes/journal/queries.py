"""Rows of processes, and the queries that only read them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, or_, select

from holdfast.wire import BulkRequest, ErrorInfo, Event, Process, ProgressInfo, State
from tornado_app import problems
from tornado_app.processes.journal.interface import Database
from tornado_app.processes.journal.pages import as_many_as_fit, is_full
from tornado_app.processes.journal.schema import DELETED, events, labels, processes, staged_by_deleted
from tornado_app.processes.states import legal

ATTEMPTING = (State.RUNNING, State.PAUSING, State.CANCELLING)
"""The states in which a server owns a process: it runs an attempt, or rolls back."""

_decode = msgspec.json.decode
_encode = msgspec.json.encode

PROGRESS_BITS = 32
"""The low bits of a wire version count published progress, the high ones the state changes in the journal.

Ten times a second for thirteen years; and a million state changes still fit into a number of JavaScript.
"""


class ProcessRecord(msgspec.Struct, frozen=True):
    """A row of `processes`, without the code that may belong to it.

    `crashes` counts attempts in a row that began and were not seen to end, or to make progress, while their server
    lived; it is counted when an attempt begins, so that nothing need be written when the server dies. `alone` says that
    nothing else ran beside the attempt: when its server dies, no other one is to blame. `reached` is the most that was
    ever done before this attempt. `held` says that the engine has paused it, for a reason that is in `error`, and goes
    on with it when that is gone. `owner` is the server that runs the attempt or the rollback. `user` is the folder of
    whom the process belongs to, where users are kept apart: `id` then begins with it and a slash.
    """

    n: int
    id: str
    work_type: str
    params: bytes
    request: bytes
    state: State
    place: str
    priority: int
    labels: bytes
    retries: int
    failures: int
    attempt: int
    version: int
    created: float
    note: str = ""
    started: float | None = None
    ended: float | None = None
    retry_at: float | None = None
    deadline: float | None = None
    done: float | None = None
    total: float | None = None
    checkpoint: bytes | None = None
    result: bytes | None = None
    error: bytes | None = None
    crashes: int = 0
    alone: bool = False
    reached: float | None = None
    serial: str | None = None
    held: bool = False
    owner: str | None = None
    user: str | None = None

    def is_surpassed_by(self, checkpoint: bytes, done: float | None) -> bool:
        """Return whether a safe point is progress over where an attempt with this row began."""
        if checkpoint != (self.checkpoint or _NO_CHECKPOINT):
            return True
        return done is not None and (self.reached is None or done > self.reached)


class UserRequest(BulkRequest):
    """Filter of the processes of one user, with ids as the journal has them."""

    user: str | None = None


_NO_CHECKPOINT = b"null"

COLUMNS = [processes.c[name] for name in ProcessRecord.__struct_fields__]
BY_ID = select(*COLUMNS).where(processes.c.id == bindparam("wanted"))


def record(row: Sequence[Any]) -> ProcessRecord:
    """Return the `ProcessRecord` of a selected row."""
    values = list(row)
    values[5] = State(values[5])
    return ProcessRecord(*values)


def wire(row: ProcessRecord, *, published: int = 0, stalled: bool = False) -> Process:
    """Return a row as the wire has it; `published` counts the progress of the running attempt."""
    return Process(
        id=row.id,
        work_type=row.work_type,
        params=_decode(row.params),
        state=row.state,
        progress=ProgressInfo(row.done, row.total, row.note),
        created=datetime.fromtimestamp(row.created, UTC),
        started=None if row.started is None else _at(row.started),
        ended=None if row.ended is None else _at(row.ended),
        result=None if row.result is None else _decode(row.result),
        error=None if row.error is None else _decode(row.error, type=ErrorInfo),
        attempt=row.attempt,
        version=version(row, published),
        place=row.place,  # type: ignore[arg-type] # the column holds what StartRequest allowed
        priority=row.priority,
        labels=_decode(row.labels),
        retries=row.retries,
        retry_at=None if row.retry_at is None else _at(row.retry_at),
        deadline=None if row.deadline is None else _at(row.deadline),
        stalled=stalled,
        possible=legal(row.state),
    )


def version(row: ProcessRecord, published: int) -> int:
    """Return the wire version: it grows with every state change and with all progress that is published in between."""
    return (row.version << PROGRESS_BITS) + published


def serial(row: ProcessRecord) -> str:
    """Return a key that no other process of any journal has. It does not change while the process is kept."""
    return row.serial or str(row.n)


def stager(row: ProcessRecord) -> str:
    """Return the name of a process as owner of staged files, in a directory that may have seen other journals."""
    return _stager(row.n, row.id, row.created)


def _stager(n: int, id: str, created: float) -> str:
    return hashlib.sha256(f"{n} {id} {created}".encode()).hexdigest()[:20]


def staged_by_deleted_processes(connection: Connection) -> set[str]:
    """Return the owners of what deleted processes may have left staged."""
    return set(connection.execute(select(staged_by_deleted.c.owner)).scalars())


def finished_stagers(connection: Connection, owners: Collection[str]) -> set[str]:
    """Return those of `owners` that name processes which are kept, and will never run again.

    What failed may go on yet, and what this journal does not know may be another one's.
    """
    query = select(processes.c.n, processes.c.id, processes.c.created).where(
        processes.c.state.in_([State.SUCCEEDED.value, State.CANCELLED.value])
    )
    found = {_stager(n, id, created) for n, id, created in connection.execute(query)}
    return found.intersection(owners)


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def newest_event(database: Database, connection: Connection) -> int:
    """Return the number of the newest event that there ever was; 0 when there was none."""
    return database.newest_number(connection, events)


def changes_between(connection: Connection, after: int, before: int) -> list[tuple[ProcessRecord | None, Event]]:
    """Return the events between two numbers, in order, each with its process as it is now, if it is kept."""
    between = (events.c.seq > after, events.c.seq < before)
    found = [
        event_of(**row._mapping) for row in connection.execute(select(events).where(*between).order_by(events.c.seq))
    ]
    rows = {event.id: find(connection, event.id) for event in found}
    return [(rows[event.id], event) for event in found]


def event_of(
    seq: int,
    id: str,
    time: float,
    state: str,
    before: str | None,
    attempt: int,
    version: int,
    error: bytes | None,
    data: bytes | None,
) -> Event:
    """Return a row of `events` as the wire has it."""
    deleted = state == DELETED
    return Event(
        "deleted" if deleted else "state",
        id,
        datetime.fromtimestamp(time, UTC),
        seq=seq,
        state=None if deleted else State(state),
        before=None if before is None else State(before),
        attempt=attempt,
        version=version << PROGRESS_BITS,
        error=None if error is None else _decode(error, type=ErrorInfo),
        data=None if data is None else _decode(data),
    )


def matching(wanted: BulkRequest) -> list[ColumnElement[bool]]:
    """Return the filter as conditions, all of which must hold."""
    where: list[ColumnElement[bool]] = []
    if isinstance(wanted, UserRequest):
        where.append(processes.c.user == wanted.user)
    if wanted.ids is not None:
        where.append(processes.c.id.in_(wanted.ids))
    if wanted.work_type is not None:
        where.append(processes.c.work_type == wanted.work_type)
    if wanted.state is not None:
        values = [state.value for state in wanted.state]
        where.append(processes.c.state == values[0] if len(values) == 1 else processes.c.state.in_(values))
    for key, value in (wanted.label or {}).items():
        labelled = select(labels.c.n).where(labels.c.key == key, labels.c.value == value)
        where.append(processes.c.n.in_(labelled))
    return where


def page(
    connection: Connection, wanted: BulkRequest, before: int | None, limit: int
) -> tuple[list[ProcessRecord], bool]:
    """Return rows older than `before`, the newest first, and whether more follow.

    Right while rows come and go, since `n` never changes and is never reused.
    """
    found: list[ProcessRecord] = []
    oldest = 0  # of the states whose walk ended early, the newest row at which one did
    # One query a state: each walks its own index and stops at the limit; several at once would sort all that match.
    one_by_one: list[State | None] = list(wanted.state) if wanted.state else [None]
    for state in one_by_one:
        where = matching(msgspec.structs.replace(wanted, state=None if state is None else [state]))
        if before is not None:
            where.append(processes.c.n < before)
        query = select(*COLUMNS).where(*where).order_by(processes.c.n.desc()).limit(limit + 1)
        of_state = list(as_many_as_fit((record(row) for row in connection.execute(query)), _size))
        found += of_state
        if len(of_state) <= limit and is_full(of_state, _size):
            oldest = max(oldest, of_state[-1].n)
    found = sorted((row for row in found if row.n >= oldest), key=lambda row: -row.n)
    fitting = list(as_many_as_fit(found[:limit], _size))
    return fitting, len(fitting) < len(found) or oldest > 0


def _size(row: ProcessRecord) -> int:
    """Estimate the bytes of a row on the wire."""
    parts = (row.params, row.labels, row.result, row.error, row.note)
    return 512 + sum(len(part) for part in parts if part)


def cursor(n: int) -> str:
    """Return the place of a row in a list, opaque to callers."""
    return base64.urlsafe_b64encode(f"n{n}".encode()).decode().rstrip("=")


def from_cursor(given: str) -> int:
    """Return the row number of a cursor. Raises BAD_PARAMETERS for what `cursor` never made."""
    try:
        plain = base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)).decode("ascii")
        if plain[:1] == "n" and plain[1:].isdigit() and len(plain) < 20:  # what SQLite's 64 bits hold
            return int(plain[1:])
    except ValueError:
        pass
    raise problems.BAD_PARAMETERS("cursor is not one that this server gave: leave it out to start anew", field="cursor")


def events_after(connection: Connection, seq: int, wanted: BulkRequest, limit: int) -> list[Event]:
    """Return the state changes and deletions after that number, in order."""
    where: list[ColumnElement[bool]] = []
    if isinstance(wanted, UserRequest):
        where += [events.c.id > f"{wanted.user}/", events.c.id < f"{wanted.user}0"]  # "0" comes behind "/"
        wanted = BulkRequest(wanted.ids, wanted.work_type, wanted.state, wanted.label)
    if wanted.ids is not None:
        where.append(events.c.id.in_(wanted.ids))
    conditions = matching(msgspec.structs.replace(wanted, ids=None))
    if conditions:
        where.append(or_(events.c.state == DELETED, events.c.id.in_(select(processes.c.id).where(*conditions))))
    query = select(events).where(*where).order_by(events.c.seq).limit(limit)
    found: list[Event] = []
    while len(found) < limit:
        selected = connection.execute(query.where(events.c.seq > seq))
        rows = list(as_many_as_fit(selected, _event_size))
        page = [event_of(**row._mapping) for row in rows]
        found += [event for event in page if event.type == "state" or fits(wanted, event, None)]
        ends_here = is_full(rows, _event_size)
        if (ends_here and found) or (not ends_here and len(page) < limit):
            break
        seq = page[-1].seq or seq
    return found


def _event_size(row: Row[Any]) -> int:
    return 128 + len(row.error or b"") + len(row.data or b"")


def kind(row: ProcessRecord) -> bytes:
    """Return the work type and labels of a process as JSON, for the event of its deletion."""
    return _encode({"work_type": row.work_type, "labels": msgspec.Raw(row.labels)})


def fits(wanted: BulkRequest, event: Event, row: ProcessRecord | None) -> bool:
    """Return whether an event is of a process that the filter means. `row` is that process, None for a deletion."""
    if wanted.ids is not None and event.id not in wanted.ids:
        return False
    if wanted.work_type is None and not wanted.label:
        return row is not None or event.type == DELETED
    if row is not None:
        work_type, given = row.work_type, _decode(row.labels) if wanted.label else {}
    elif event.data is not None and event.type == DELETED:
        work_type, given = event.data["work_type"], event.data["labels"]
    else:  # of a file or an upload
        return False
    return wanted.work_type in (None, work_type) and (wanted.label or {}).items() <= given.items()


def cancelling(connection: Connection, owner: str) -> list[ProcessRecord]:
    """Return the processes that this server is to roll back, or is rolling back."""
    mine = (processes.c.state == State.CANCELLING.value, processes.c.owner == owner)
    query = select(*COLUMNS).where(*mine).order_by(processes.c.n)
    return [record(row) for row in connection.execute(query)]


def counts(connection: Connection) -> list[tuple[str, str, int]]:
    """Count the processes that have not ended, by state and work type."""
    live = [s.value for s in (State.QUEUED, State.RUNNING, State.PAUSING, State.PAUSED, State.CANCELLING)]
    query = (
        select(processes.c.state, processes.c.work_type, func.count())
        .where(processes.c.state.in_(live))
        .group_by(processes.c.state, processes.c.work_type)
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def has_live(connection: Connection) -> bool:
    """Return whether a process runs, stops or rolls back, or waits for its turn, its retry, or room on the disk.

    That of a server that has crashed is one until it is recovered, whatever its owner.
    """
    live = [s.value for s in (State.QUEUED, State.RUNNING, State.PAUSING, State.PAUSED, State.CANCELLING)]
    is_held = or_(processes.c.state != State.PAUSED.value, processes.c.held == 1)
    found = select(processes.c.n).where(processes.c.state.in_(live), is_held).limit(1)
    return connection.execute(found).first() is not None


def oldest_queued(connection: Connection) -> float | None:
    """Return when the oldest queued process was created, seconds since the epoch."""
    query = select(func.min(processes.c.created)).where(processes.c.state == State.QUEUED.value)
    oldest: float | None = connection.execute(query).scalar()
    return oldest


def code(connection: Connection, id: str) -> bytes | None:
    """Return the code that a client sent for that process."""
    sent: bytes | None = connection.execute(select(processes.c.code).where(processes.c.id == id)).scalar()
    return sent


def find(connection: Connection, id: str) -> ProcessRecord | None:
    """Return the row of that id, or None."""
    row = connection.execute(BY_ID, {"wanted": id}).one_or_none()
    return None if row is None else record(row)


def get(connection: Connection, id: str) -> ProcessRecord:
    """Return the row of that id. Raises NO_SUCH_PROCESS."""
    row = find(connection, id)
    if row is None:
        raise problems.NO_SUCH_PROCESS(f"there is no process {id!r}. Start it first", id=id)
    return row
