"""Where `import-csv` writes to: the table, the position of each import, and who made which table."""

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
"""The column that tells which process a row came from, so that a rollback takes its own rows alone."""

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
"""The table of each import that was not taken back, and whether the import has made it."""


class Position(msgspec.Struct):
    """`rows` rows are written, of the first `byte` bytes of the file (as unpacked)."""

    byte: int
    rows: int


def most_columns(database: Engine) -> int | None:
    """How many columns a header may name; None where it is not known."""
    most = _MOST_COLUMNS.get(database.dialect.name)
    return None if most is None else most - 1


def columns_of(database: Engine, name: str) -> list[str] | None:
    """The columns of a table, without the one that is ours, in order; None when there is no such table."""
    inspector = inspect(database)
    if not inspector.has_table(name):
        return None
    return [column["name"] for column in inspector.get_columns(name) if column["name"] != OWNER]


def open_table(database: Engine, process: str, name: str, header: Sequence[str]) -> Table:
    """The table, made when it is missing. Raises `WorkError` when it is there and can't take these columns.

    First it is noted whose target it is, in the same transaction: so a cancel never drops what another one fills.
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
    """Make a table of our own that is missing, unless another import makes it at the same moment."""
    try:
        table.create(database, checkfirst=True)
    except DBAPIError:
        if not inspect(database).has_table(table.name):
            raise


def source_of(database: Engine, process: str) -> str | None:
    """The fingerprint of the file that this process has begun with; None when it has not."""
    if not inspect(database).has_table(positions.name):
        return None
    with database.connect() as connection:
        source: str | None = connection.execute(
            select(positions.c.source).where(positions.c.process == process)
        ).scalar()
    return source


def check_source(database: Engine, process: str, source: str) -> None:
    """Raise `WorkError` when this process has begun with another file."""
    if source_of(database, process) not in (None, source):
        raise WorkError(
            "the file has changed since the import began: cancel this one, which takes its rows back, and start another"
        )


def position_of(database: Engine, process: str, source: str, start: int) -> Position:
    """Where this process stands; its row is made the first time."""
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
    """Write one batch and the new position. Compare-and-set: a run that was cut off and still writes can't come
    between."""
    after = Position(byte, before.rows + len(batch))
    here = (positions.c.process == process) & (positions.c.byte == before.byte)
    landed = connection.execute(update(positions).where(here).values(byte=after.byte, rows=after.rows)).rowcount
    if landed != 1:
        raise WorkError("another run of this process writes to the table; this one stops")
    connection.execute(insert(table), batch)
    return after


def take_back(database: Engine, process: str, name: str) -> None:
    """Delete the rows of a process and its position; and the table, when it made it and nobody else uses it."""
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
        pass  # a view of somebody's needs it: an empty table stays
