"""Keyset pagination of a SELECT, in one total order of its key for sorting and for comparing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from sys import getsizeof
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError, StatementError

from holdfast.work import Job, WorkError
from tornado_app.work_types.tables.databases import interruptible, is_disconnect, sentence, was_canceled

AFTER, LIMIT, MOST = "holdfast_after", "holdfast_limit", "holdfast_most"
"""Names of values that the statements here give themselves."""

PAGE_BYTES = 8 << 20
"""A page ends after so many bytes, however many rows were asked for."""

_LONGEST_KEY = 8192  # characters: a checkpoint is written many times
_AT_ONCE = 8  # rows that PostgreSQL sends at once: each may be as large as the largest value
_PROGRESS = 100_000  # instructions of SQLite between checks of the time limit

# Types of PostgreSQL of which two values that are equal are also written alike, so their own order is total.
_EXACT = {
    "smallint", "integer", "bigint", "oid", "uuid", "date", "bytea",
    "timestamp without time zone", "timestamp with time zone",
}  # fmt: skip
# In a CAST the first of these would mean one of length 1.
_UNBOUNDED = {"character": "bpchar", "bit": '"bit"'}
# Object ids of PostgreSQL's types (pg_type.dat): small ones, and those whose size is known without the value.
_SMALL = {16, 20, 21, 23, 26, 700, 701, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2950}
_SIZED = {17, 25, 1042, 1043}


class Order(NamedTuple):
    """SQL that orders and compares rows. A checkpoint keeps `name`, to notice that the order has changed."""

    name: str
    by: str
    after: str


class Page(NamedTuple):
    """Rows in order, each with its key and a size behind its values. `total` is how many the SELECT holds, on the last
    page.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool
    total: int | None


class Keyset:
    """The pages of a SELECT, each read in a transaction of its own that can't write."""

    def __init__(
        self,
        job: Job[Any],
        engine: Engine,
        query: str,
        key: str,
        values: Mapping[str, Any],
        *,
        most: int,
        timeout: float | None,
    ) -> None:
        """`most` bytes may be in one value; `timeout` seconds may one statement take.

        Raises `WorkError` for a database that is neither SQLite nor PostgreSQL.
        """
        self._job = job
        self._engine = engine
        self._values = values
        self._name = key
        self._most = most
        self._timeout = timeout
        dialect = engine.dialect.name
        if dialect not in ("sqlite", "postgresql"):
            raise WorkError(f"only SQLite and PostgreSQL can be read in transactions that can't write, not {dialect}")
        self._postgres = dialect == "postgresql"
        # The line break ends a comment that the query may end with.
        self._from = f"FROM ({query}\n) AS holdfast_query"
        self._key = f"holdfast_query.{self._quoted(key)}"
        self._select = ""

    @staticmethod
    def _quoted(name: str) -> str:
        # Not by the dialect, which would double a percent sign that text() doubles again.
        return '"' + name.replace('"', '""').replace(":", "\\:") + '"'

    def count(self) -> int:
        """Return the number of rows. Raises `WorkError` for a query that the database refuses, or a key with NULLs."""
        with self._reading() as connection:
            return self._count(connection)

    def order(self) -> Order:
        """Return the order of the pages. Raises `WorkError` for a query that the database refuses."""
        with self._reading() as connection:
            return self._order(connection)

    def page(self, order: Order, kind: str, after: Any, limit: int) -> Page:
        """Return at most `limit` rows after a key of the type `kind` ("" for the first page).

        Raises `WorkError` for a key that is not unique, and for a value that is too large.
        """
        values: dict[str, Any] = {**self._values, LIMIT: limit + 1}
        if kind:
            values[AFTER] = _as_text(kind, after) if self._postgres else from_json(kind, after)
        with self._reading() as connection:
            select = self._select = self._select or self._selected(connection)
            if ":" + MOST in select:
                values[MOST] = self._most
            where = f"WHERE {order.after}" if kind else ""
            query = text(f"{select} {self._from} {where} ORDER BY {order.by} LIMIT :{LIMIT}")
            streaming = {"stream_results": True, "max_row_buffer": _AT_ONCE}
            with connection.execute(query, values, execution_options=streaming) as found:
                columns = list(found.keys())[:-2]
                rows, more = self._taken(found, limit)
            total = None if more else self._count(connection)
        return Page(columns, rows, more, total)

    def _taken(self, found: Iterator[Sequence[Any]], limit: int) -> tuple[list[tuple[Any, ...]], bool]:
        """Return rows up to the limit, in number or in bytes, and whether there are more."""
        rows: list[tuple[Any, ...]] = []
        size = 0
        before: Any = self  # no key
        for row in found:
            key = row[-2]
            if key == before:
                raise WorkError(f"key {self._name!r} is not unique: {key!r} is there twice")
            if len(rows) == limit or size > PAGE_BYTES:
                return rows, True
            weight = sum(map(getsizeof, row))  # quick, and never less than their octets
            if weight > self._most or (row[-1] or 0) > self._most:
                self._check_size(row)
            size += weight
            before = key
            rows.append(tuple(row))
        return rows, False

    def _check_size(self, row: Sequence[Any]) -> None:
        sizes = [len(field) for field in row[:-2] if isinstance(field, (str, bytes, memoryview))]
        largest = max(row[-1] or 0, *sizes, 0)
        if largest > self._most:
            raise WorkError(f"the row with the key {str(row[-2])[:100]!r} has {self._too_large(largest)}")

    def _too_large(self, size: int | None = None) -> str:
        has = "a value that is too large" if size is None else f"a value of {size} bytes"
        return f"{has}: at most {self._most} bytes are exported (--max-field-size). Leave it out of the query"

    def _selected(self, connection: Connection) -> str:
        """Return the SELECT clause: columns, key, and the size of the row's largest value, which is not sent."""
        if not self._postgres:  # SQLite itself refuses what is too large
            return f"SELECT holdfast_query.*, {self._key} AS holdfast_key, 0 AS holdfast_size"
        key = f"CAST({self._key} AS text) AS holdfast_key"
        described = connection.execute(text(f"SELECT * {self._from} LIMIT 0"), self._values)
        assert described.cursor is not None  # noqa: S101 - it has rows, if none
        types = [(str(name), code) for name, code, *_ in described.cursor.description]
        described.close()
        columns, sizes = [], []
        for name, code in types:
            column = f"holdfast_query.{self._quoted(name)}"
            if code in _SMALL:
                columns.append(column)
                continue
            size = f"octet_length({column if code in _SIZED else f'CAST({column} AS text)'})"
            columns.append(f"CASE WHEN {size} <= :{MOST} THEN {column} END AS {self._quoted(name)}")
            sizes.append(size)
        if not sizes or len({name for name, _ in types}) < len(types):  # a name that is there twice can't be asked for
            return f"SELECT holdfast_query.*, {key}, 0 AS holdfast_size"
        return f"SELECT {', '.join(columns)}, {key}, greatest({', '.join(sizes)}) AS holdfast_size"

    def _count(self, connection: Connection) -> int:
        query = text(f"SELECT count(*), count({self._key}) {self._from}")
        rows, keys = connection.execute(query, self._values).one()
        if rows != keys:
            raise WorkError(f"key {self._name!r} is NULL in {rows - keys} rows: choose a column that never is")
        return int(rows)

    def _order(self, connection: Connection) -> Order:
        """Return the key's own order, which an index may have; values that its collation calls equal by bytes."""
        key = self._key
        if not self._postgres:
            octets = f"{key} COLLATE BINARY"
            connection.execute(text(f"SELECT 1 {self._from} ORDER BY {key} LIMIT 0"), self._values).close()
            own = f"{key} > :{AFTER}"
            return Order("own", f"{key}, {octets}", f"{key} >= :{AFTER} AND ({own} OR {octets} > :{AFTER})")
        joined = (
            f"FROM (SELECT 1) AS holdfast_one LEFT JOIN {self._from.removeprefix('FROM ')} ON true"  # if none, NULL
        )
        typed = text(f"SELECT CAST(pg_typeof({key}) AS text) {joined} LIMIT 1")
        kind = str(connection.execute(typed, self._values).scalar_one())
        given = f"CAST(:{AFTER} AS text)"
        after = f"CAST({given} AS {_UNBOUNDED.get(kind, kind)})"
        if kind in _EXACT:
            return Order(kind, key, f"{key} > {after}")
        octets = f'CAST({key} AS text) COLLATE "C"'
        own = f"{key} > {after}"
        return Order(kind, f"{key}, {octets}", f"{key} >= {after} AND ({own} OR {octets} > {given})")

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Open a read-only transaction with one view of the data; a stop request interrupts its statements."""
        with self._engine.connect() as connection:
            limits = self._limited_postgres if self._postgres else self._limited_sqlite
            with limits(connection):
                try:
                    with interruptible(self._job, connection):
                        yield connection
                except (StatementError, sqlite3.Error) as error:
                    self._explain(error)
                    raise

    def _explain(self, error: SQLAlchemyError | sqlite3.Error) -> None:
        """Raise a `WorkError` where the query is what failed, not the connection."""
        if isinstance(error, StatementError) and (was_canceled(error) or str(error.orig) == "interrupted"):
            raise WorkError(
                f"a statement took longer than query_timeout_s = {self._timeout:g}: give the key an index, or more time"
                if self._timeout is not None
                else "the database ended the query"
            ) from None
        if isinstance(error, StatementError) and is_disconnect(error):
            return
        said = sentence(error) if isinstance(error, StatementError) else str(error)
        if "too big" in said:  # SQLITE_TOOBIG
            raise WorkError(f"the query makes {self._too_large()}") from None
        if "no such collation" in said:
            said += ". In the query, write a column that has it as: name COLLATE BINARY AS name"
        raise WorkError(f"the database refuses the query: {said}") from None

    @contextmanager
    def _limited_postgres(self, connection: Connection) -> Iterator[None]:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        if self._timeout is not None:
            connection.execute(text(f"SET LOCAL statement_timeout = {max(1, round(self._timeout * 1000))}"))
        yield

    @contextmanager
    def _limited_sqlite(self, connection: Connection) -> Iterator[None]:
        driver: Any = connection.connection.driver_connection
        connection.exec_driver_sql("PRAGMA query_only=ON")
        # So no value is made that would be too large, and then refused.
        before = driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(self._most, 1 << 16))
        if self._timeout is not None:
            until = time.monotonic() + self._timeout
            driver.set_progress_handler(lambda: time.monotonic() > until, _PROGRESS)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)
            driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
            connection.rollback()
            connection.exec_driver_sql("PRAGMA query_only=OFF")


def to_json(key: Any) -> tuple[str, Any]:
    """Return the type of a key, and the key as JSON. Raises `WorkError` for a type that JSON can't keep."""
    kind = type(key).__name__
    if isinstance(key, (str, bytes)) and len(key) > _LONGEST_KEY:
        raise WorkError(
            f"a key has {len(key)} characters; at most {_LONGEST_KEY} can be gone on from: choose a short one"
        )
    if kind not in ("int", "float", "str", "bytes"):
        raise WorkError(f"the key is a {kind}. Choose a column of numbers, text or octets")
    return kind, repr(key) if isinstance(key, float) else key  # JSON has no infinity


def from_json(kind: str, after: Any) -> Any:
    """Return a key of SQLite from a checkpoint, also from one of an earlier version."""
    if kind == "float":
        return float(after)
    return msgspec.convert(after, {"int": int, "str": str, "bytes": bytes}[kind])


def _as_text(kind: str, after: Any) -> str:
    """Return a key of PostgreSQL from a checkpoint as text, also from one of an earlier version, which is JSON."""
    return "\\x" + msgspec.convert(after, bytes).hex() if kind == "bytes" else str(after)
