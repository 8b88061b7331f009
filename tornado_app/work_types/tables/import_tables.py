"""Tables that `import-csv` writes: the target, the position of each import, and which import made which table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    delete,
    exists,
    insert,
    inspect,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from holdfast.work import WorkError
from tornado_app.work_types.tables.databases import as_sentence

OWNER = "holdfast_process"
"""Column with the process that a row came from, so that a rollback deletes only its own rows."""

_MOST_COLUMNS = {"sqlite": 2000, "postgresql": 1600}
_TRIES = 5

_metadata = MetaData()
positions = Table(
    "holdfast_imports",
    _metadata,
    Column("process", String(160), primary_key=True),
    Column("source", String(128), nullable=False),
    Column("byte", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
)
targets = Table(
    "holdfast_import_tables",
    _metadata,
    Column("process", String(255), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("made", Boolean, nullable=False),
)
"""Target table of each import that was not rolled back, and whether the import made it."""


class Position(msgspec.Struct):
    """`rows` rows are written, of the first `byte` bytes of the file (as unpacked)."""

    byte: int
    rows: int


def most_columns(database: Engine) -> int | None:
    """Return the most columns that a header may name; None where the database's limit is not known."""
    most = _MOST_COLUMNS.get(database.dialect.name)
    return None if most is None else most - 1


def columns_of(database: Engine, name: str) -> list[str] | None:
    """Return the columns of a table in order, without `OWNER`; None when there is no such table."""
    inspector = inspect(database)
    if not inspector.has_table(name):
        return None
    return [column["name"] for column in inspector.get_columns(name) if column["name"] != OWNER]


def open_table(database: Engine, process: str, name: str, header: Sequence[str]) -> Table:
    """Return the target table; make it when it is missing. Raises `WorkError` when it lacks some of the columns.

    The same transaction first records that this process uses the table, so a cancel never drops a table that another
    import fills.
    """
    _create(database, targets)
    for tries in range(_TRIES, 0, -1):
        try:
            with database.begin() as connection:
                _make(connection, process, name, header)
            break
        except DBAPIError:  # another import has made it at the same moment
            if tries == 1:
                raise
    with as_sentence(f"table {name!r} can't be read"):
        table = Table(name, MetaData(), autoload_with=database)
    missing = [column for column in [*header, OWNER] if column not in table.c]
    if missing:
        with database.begin() as connection:  # it is no target of this one, so whoever made it may take it back
            connection.execute(delete(targets).where(targets.c.process == process, targets.c.made.is_(False)))
        lacks = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise WorkError(
            f"table {name!r} is there without the column {lacks}: choose another table; "
            "if an import made it with the wrong delimiter or header, cancel that one, which takes the table back "
            "(one that has succeeded can't be cancelled: rename its table)"
        )
    return table


def _make(connection: Connection, process: str, name: str, header: Sequence[str]) -> None:
    mine = targets.c.process == process
    values = select(literal(process), literal(name), literal(False))
    new = values.where(~exists(select(targets.c.process).where(mine)))
    # The first statement writes: SQLite begins a transaction with it.
    connection.execute(insert(targets).from_select(["process", "name", "made"], new))
    if inspect(connection).has_table(name):
        return
    if inspect(connection).has_table(positions.name):
        rows = connection.execute(select(positions.c.rows).where(positions.c.process == process)).scalar()
        if rows:
            raise WorkError(f"table {name!r} is gone, with {rows} rows of this process: cancel it and start another")
    columns = (Column(column, Text) for column in header)
    Table(name, MetaData(), *columns, Column(OWNER, String(255), index=True)).create(connection, checkfirst=False)
    connection.execute(update(targets).where(mine).values(made=True))


def _create(database: Engine, table: Table) -> None:
    """Create a table of our own when it is missing. Another import may create it at the same moment."""
    try:
        table.create(database, checkfirst=True)
    except DBAPIError:
        if not inspect(database).has_table(table.name):
            raise


def source_of(database: Engine, process: str) -> str | None:
    """Return the fingerprint of the file with which the process began; None when it has not begun."""
    if not inspect(database).has_table(positions.name):
        return None
    with database.connect() as connection:
        source: str | None = connection.execute(
            select(positions.c.source).where(positions.c.process == process)
        ).scalar()
    return source


def check_source(database: Engine, process: str, source: str) -> None:
    """Raise `WorkError` when the process began with another file."""
    if source_of(database, process) not in (None, source):
        raise WorkError(
            "the file has changed since the import began: cancel this one, which takes its rows back, and start another"
        )


def position_of(database: Engine, process: str, source: str, start: int) -> Position:
    """Return the position of the process; the first time, store one at `start`."""
    _create(database, positions)
    with database.begin() as connection:
        row = connection.execute(select(positions).where(positions.c.process == process)).one_or_none()
        if row is None:
            connection.execute(insert(positions).values(process=process, source=source, byte=start, rows=0))
            return Position(start, 0)
    return Position(row.byte, row.rows)


def write(
    connection: Connection, table: Table, process: str, batch: list[dict[str, Any]], before: Position, byte: int
) -> Position:
    """Write one batch and the new position. Raises `WorkError` when another run of the process has moved it."""
    after = Position(byte, before.rows + len(batch))
    here = (positions.c.process == process) & (positions.c.byte == before.byte)
    landed = connection.execute(update(positions).where(here).values(byte=after.byte, rows=after.rows)).rowcount
    if landed != 1:
        raise WorkError("another run of this process writes to the table. This one stops")
    connection.execute(insert(table), batch)
    return after


def roll_back(database: Engine, process: str, name: str) -> None:
    """Delete the rows and the position of a process, and the table if the process made it and no other uses it."""
    there = set(inspect(database).get_table_names())
    made = False
    with database.begin() as connection:
        if targets.name in there:
            if database.dialect.name == "postgresql":  # no other import begins meanwhile; SQLite has one writer
                connection.execute(text(f"LOCK TABLE {targets.name} IN EXCLUSIVE MODE"))
            mine = targets.c.process == process
            made = bool(connection.execute(select(targets.c.made).where(mine)).scalar())
            connection.execute(delete(targets).where(mine))
        if name in there:
            table = Table(name, MetaData(), autoload_with=connection)
            if OWNER in table.c:
                connection.execute(delete(table).where(table.c[OWNER] == process))
                if made and _is_unused(connection, table):
                    _drop(connection, table)
        if positions.name in there:
            connection.execute(delete(positions).where(positions.c.process == process))


def _is_unused(connection: Connection, table: Table) -> bool:
    others = select(targets.c.process).where(targets.c.name == table.name).limit(1)
    first = select(literal(1)).select_from(table).limit(1)
    return connection.execute(others).first() is None and connection.execute(first).first() is None


def _drop(connection: Connection, table: Table) -> None:
    try:
        with connection.begin_nested():
            table.drop(connection)
    except DBAPIError:
        pass  # a view depends on it: the empty table stays
