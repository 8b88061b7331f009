"""The journal's tables, and the named migrations that bring any older journal to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    cast,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.schema import CreateColumn

from tornado_app.settings import SettingsError

metadata = MetaData()

_ID = 384  # characters: those of an id, and of the folder of its user before it

# Times are seconds since the epoch, UTC. JSON is kept as bytes, as it came off the encoder.
processes = Table(
    "processes",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=True),  # age, and the cursor of lists
    Column("id", String(_ID), nullable=False, unique=True),
    Column("work_type", String(128), nullable=False),
    Column("params", LargeBinary, nullable=False),
    Column("request", LargeBinary, nullable=False),  # digest of what was asked for: same id and request, same process
    Column("state", String(16), nullable=False),
    Column("place", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("retry_at", Float),
    Column("deadline", Float),
    Column("done", Float),
    Column("total", Float),
    Column("note", Text, nullable=False),
    Column("checkpoint", LargeBinary),
    Column("result", LargeBinary),
    Column("error", LargeBinary),
    Column("code", LargeBinary),
    Column("crashes", Integer, nullable=False, server_default="0"),  # see `queries.ProcessRecord`
    Column("alone", Integer, nullable=False, server_default="0"),
    Column("reached", Float),
    Column("held", Integer, nullable=False, server_default="0"),
    Column("serial", String(32)),  # of a process of an older journal there is none: its `n` is
    Column("owner", String(32)),  # the server that runs it or rolls it back; of what nobody runs there is none
    Column("user", String(256)),  # the folder of whom it belongs to, where users are kept apart; `id` begins with it
    sqlite_autoincrement=True,
)
Index("processes_queue", processes.c.state, processes.c.priority.desc(), processes.c.n)
Index("processes_by_state", processes.c.state, processes.c.n)
Index("processes_by_type", processes.c.work_type, processes.c.n)
Index("processes_ended", processes.c.ended)
Index("processes_deadline", processes.c.deadline)
_BY_USER = Index("processes_by_user", processes.c.user, processes.c.n)

labels = Table(
    "labels",
    metadata,
    Column("key", String(128), primary_key=True),
    Column("value", String(256), primary_key=True),
    Column("n", Integer, primary_key=True),
    sqlite_with_rowid=False,
)
Index("labels_by_process", labels.c.n)

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(_ID), nullable=False),
    Column("time", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("before", String(16)),
    Column("attempt", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("error", LargeBinary),
    Column("data", LargeBinary),  # of a deleted process: what it was
    sqlite_autoincrement=True,
)
Index("events_by_process", events.c.id, events.c.seq)
DELETED = "deleted"
"""The `state` of the event that tells of a process's end in the journal. It outlives the process."""
DELETIONS = text(f"state = '{DELETED}'")  # written out, so that SQLite sees that the index below is meant
_OF_DELETIONS = Index("events_of_deletions", events.c.time, sqlite_where=DELETIONS)

logs = Table(
    "logs",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(_ID), nullable=False),
    Column("time", Float, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("message", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("logs_by_process", logs.c.id, logs.c.seq)

# How much of a process's log there is, and how much of it was cut off: the newest line that was says where.
log_sizes = Table(
    "log_sizes",
    metadata,
    Column("id", String(_ID), primary_key=True),
    Column("bytes", Integer, nullable=False),
    Column("gone", Integer, nullable=False),
    Column("cut", Integer),
    Column("cut_time", Float),
    Column("cut_attempt", Integer),
    sqlite_with_rowid=False,
)

# Owners of what deleted processes have staged, until that is removed: nothing else tells of them any more.
staged_by_deleted = Table(
    "staged_by_deleted", metadata, Column("owner", String(32), primary_key=True), sqlite_with_rowid=False
)

clock = Table("clock", metadata, Column("seen", Float, nullable=False))  # see `retention.JournalClock`

# Servers that have the journal open: the lease of each ends `lease` seconds after `seen`, on the database's clock.
servers = Table(
    "servers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(256), nullable=False),
    Column("seen", Float, nullable=False),
    Column("lease", Float, nullable=False),
    sqlite_with_rowid=False,
)

# Kills of attempts that another server runs. Its owner answers with a refusal, or ends the attempt.
kill_requests = Table(
    "kill_requests",
    metadata,
    Column("id", String(_ID), primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("owner", String(32), nullable=False),
    Column("taken", Integer, nullable=False),
    Column("refusal", Text),
    sqlite_with_rowid=False,
)

migrations = Table("migrations", metadata, Column("name", String(64), primary_key=True))


def _create(connection: Connection) -> None:
    metadata.create_all(connection)


def _keep_deletions(connection: Connection) -> None:
    _add_columns(connection, events.c.data)
    _OF_DELETIONS.create(connection, checkfirst=True)


def _count_crashes(connection: Connection) -> None:
    _add_columns(connection, processes.c.crashes, processes.c.alone, processes.c.reached)


def _name_for_ever(connection: Connection) -> None:
    _add_columns(connection, processes.c.serial)
    # What has never begun has marked nothing by its `n` yet, which another journal may have, too.
    unnamed = (processes.c.attempt == 0, processes.c.serial.is_(None))
    made = literal("s").concat(func.lower(func.hex(func.randomblob(9))))
    connection.execute(update(processes).where(*unnamed).values(serial=made))


def _bound_logs(connection: Connection) -> None:
    log_sizes.create(connection, checkfirst=True)
    size = func.sum(func.length(cast(logs.c.message, LargeBinary)) + 64)
    sizes = select(logs.c.id, size, literal(0)).group_by(logs.c.id)
    connection.execute(insert(log_sizes).from_select(["id", "bytes", "gone"], sizes))


def _keep_time(connection: Connection) -> None:
    clock.create(connection, checkfirst=True)


def _remember_staged(connection: Connection) -> None:
    staged_by_deleted.create(connection, checkfirst=True)


def _hold_for_room(connection: Connection) -> None:
    _add_columns(connection, processes.c.held)


def _own_attempts(connection: Connection) -> None:
    servers.create(connection, checkfirst=True)
    kill_requests.create(connection, checkfirst=True)
    _add_columns(connection, processes.c.owner)


def _keep_users_apart(connection: Connection) -> None:
    _add_columns(connection, processes.c.user)
    _BY_USER.create(connection, checkfirst=True)


def _add_columns(connection: Connection, *columns: Column[Any]) -> None:
    """Add the columns that a table of an older journal lacks. That takes no longer when the table is large."""
    for column in columns:
        if column.name not in {there["name"] for there in inspect(connection).get_columns(column.table.name)}:
            made = CreateColumn(column).compile(connection)
            connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {made}")


MIGRATIONS: tuple[tuple[str, Callable[[Connection], None]], ...] = (
    ("2026-11-create", _create),
    ("2026-11-keep-deletions", _keep_deletions),
    ("2026-11-count-crashes", _count_crashes),
    ("2026-11-name-for-ever", _name_for_ever),
    ("2026-11-bound-logs", _bound_logs),
    ("2026-11-keep-time", _keep_time),
    ("2026-11-remember-staged", _remember_staged),
    ("2026-11-hold-for-room", _hold_for_room),
    ("2026-11-own-attempts", _own_attempts),
    ("2026-11-keep-users-apart", _keep_users_apart),
)
"""Every step in order. A step once released is never changed; a change of the tables is a new step."""


def probe(connection: Connection) -> None:
    """Write something that changes nothing: fails where a real write would."""
    connection.execute(update(migrations).values(name=migrations.c.name))


def migrate(connection: Connection) -> None:
    """Run the steps that this journal has not had. Raises `SettingsError` for a journal of a newer server."""
    done: set[str] = set()
    if inspect(connection).has_table("migrations"):
        done = set(connection.execute(select(migrations.c.name)).scalars())
    unknown = done - {name for name, _ in MIGRATIONS}
    if unknown:
        raise SettingsError(
            f"the journal was written by a newer Holdfast (it has {', '.join(sorted(unknown))}): upgrade this one"
        )
    for name, run in MIGRATIONS:
        if name not in done:
            run(connection)
            connection.execute(insert(migrations).values(name=name))
