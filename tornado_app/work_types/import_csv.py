"""`import-csv`: a CSV file into a table, a batch a transaction, with the position kept in the same transaction."""

from __future__ import annotations

import csv
import hashlib
import itertools
from collections.abc import Generator, Iterator
from typing import IO, Annotated, Any, Literal

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError

from holdfast.work import Job, Progress, WorkError, work_type

OWNER = "holdfast_process"
"""The column that tells which process a row came from, so that a rollback takes its own rows alone."""

# `$` alone would let a line break through that follows.
_IDENTIFIER = r"^(?!holdfast_|sqlite_)[A-Za-z_][A-Za-z0-9_]{0,62}$(?!\n)"
_SAMPLE = 64 * 1024
_BYTE_ORDER_MARK = "\ufeff"


class ImportCsv(msgspec.Struct):
    """`table` is made from the header (text columns) when it is missing; `database` is one of the server's settings."""

    file_name: str
    table: Annotated[str, msgspec.Meta(pattern=_IDENTIFIER)]
    batch_rows: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    database: str = "default"
    delimiter: Annotated[str, msgspec.Meta(pattern=r'^[^"\r\n]$(?!\n)')] = ","
    encoding: Literal["utf-8", "latin-1", "cp1252"] = "utf-8"


class _Position(msgspec.Struct):
    byte: int
    rows: int


_metadata = MetaData()
positions = Table(
    "holdfast_imports",
    _metadata,
    Column("process", String(160), primary_key=True),
    Column("source", String(128), nullable=False),
    Column("byte", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
)


@work_type("import-csv", params=ImportCsv, checkpoint=_Position)
def import_csv(job: Job[ImportCsv]) -> Generator[Progress, None, dict[str, Any]]:
    """Load a CSV file from the files directory into a table, a batch a transaction.

    The first line names the columns. The position is written in the transaction of its batch, so a crash at any
    moment neither loses a row nor doubles one. Cancelling deletes the rows of this process alone.
    """
    params = job.params
    database = job.database(params.database)
    try:
        file = job.files.open(params.file_name)
    except FileNotFoundError:
        raise WorkError(f"there is no file {params.file_name!r}: upload it first") from None
    with file:
        total = job.files.size(params.file_name)
        source = _fingerprint(file, total)
        reader = _Records(file, params)
        header = reader.header()
        table = _table(database, params.table, header)
        position = _position(database, job.key, source, reader.byte)
        reader.seek(position.byte, position.rows)
        while batch := list(itertools.islice(reader, params.batch_rows)):
            named = [dict(zip(header, row, strict=True)) | {OWNER: job.key} for row in batch]
            position = _write(database, table, job.key, named, position, reader.byte)
            yield Progress(position.byte, total, position, f"{position.rows} rows")
    return {"rows": position.rows, "table": params.table, "columns": header}


@import_csv.rollback
def remove_rows(job: Job[ImportCsv]) -> None:
    """Delete the rows of this process, and its position, in one transaction."""
    database = job.database(job.params.database)
    inspector = inspect(database)
    with database.begin() as connection:
        if inspector.has_table(job.params.table):
            table = Table(job.params.table, MetaData(), autoload_with=connection)
            if OWNER in table.c:
                connection.execute(delete(table).where(table.c[OWNER] == job.key))
        if inspector.has_table(positions.name):
            connection.execute(delete(positions).where(positions.c.process == job.key))


class _Records(Iterator[list[str]]):
    """The rows of a CSV file with the byte that each ends at; a quoted field may span lines."""

    def __init__(self, file: IO[bytes], params: ImportCsv) -> None:
        self._file = file
        self._name = params.file_name
        self._encoding = params.encoding
        self._delimiter = params.delimiter
        self._rows = 0
        self._width = 0
        self.byte = 0
        self.seek(0, 0)

    def seek(self, byte: int, rows: int) -> None:
        """Go on at a byte where a row begins, before which there were that many rows."""
        self._file.seek(byte)
        self.byte = byte
        self._rows = rows
        self._reader = csv.reader(self._lines(), delimiter=self._delimiter, strict=True)

    def header(self) -> list[str]:
        """The first row. Raises `WorkError` when it can't name columns."""
        try:
            names = next(self._reader)
        except StopIteration:
            raise WorkError(f"{self._name} is empty: its first line should name the columns") from None
        except (csv.Error, UnicodeDecodeError) as error:
            raise self._wrong(error) from None
        folded = [name.strip().lower() for name in names]
        for name in names:
            if not name.strip() or folded.count(name.strip().lower()) > 1 or name.strip().lower() == OWNER:
                raise WorkError(
                    f"{self._name} has no usable header: its first line should name each column once, not {names!r}"
                )
        self._width = len(names)
        return [name.strip() for name in names]

    def __next__(self) -> list[str]:
        try:
            row = next(self._reader)
            while not row:  # an empty line is no row
                row = next(self._reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise self._wrong(error) from None
        self._rows += 1
        if len(row) != self._width:
            raise WorkError(
                f"{self._name}: row {self._rows} (before byte {self.byte}) has {len(row)} fields, "
                f"the header names {self._width}; mend the file and start again"
            )
        return row

    def _lines(self) -> Iterator[str]:
        for line in self._file:
            start, self.byte = self.byte, self.byte + len(line)
            text = line.decode(self._encoding)
            yield text if start else text.removeprefix(_BYTE_ORDER_MARK)  # before any quote of the first name

    def _wrong(self, error: csv.Error | UnicodeDecodeError) -> WorkError:
        if isinstance(error, UnicodeDecodeError):
            return WorkError(
                f"{self._name}: the line before byte {self.byte} is not {self._encoding}; name its encoding"
            )
        return WorkError(f"{self._name}: row {self._rows + 1} (before byte {self.byte}) is not CSV: {error}")


def _fingerprint(file: IO[bytes], size: int) -> str:
    """Enough of a file to notice that another one stands under its name: size, head and tail."""
    digest = hashlib.sha256(str(size).encode())
    for start in (0, max(0, size - _SAMPLE)):
        file.seek(start)
        digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _table(database: Engine, name: str, header: list[str]) -> Table:
    """The table, made when it is missing. Raises `WorkError` when it is there and can't take these columns."""
    if not inspect(database).has_table(name):
        columns = (Column(column, Text) for column in header)
        _create(database, Table(name, MetaData(), *columns, Column(OWNER, String(160), index=True)))
    table = Table(name, MetaData(), autoload_with=database)
    missing = [column for column in [*header, OWNER] if column not in table.c]
    if missing:
        raise WorkError(f"table {name!r} is there without the column {', '.join(missing)}: choose another table")
    return table


def _create(database: Engine, table: Table) -> None:
    """Make a table that is missing, unless another import makes it at the same moment."""
    try:
        table.create(database, checkfirst=True)
    except DBAPIError:
        if not inspect(database).has_table(table.name):
            raise


def _position(database: Engine, process: str, source: str, start: int) -> _Position:
    """Where this process stands; its row is made the first time. Raises `WorkError` when the file is another one."""
    _create(database, positions)
    with database.begin() as connection:
        row = connection.execute(select(positions).where(positions.c.process == process)).one_or_none()
        if row is None:
            connection.execute(insert(positions).values(process=process, source=source, byte=start, rows=0))
            return _Position(start, 0)
    if row.source != source:
        raise WorkError("the file has changed since the import began: cancel this one and start another")
    return _Position(row.byte, row.rows)


def _write(
    database: Engine, table: Table, process: str, batch: list[dict[str, str]], position: _Position, byte: int
) -> _Position:
    """One batch and the new position, or neither."""
    after = _Position(byte, position.rows + len(batch))
    with database.begin() as connection:
        _advance(connection, process, position, after)
        connection.execute(insert(table), batch)
    return after


def _advance(connection: Connection, process: str, before: _Position, after: _Position) -> None:
    """Compare-and-set: a run that was cut off and still writes can't come between."""
    here = (positions.c.process == process) & (positions.c.byte == before.byte)
    landed = connection.execute(update(positions).where(here).values(byte=after.byte, rows=after.rows)).rowcount
    if landed != 1:
        raise WorkError("another run of this process writes to the table; this one stops")
