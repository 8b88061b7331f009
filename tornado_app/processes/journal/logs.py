"""The log lines of all processes in the journal: bounded, for each process and in all. The oldest lines go first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, LargeBinary, Row, bindparam, cast, delete, func, insert, select, update

from holdfast.wire import LogLine
from tornado_app.processes.journal.interface import Database
from tornado_app.processes.journal.pages import as_many_as_fit, is_full
from tornado_app.processes.journal.schema import log_sizes, logs

_OF_A_ROW = 64  # bytes that a line takes beside its message, with its indexes
_SLACK = 64  # what is cut goes this much below its bound, so that not every line that is added cuts one off

_INSERT = insert(logs)
_CUT = (
    update(log_sizes)
    .where(log_sizes.c.id == bindparam("of_id"))
    .values(
        bytes=log_sizes.c.bytes - bindparam("freed"),
        gone=log_sizes.c.gone + bindparam("lines"),
        cut=bindparam("seq"),
        cut_time=bindparam("time"),
        cut_attempt=bindparam("attempt"),
    )
)
_SIZE = func.length(cast(logs.c.message, LargeBinary)) + _OF_A_ROW


class ProcessLogs:
    """Decisions about log lines, which `Transitions` uses. `most` and `most_of_all` are bytes; 0 is no bound."""

    def __init__(self, database: Database, most: int, most_of_all: int) -> None:
        self._database = database
        made = database.insert(log_sizes)
        self._grow = made.on_conflict_do_update(
            index_elements=[log_sizes.c.id], set_={"bytes": log_sizes.c.bytes + made.excluded.bytes}
        )
        self._most = most
        self._most_of_all = most_of_all
        self._total: int | None = None  # bytes of all lines; None when that must be looked up

    def rolled_back(self) -> None:
        """Forget what the transaction counted: it was not committed."""
        self._total = None

    def add(self, connection: Connection, lines: Sequence[tuple[str, float, int, str]]) -> list[int]:
        """Keep lines (id, time, attempt, message), and cut off the oldest ones; the sequence number of each."""
        total = self._measured(connection)
        last = self._database.newest_number(connection, logs)  # a number is never used again
        seqs = list(range(last + 1, last + 1 + len(lines)))
        rows = [
            {"seq": seq, "id": id, "time": at, "attempt": attempt, "message": message}
            for seq, (id, at, attempt, message) in zip(seqs, lines, strict=True)
        ]
        connection.execute(_INSERT, rows)
        grown: dict[str, int] = {}
        for id, _, _, message in lines:
            grown[id] = grown.get(id, 0) + len(message.encode()) + _OF_A_ROW
        connection.execute(self._grow, [{"id": id, "bytes": size, "gone": 0} for id, size in grown.items()])
        self._total = total + sum(grown.values())
        if self._most:
            for id, size in self._too_large(connection, grown):
                self._cut(connection, size, self._most, id)
        if self._most_of_all and self._total > self._most_of_all:
            self._cut(connection, self._total, self._most_of_all, None)
        return seqs

    def delete(self, connection: Connection, ids: Sequence[str]) -> None:
        """Forget the lines of these processes."""
        connection.execute(delete(logs).where(logs.c.id.in_(ids)))
        if connection.execute(delete(log_sizes).where(log_sizes.c.id.in_(ids))).rowcount:
            self._total = None

    def _measured(self, connection: Connection) -> int:
        if self._total is None:
            self._total = connection.execute(select(func.sum(log_sizes.c.bytes))).scalar() or 0
        return self._total

    def _too_large(self, connection: Connection, ids: Iterable[str]) -> list[tuple[str, int]]:
        query = select(log_sizes.c.id, log_sizes.c.bytes).where(
            log_sizes.c.id.in_(list(ids)), log_sizes.c.bytes > self._most
        )
        return [(row[0], row[1]) for row in connection.execute(query)]

    def _cut(self, connection: Connection, size: int, most: int, id: str | None) -> None:
        """Delete the oldest lines, of one process or of all, until they are within `most` again."""
        mine = [] if id is None else [logs.c.id == id]
        query = select(logs.c.seq, logs.c.id, logs.c.time, logs.c.attempt, _SIZE).where(*mine).order_by(logs.c.seq)
        excess = size - most + most // _SLACK
        cuts: dict[str, dict[str, Any]] = {}
        freed = seq = 0
        with connection.execute(query) as oldest:
            for seq, of_id, time, attempt, bytes in oldest:
                cut = cuts.setdefault(of_id, {"of_id": of_id, "freed": 0, "lines": 0})
                cut |= {"freed": cut["freed"] + bytes, "lines": cut["lines"] + 1}
                cut |= {"seq": seq, "time": time, "attempt": attempt}
                freed += bytes
                if freed >= excess:
                    break
        if cuts:
            connection.execute(delete(logs).where(*mine, logs.c.seq <= seq))
            connection.execute(_CUT, list(cuts.values()))
            self._total = self._measured(connection) - freed


def log_after(connection: Connection, id: str, seq: int, limit: int) -> tuple[list[LogLine], bool]:
    """Log lines after that number, in order, and whether more may follow.

    In place of those that were cut off comes a line that says so.
    """
    query = select(logs).where(logs.c.id == id, logs.c.seq > seq).order_by(logs.c.seq).limit(limit + 1)
    lines = [_line(row) for row in as_many_as_fit(connection.execute(query), _size)]
    found = [*_missing(connection, id, seq), *lines]
    return found[:limit], len(found) > limit or is_full(lines, _size)


def log_end(connection: Connection, id: str, count: int) -> list[LogLine]:
    """The last so many log lines, in order."""
    query = select(logs).where(logs.c.id == id).order_by(logs.c.seq.desc()).limit(count)
    lines = [_line(row) for row in as_many_as_fit(connection.execute(query), _size)][::-1]
    is_short = len(lines) == count or is_full(lines, _size)
    return lines if is_short else [*_missing(connection, id, 0), *lines]


def _size(line: Row[Any] | LogLine) -> int:
    """About how many bytes a line is on the wire."""
    return _OF_A_ROW + len(line.message)


def _missing(connection: Connection, id: str, seq: int) -> list[LogLine]:
    query = select(log_sizes).where(log_sizes.c.id == id, log_sizes.c.gone > 0, log_sizes.c.cut > seq)
    row = connection.execute(query).one_or_none()
    if row is None:
        return []
    said = f"[{row.gone} older lines are missing here: logs are bounded by --log-size and --logs-size]"
    return [LogLine(row.cut, _at(row.cut_time), said, row.cut_attempt)]


def _line(row: Row[Any]) -> LogLine:
    return LogLine(row.seq, _at(row.time), row.message, row.attempt)


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
