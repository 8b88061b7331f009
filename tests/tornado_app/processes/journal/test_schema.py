"""Journals of earlier versions are brought to the newest schema, and keep what they have."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect

from holdfast.wire import BulkRequest, State
from tests.support.processes import makes_progress, reaches, shut, start
from tests.tornado_app.processes.conftest import Make
from tornado_app.processes.journal.schema import MIGRATIONS, metadata, migrate
from tornado_app.settings import SettingsError

# What each step added, taken away again: a journal of that version has all that came before.
FORMER = {
    "2026-11-keep-users-apart": "DROP INDEX processes_by_user; ALTER TABLE processes DROP COLUMN user;",
    "2026-11-own-attempts": "ALTER TABLE processes DROP COLUMN owner; DROP TABLE servers; DROP TABLE kill_requests;",
    "2026-11-hold-for-room": "ALTER TABLE processes DROP COLUMN held;",
    "2026-11-remember-staged": "DROP TABLE staged_by_deleted;",
    "2026-11-keep-time": "DROP TABLE clock;",
    "2026-11-bound-logs": "DROP TABLE log_sizes;",
    "2026-11-name-for-ever": "ALTER TABLE processes DROP COLUMN serial;",
    "2026-11-count-crashes": "ALTER TABLE processes DROP COLUMN crashes; ALTER TABLE processes DROP COLUMN alone;"
    "ALTER TABLE processes DROP COLUMN reached;",
    "2026-11-keep-deletions": "DROP INDEX events_of_deletions; ALTER TABLE events DROP COLUMN data;",
}


def make_older(path: Path, step: str) -> None:
    """Make a journal one of the version before `step`."""
    with closing(sqlite3.connect(path)) as journal:
        for name, script in FORMER.items():
            journal.executescript(script)
            journal.execute("DELETE FROM migrations WHERE name = ?", [name])
            if name == step:
                break
        journal.commit()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    with engine.begin() as connection:
        migrate(connection)
    yield engine
    engine.dispose()


def columns(engine: Engine) -> dict[str, set[str]]:
    found = inspect(engine)
    return {table: {column["name"] for column in found.get_columns(table)} for table in found.get_table_names()}


def test_every_step_has_a_former_version_here() -> None:
    assert list(FORMER) == [name for name, _ in MIGRATIONS][:0:-1]


@pytest.mark.parametrize("step", FORMER)
def test_any_older_journal_is_brought_to_the_newest_schema(database: Engine, tmp_path: Path, step: str) -> None:
    newest = columns(database)
    make_older(tmp_path / "journal.sqlite", step)
    assert columns(database) != newest
    with database.begin() as connection:
        migrate(connection)
    assert columns(database) == newest
    assert set(metadata.tables) <= set(newest)
    with database.begin() as connection:
        migrate(connection)  # has nothing left to do


def test_a_journal_of_a_newer_server_is_refused(database: Engine) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("INSERT INTO migrations VALUES ('2031-02-teleport')")
    with database.begin() as connection, pytest.raises(SettingsError, match="2031-02-teleport"):
        migrate(connection)


@pytest.mark.slow
async def test_what_ran_when_a_server_of_the_former_version_died_goes_on(make_engine: Make) -> None:
    first = await make_engine()
    for id in ("runs", "cancels", "waits"):
        await start(first, id, every=0.02)
        await makes_progress(first, id)
    await first.pause("waits")
    await reaches(first, "waits", State.PAUSED)
    path = first.journal.folder
    assert path is not None
    await shut(first, 5)
    make_older(path / "journal.sqlite", "2026-11-own-attempts")
    with closing(sqlite3.connect(path / "journal.sqlite")) as journal, journal:
        journal.execute("UPDATE processes SET state = 'running' WHERE id = 'runs'")
        journal.execute("UPDATE processes SET state = 'cancelling' WHERE id = 'cancels'")
    second = await make_engine()
    assert (await makes_progress(second, "runs")).attempt == 2
    await reaches(second, "cancels", State.CANCELLED)
    assert (await second.get("waits")).state == State.PAUSED
    numbers = [event.seq for event in await second.events_after(0, BulkRequest())]
    assert numbers == list(range(1, len(numbers) + 1))
