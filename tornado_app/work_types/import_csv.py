"""`import-csv`: load a CSV file into a table, one transaction for each batch and its position."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Generator, Iterator
from typing import IO, Annotated, Any, Literal, NoReturn

import msgspec
from sqlalchemy import Engine, Table
from sqlalchemy.exc import OperationalError, StatementError

from holdfast.work import Job, Progress, WorkError, work_type
from tornado_app.work_types.tables import import_tables
from tornado_app.work_types.tables.csv_lines import AGAIN, CsvLines, NotText, TooLong, TooManyFields
from tornado_app.work_types.tables.databases import as_sentence, interruptible, is_disconnect, sentence
from tornado_app.work_types.tables.import_tables import OWNER, Position
from tornado_app.work_types.wording import counted

# `$` alone would let a line break through that follows.
_IDENTIFIER = r"^(?!holdfast_|sqlite_)[A-Za-z_][A-Za-z0-9_]{0,62}$(?!\n)"
_SAMPLE = 64 * 1024
_HEADER = 1 << 20
"""Most characters of the row that names the columns."""
_BATCH = 4 << 20
"""A batch ends after so many characters, however many rows were asked for."""
_DELIMITERS = ";\t|,"
_SHOWN = 60


class ImportCsv(msgspec.Struct):
    """`table` is created with text columns from the header if it is missing. `database` is one of the settings.

    Without a `header` the columns are those of the table, in its order, or `column_1` and so on. A field that equals
    `null` becomes NULL.
    """

    file_name: str
    table: Annotated[str, msgspec.Meta(pattern=_IDENTIFIER)]
    batch_rows: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    database: str = "default"
    delimiter: Annotated[str, msgspec.Meta(pattern=r'^[^"\r\n]$(?!\n)')] = ","
    encoding: Literal["utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"] = "utf-8"
    compression: Literal["auto", "gzip", "none"] = "auto"
    header: bool = True
    null: str | None = None


@work_type("import-csv", params=ImportCsv, checkpoint=Position)
def import_csv(job: Job[ImportCsv]) -> Generator[Progress, None, dict[str, Any]]:
    """Load a CSV file from the files directory into a table, one transaction for each batch.

    The first row names the columns. The position is stored in the transaction of its batch, so a crash at any moment
    neither loses nor duplicates a row. Cancelling deletes only the rows of this process, and the table if this process
    created it.
    """
    params = job.params
    database = job.database(params.database)
    try:
        file = job.files.open(params.file_name)
    except FileNotFoundError:
        raise WorkError(f"there is no file {params.file_name!r}: upload it first, then resume this process") from None
    with file:
        total = job.files.size(params.file_name)
        source = _fingerprint(file, total)
        import_tables.check_source(database, job.key, source)  # first: no other advice is right for another file
        reader = _Records(file, params, job.setting("max_field_size"))
        header = _columns(database, reader, params)
        _hint(job, header)
        with as_sentence(f"table {params.table!r} can't be made"):
            table = import_tables.open_table(database, job.key, params.table, header)
        position = import_tables.position_of(database, job.key, source, reader.lines.byte)
        reader.seek(position.byte, position.rows)
        while batch := _batch(reader, params.batch_rows):
            named = [dict(zip(header, row, strict=True)) | {OWNER: job.key} for row in batch]
            position = _write(job, database, table, named, position, reader.lines.byte)
            yield Progress(reader.lines.done, total, position, counted(position.rows, "row"))
    return {"rows": position.rows, "table": params.table, "columns": header}


@import_csv.rollback
def remove_rows(job: Job[ImportCsv]) -> None:
    """Delete the rows and the position of this process, and the table if it made it and it is empty; all or nothing."""
    database = job.database(job.params.database)
    if _may_be_of_another(job, database):
        job.log(
            f"rows of table {job.params.table!r} that are marked {job.key!r} were left: by all that is known a process "
            "of another server has loaded them from another file. Delete them by hand if they are not wanted"
        )
        return
    import_tables.roll_back(database, job.key, job.params.table)


def _may_be_of_another(job: Job[ImportCsv], database: Engine) -> bool:
    """Return whether rows with our key may be of another journal: keys of an earlier version were not unique.

    A process without a checkpoint has written at most the first batch of the file that is there.
    """
    serial = job.key.rpartition("#")[2]
    if job.checkpoint is not None or not serial.isdigit() or serial == "0":  # a job without a server has this serial
        return False
    source = import_tables.source_of(database, job.key)
    try:
        with job.files.open(job.params.file_name) as file:
            return source not in (None, _fingerprint(file, job.files.size(job.params.file_name)))
    except FileNotFoundError:
        return source is not None


def _hint(job: Job[ImportCsv], header: list[str]) -> None:
    """Log a hint when the delimiter looks wrong: such a file loads into one column."""
    others = [mark for mark in _DELIMITERS if mark != job.params.delimiter and mark in header[0]]
    if len(header) == 1 and others and job.attempt == 1:
        job.log(f"the file has one column, {_quoted(header[0])}: if {others[0]!r} is its delimiter, say so")


def _columns(database: Engine, reader: _Records, params: ImportCsv) -> list[str]:
    """Return the names of the columns, and leave the reader where the rows begin."""
    if params.header:
        return reader.header(import_tables.most_columns(database), database.dialect.max_identifier_length)
    width = reader.first_width(import_tables.most_columns(database))
    there = import_tables.columns_of(database, params.table)
    if there is None:
        return [f"column_{number}" for number in range(1, width + 1)]
    if len(there) != width:
        raise WorkError(
            f"{params.file_name}: its rows have {width} fields, table {params.table!r} has {len(there)} columns: "
            "choose another table, or give the file a header that names some of them"
        )
    return there


def _batch(reader: _Records, most: int) -> list[list[str | None]]:
    batch: list[list[str | None]] = []
    size = 0
    while len(batch) < most and size < _BATCH and (row := next(reader, None)) is not None:
        batch.append(row)
        size += reader.lines.row
    return batch


def _write(
    job: Job[ImportCsv], database: Engine, table: Table, batch: list[dict[str, Any]], before: Position, byte: int
) -> Position:
    """Write one batch and the new position, or neither."""
    name = job.params.file_name
    rows = f"rows {before.rows + 1} to {before.rows + len(batch)}"
    try:
        with database.begin() as connection, interruptible(job, connection):
            return import_tables.write(connection, table, job.key, batch, before, byte)
    except OperationalError as error:  # it is locked, its disk is full
        if is_disconnect(error):
            raise
        raise WorkError(
            f"{name}: {rows} can't be written: {sentence(error)}. Resume this process when they can"
        ) from None
    except (StatementError, ValueError) as error:  # PostgreSQL has no NUL in text
        said = sentence(error) if isinstance(error, StatementError) else str(error)
        raise WorkError(f"{name}: the database refuses {rows} (before byte {byte}): {said}; {AGAIN}") from None


class _Records(Iterator[list[str | None]]):
    """Iterator over the rows of a CSV file; a quoted field may span lines. `lines.byte` is the end of the row."""

    def __init__(self, file: IO[bytes], params: ImportCsv, most: int) -> None:
        self._name = params.file_name
        self._delimiter = params.delimiter
        self._null = params.null
        self._most = most
        self._rows = 0
        # A row may be longer than its longest field. Both are limited, so memory is.
        self._longest = most + _HEADER
        compression = params.compression
        self.lines = CsvLines(file, params.file_name, params.encoding, compression, params.delimiter, self._longest)
        # The module has one limit for all; what a row may have is counted line by line.
        csv.field_size_limit(max(csv.field_size_limit(), most))
        self.seek(0, 0)

    def seek(self, byte: int, rows: int) -> None:
        """Continue at a byte where a row begins, after that many rows."""
        self._rows = rows
        self.lines.row = 0
        self._reader = csv.reader(self.lines.lines(byte), delimiter=self._delimiter, strict=True)

    def header(self, most: int | None, longest: int) -> list[str]:
        """Return the header: `most` names at most, of at most `longest` bytes. Raises `WorkError` for another one."""
        names = [name.strip() for name in self._first()]
        if not names[0]:  # R and pandas write their index so
            names[0] = _free_name("column_1", names)
        flaw = _flaw(names, most, longest)
        if flaw:
            raise WorkError(
                f"{self._name} has no usable header: {flaw}. Its first line should name each column once "
                "(give header=false when it names none, and delimiter when it is not a comma)"
            )
        self.lines.width = len(names)
        return names

    def first_width(self, most: int | None) -> int:
        """Return the number of fields of the first row, which is read again."""
        first = self._first()
        width = len(first)
        text = "".join(first)
        if text.count("\0") * 3 > len(text):
            raise WorkError(
                f"{self._name}: its first row is full of NULs, as UTF-16 without its mark is: name the encoding, "
                "utf-16-le or utf-16-be"
            )
        if most is not None and width > most:
            raise WorkError(f"{self._name}: its first row has {width} fields; a table has at most {most} columns")
        self.lines.width = width
        self.seek(0, 0)
        return width

    def _first(self) -> list[str]:
        """Return the first row that is not blank."""
        self.lines.most = min(self._most, _HEADER)
        try:
            for row in self._reader:
                if len(row) > 1 or (row and (row[0].strip() or not row[0])):  # "" in quotes is no blank line
                    return row
                self.lines.row = 0
        except TooLong:
            raise WorkError(
                f"{self._name}: its first line does not end within {self.lines.most} characters: is it a CSV file, "
                "whose lines end and quotes are closed?"
            ) from None
        except (csv.Error, NotText) as error:
            self._refuse(error)
        finally:
            self.lines.most = self._longest
        raise WorkError(f"{self._name} is empty: its first line should name the columns")

    def __next__(self) -> list[str | None]:
        self.lines.row = 0
        try:
            row = next(self._reader)
            while not row:  # an empty line is no row
                self.lines.row = 0
                row = next(self._reader)
        except (csv.Error, NotText, TooLong, TooManyFields) as error:
            self._refuse(error)
        if len(row) != self.lines.width:
            self._refuse(TooManyFields(len(row)))
        if self.lines.row > self._most and max(map(len, row)) > self._most:
            self._refuse(TooLong())
        self._rows += 1
        if self._null is None:
            return row  # type: ignore[return-value] # the reader makes a new list for each row
        return [None if field == self._null else field for field in row]

    def _refuse(self, error: Exception) -> NoReturn:
        where = f"{self._name}: row {self._rows + 1} (before byte {self.lines.byte})"
        if isinstance(error, NotText):
            encoding = self.lines.encoding
            said = f"{self._name}: the line before byte {error.byte} is not {encoding}. Name its encoding"
            raise WorkError(f"{said}: {AGAIN}") from None
        if isinstance(error, TooLong):
            raise WorkError(
                f"{self._name}: row {self._rows + 1} (after byte {self.lines.byte}) has more than {self._most} "
                f"characters (--max-field-size): is a quote not closed, or has the file no line ends? {AGAIN}"
            ) from None
        if isinstance(error, TooManyFields):
            raise WorkError(f"{where} has {error} fields, the header names {self.lines.width}; {AGAIN}") from None
        said = str(error)
        if "new-line character" in said:  # the module's advice is for programmers
            said = "a carriage return stands outside of quotes"
        raise WorkError(f"{where} is not CSV: {said}; {AGAIN}") from None


def _flaw(names: list[str], most: int | None, longest: int) -> str:
    """Return the reason why these can't be the names of columns, or ""."""
    if most is not None and len(names) > most:
        return f"it has {len(names)} columns, and a table has at most {most}"
    counted = Counter(name.lower() for name in names)
    for number, name in enumerate(names, 1):
        if not name:
            return f"column {number} has no name"
        if "\0" in name:
            return f"the name of column {number} has a NUL in it (UTF-16 without its mark has; then name the encoding)"
        if counted[name.lower()] > 1:
            return f"{_quoted(name)} is there twice"
        if name.lower() == OWNER:
            return f"{OWNER} is the server's own column"
        if len(name.encode()) > longest:
            return f"the name {_quoted(name)} has more than {longest} bytes"
    return ""


def _free_name(name: str, names: list[str]) -> str:
    """Return the name, with underscores added while it is taken."""
    taken = {other.lower() for other in names}
    while name in taken:
        name += "_"
    return name


def _quoted(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else name[: _SHOWN - 3] + "...")


def _fingerprint(file: IO[bytes], size: int) -> str:
    """Return a digest of the size, head and tail of a file, to notice that it was replaced."""
    digest = hashlib.sha256(str(size).encode())
    for start in (0, max(0, size - _SAMPLE)):
        file.seek(start)
        digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
