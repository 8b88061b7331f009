"""`export-csv`: write the rows of a SELECT to a CSV file, by keyset pagination."""

from __future__ import annotations

import csv
import decimal
import re
from collections.abc import Callable, Generator
from typing import Annotated, Any

import msgspec
from sqlalchemy import text

from holdfast.work import Job, Progress, StagedFile, WorkError, work_type
from tornado_app.files import names
from tornado_app.work_types.tables.keyset import AFTER, LIMIT, MOST, Keyset, Order, Page, to_json
from tornado_app.work_types.wording import counted

Scalar = str | int | float | bool | None

_SELECT = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of a cell that a spreadsheet may compute (OWASP, "CSV Injection"); the last four full width."""
_PIECE = 1 << 20


class ExportCsv(msgspec.Struct):
    """`query` is one SELECT without a semicolon; a placeholder `:name` in it takes its value from `values`.

    `key` is a column of its result that is unique and never NULL. Rows are written in its order, and a resumed export
    continues after the last key. `database` is one of the server's settings. `query_timeout_s` limits each statement.
    With `spreadsheet`, text that a spreadsheet would compute, such as `=1+1`, gets an apostrophe in front.
    """

    query: str
    key: Annotated[str, msgspec.Meta(min_length=1)]
    file_name: str
    values: dict[str, Scalar] = {}
    batch_rows: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    database: str = "default"
    delimiter: Annotated[str, msgspec.Meta(pattern=r'^[^"\r\n]$(?!\n)')] = ","
    query_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=86400 * 366)] | None = None
    spreadsheet: bool = False


class _ExportCheckpoint(msgspec.Struct):
    """`after` is the key of the last row that is in the first `byte` bytes of what is staged; `kind` is its type.

    `total` is the number of rows at the start. `order` names the order of the rows, "" in an earlier version.
    """

    kind: str
    after: Any
    byte: int
    rows: int
    total: int
    order: str = ""


@work_type("export-csv", params=ExportCsv, checkpoint=_ExportCheckpoint)
def export_csv(job: Job[ExportCsv]) -> Generator[Progress, None, dict[str, Any]]:
    """Write the rows of a SELECT to a CSV file, ordered by a unique column, one transaction for each batch.

    The file appears under its name when it is complete. NULL becomes an empty field, and bytes become hexadecimal.
    Rows that are added or deleted before the current key while the export runs (or is paused) are not noticed; but the
    export fails if it wrote fewer rows than the SELECT has. A stop does not wait for the database.
    """
    source = _source(job)
    staged = job.files.stage(job.params.file_name, f"export-csv-{job.id}")
    order = source.order()
    at = _begun(job, staged, order) or _ExportCheckpoint("", None, 0, 0, source.count(), order.name)
    staged.truncate(at.byte)
    while True:
        page = source.page(order, at.kind, at.after, job.params.batch_rows)
        at = _write(staged, job.params, page, at)
        if page.rows:
            yield Progress(at.rows, max(at.total, at.rows), at, counted(at.rows, "row"))
        if page.total is not None:
            break
    _check_whole(at, page.total)
    return {"rows": at.rows, "columns": page.columns, "file_name": job.params.file_name, "sha256": staged.publish()}


def _source(job: Job[ExportCsv]) -> Keyset:
    params = job.params
    return Keyset(
        job,
        job.database(params.database),
        _query(params),
        params.key,
        params.values,
        most=job.setting("max_field_size"),
        timeout=params.query_timeout_s,
    )


def _query(params: ExportCsv) -> str:
    return params.query.strip().removesuffix(";")


def _begun(job: Job[ExportCsv], staged: StagedFile, order: Order) -> _ExportCheckpoint | None:
    """Return the checkpoint of an earlier attempt; None when there is none, or it can't be continued."""
    at: _ExportCheckpoint | None = job.checkpoint
    if at is None:
        return None
    if staged.tell() < at.byte:
        job.log("what was exported before is gone; starting over")
        return None
    if at.order not in ("", order.name):
        job.log(f"the key was ordered as {at.order} and is as {order.name} now; starting over")
        return None
    return msgspec.structs.replace(at, order=order.name)


def _check_whole(at: _ExportCheckpoint, now: int) -> None:
    """Raise `WorkError` when fewer rows were written than the SELECT had, at the start and now."""
    least = min(at.total, now)
    if at.rows < least:
        raise WorkError(
            f"{at.rows} rows were written, but the SELECT holds {least}: the keys of some changed meanwhile, or the "
            "database does not keep its own order. Nothing was published: start another export, by a key that stays"
        )


@export_csv.rollback
def discard(job: Job[ExportCsv]) -> None:
    """Remove the staged bytes; an older file of that name stays."""
    job.files.stage(job.params.file_name, f"export-csv-{job.id}").discard()


@export_csv.check
def one_select(params: ExportCsv, setting: Callable[[str], Any]) -> None:
    """Refuse a query that is not one SELECT, and values that do not fit it."""
    names.check(params.file_name)
    if params.database not in setting("databases"):
        raise WorkError(f"there is no database {params.database!r}; the server has {', '.join(setting('databases'))}")
    query = _query(params)
    if not _SELECT.match(query) or ";" in query:
        raise WorkError("query must be one SELECT without a semicolon. Give what contains one as a value, :name")
    wanted = set(text(query).compile().params)
    for name in sorted(wanted ^ set(params.values)):
        if name in wanted:
            raise WorkError(f"query has :{name}: give it in values (or write \\:{name} for a colon as such)")
        raise WorkError(f"values has {name!r}, but query has no :{name}")
    if {AFTER, LIMIT, MOST} & wanted:
        raise WorkError(f"values can't be named {AFTER}, {LIMIT} or {MOST}: choose another name")


def _write(staged: StagedFile, params: ExportCsv, page: Page, at: _ExportCheckpoint) -> _ExportCheckpoint:
    """Append a page, the header before the first one, and return the new checkpoint."""
    out = _CsvText(staged)
    # Python before 3.13 puts only those line breaks into quotes that are in the terminator.
    writer = csv.writer(out, delimiter=params.delimiter, lineterminator=_CsvText.TERMINATOR)
    field = _defused if params.spreadsheet else _field
    if at.byte == 0:
        writer.writerow([field(name) for name in page.columns])
    writer.writerows([field(value) for value in row[:-2]] for row in page.rows)
    out.flush()
    if not page.rows:
        return msgspec.structs.replace(at, byte=staged.tell())
    kind, after = to_json(page.rows[-1][-2])
    return msgspec.structs.replace(at, kind=kind, after=after, byte=staged.tell(), rows=at.rows + len(page.rows))


class _CsvText:
    """Stream for a `csv.writer`, which ends each line with a line feed."""

    TERMINATOR = "\r\n"

    def __init__(self, staged: StagedFile) -> None:
        self._staged = staged
        self._lines: list[str] = []
        self._size = 0

    def write(self, line: str) -> None:
        self._lines.append(line.removesuffix(self.TERMINATOR))
        self._size += len(line)
        if self._size > _PIECE:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._staged.write("\n".join([*self._lines, ""]).encode())
        self._lines.clear()
        self._size = 0


def _field(value: Any) -> Any:
    """Return a value that the csv module can write."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return value


def _defused(value: Any) -> Any:
    """Return the same for spreadsheets: text that one would compute gets an apostrophe in front."""
    field = _field(value)
    if field is None or isinstance(value, (int, float, decimal.Decimal)):
        return field
    written = str(field)
    return f"'{written}" if written.startswith(_FORMULA) else field
