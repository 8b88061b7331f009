"""`export-csv`: what a SELECT finds into a CSV file, keyset by keyset."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import itertools
import re
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, StatementError

from holdfast.work import Job, Progress, StagedFile, WorkError, work_type
from tornado_app.files import names

Scalar = str | int | float | bool | None

_AFTER, _LIMIT = "holdfast_after", "holdfast_limit"
_SELECT = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)
_KEY_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (int, float, str, bytes, decimal.Decimal, datetime.datetime, datetime.date, datetime.time, uuid.UUID)
}


class ExportCsv(msgspec.Struct):
    """`query` is one SELECT without a semicolon; what varies in it is written `:name` and given in `values`.

    `key` is a column of its result that is unique and never NULL: rows come in its order, and it is where a resumed
    export goes on. `database` is one of the server's settings.
    """

    query: str
    key: Annotated[str, msgspec.Meta(min_length=1)]
    file_name: str
    values: dict[str, Scalar] = {}
    batch_rows: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    database: str = "default"
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","


class _At(msgspec.Struct):
    """`after` is the key of the last row that is in the first `byte` bytes of what is staged; `kind` is its type."""

    kind: str
    after: Any
    byte: int
    rows: int
    total: int


@work_type("export-csv", params=ExportCsv, checkpoint=_At)
def export_csv(job: Job[ExportCsv]) -> Generator[Progress, None, dict[str, Any]]:
    """Write what a SELECT finds in a database into a CSV file, ordered by a unique column, a batch a transaction.

    The file appears under its name when it is whole. NULL is an empty field, octets are written in hexadecimal.
    Rows that come or go behind the key while the export runs (or is paused) are not noticed.
    """
    params = job.params
    source = _Source(job.database(params.database), params)
    staged = job.files.stage(params.file_name, f"export-csv-{job.id}")
    at: _At | None = job.checkpoint
    if at is not None and staged.tell() < at.byte:
        job.log("what was exported before is gone; starting over")
        at = None
    if at is None:
        staged.truncate(0)
        at = _At("", None, 0, 0, source.count())
    else:
        staged.truncate(at.byte)
    while True:
        batch = source.batch(at)
        at = _write(staged, params.delimiter, batch, at)
        if batch.rows:
            yield Progress(at.rows, max(at.total, at.rows), at, f"{at.rows} rows")
        if not batch.more:
            break
    return {"rows": at.rows, "columns": batch.columns, "file_name": params.file_name, "sha256": staged.publish()}


@export_csv.rollback
def discard(job: Job[ExportCsv]) -> None:
    """What was staged goes; an older file of that name stays."""
    job.files.stage(job.params.file_name, f"export-csv-{job.id}").discard()


@export_csv.check
def one_select(params: ExportCsv, setting: Callable[[str], Any]) -> None:
    """Refuse what is not one SELECT, and values that do not fit it."""
    names.check(params.file_name)
    if params.database not in setting("databases"):
        raise WorkError(f"there is no database {params.database!r}; the server has {', '.join(setting('databases'))}")
    query = params.query.strip().removesuffix(";")
    if not _SELECT.match(query) or ";" in query:
        raise WorkError("query must be one SELECT without a semicolon; give what contains one as a value, :name")
    wanted = set(text(query).compile().params)
    for name in sorted(wanted ^ set(params.values)):
        if name in wanted:
            raise WorkError(f"query has :{name}: give it in values (or write \\:{name} for a colon as such)")
        raise WorkError(f"values has {name!r}, but query has no :{name}")
    if {_AFTER, _LIMIT} & wanted:
        raise WorkError(f"values can't be named {_AFTER} or {_LIMIT}: choose another name")


class _Batch(NamedTuple):
    """Rows in the order of the key, which is the column `key`; whether there are more."""

    columns: list[str]
    key: int
    rows: list[tuple[Any, ...]]
    more: bool


class _Source:
    """The SELECT, read a batch at a time in transactions that can't write."""

    def __init__(self, engine: Engine, params: ExportCsv) -> None:
        self._engine = engine
        self._params = params
        query = params.query.strip().removesuffix(";")
        # The line break ends a comment that the query may end with.
        self._from = f"FROM ({query}\n) AS holdfast_query"
        key = engine.dialect.identifier_preparer.quote_identifier(params.key).replace(":", "\\:")
        self._key = f"holdfast_query.{key}"

    def count(self) -> int:
        """How many rows there are. Raises `WorkError` for a query that can't be, or a key with NULLs."""
        with self._connected() as connection:
            query = text(f"SELECT count(*), count({self._key}) {self._from}")
            try:
                rows, keys = connection.execute(query, self._params.values).one()
            except StatementError as error:
                if isinstance(error, OperationalError) and self._engine.dialect.name != "sqlite":
                    raise  # the connection, not the query
                raise WorkError(f"the database refuses the query: {str(error.orig or error).splitlines()[0]}") from None
        if rows != keys:
            raise WorkError(f"key {self._params.key!r} is NULL in {rows - keys} rows: choose a column that never is")
        return int(rows)

    def batch(self, at: _At) -> _Batch:
        """What comes after `at`. Raises `WorkError` when the key is not unique."""
        limit = self._params.batch_rows
        values: dict[str, Any] = {**self._params.values, _LIMIT: limit + 1}
        where = ""
        if at.rows:
            where = f"WHERE {self._key} > :{_AFTER}"
            values[_AFTER] = msgspec.convert(at.after, _KEY_TYPES[at.kind])
        query = text(f"SELECT * {self._from} {where} ORDER BY {self._key} LIMIT :{_LIMIT}")
        with self._connected() as connection:
            found = connection.execute(query, values)
            columns = list(found.keys())
            rows = [tuple(row) for row in found]
        key = [column.lower() for column in columns].index(self._params.key.lower())
        for before, row in itertools.pairwise(rows):
            if before[key] == row[key]:
                raise WorkError(f"key {self._params.key!r} is not unique: {row[key]!r} is there twice")
        return _Batch(columns, key, rows[:limit], len(rows) > limit)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        dialect = self._engine.dialect.name
        if dialect not in ("sqlite", "postgresql"):
            raise WorkError(f"only SQLite and PostgreSQL can be read in transactions that can't write, not {dialect}")
        with self._engine.connect() as connection:
            if dialect == "postgresql":
                connection.execute(text("SET TRANSACTION READ ONLY"))
                yield connection
                return
            connection.exec_driver_sql("PRAGMA query_only=ON")
            try:
                yield connection
            finally:
                connection.rollback()
                connection.exec_driver_sql("PRAGMA query_only=OFF")


def _write(staged: StagedFile, delimiter: str, batch: _Batch, at: _At) -> _At:
    """Append a batch, with the header in front of the first; the new position."""
    page = io.StringIO(newline="")
    writer = csv.writer(page, delimiter=delimiter, lineterminator="\n")
    if at.byte == 0:
        writer.writerow(batch.columns)
    writer.writerows([_field(value) for value in row] for row in batch.rows)
    staged.write(page.getvalue().encode())
    if not batch.rows:
        return _At(at.kind, at.after, staged.tell(), at.rows, at.total)
    key = batch.rows[-1][batch.key]
    kind = type(key).__name__
    if kind not in _KEY_TYPES:
        raise WorkError(f"the key is a {kind}; choose a column of {', '.join(_KEY_TYPES)}")
    return _At(kind, key, staged.tell(), at.rows + len(batch.rows), at.total)


def _field(value: Any) -> Any:
    """What the csv module can write: the rest as it writes numbers and text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return value
