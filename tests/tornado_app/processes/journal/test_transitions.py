"""`job.key` is one process's alone: in its journal, in any other one, and for as long as the process is kept."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from holdfast.wire import State
from tests.support import work
from tests.support.processes import engine_on, reaches, shut, start, until
from tests.tornado_app.processes.conftest import Make
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.settings import Settings
from tornado_app.work_types.import_csv import import_csv


async def key(engine: Engine, id: str) -> str:
    """The key that the attempt which runs has."""
    return (await until(engine, id, lambda process: bool(process.progress.note))).progress.note


async def test_it_stays_the_same_over_pauses_restarts_and_places(make_engine: Make) -> None:
    engine = await make_engine()
    await start(engine, "p", "keyed")
    first = await key(engine, "p")
    await engine.pause("p")
    await reaches(engine, "p", State.PAUSED)
    await shut(engine)
    engine = await make_engine()
    await engine.resume("p")
    await until(engine, "p", lambda process: process.attempt == 2 and process.state == State.RUNNING)
    work.RELEASE.set()
    assert (await reaches(engine, "p", State.SUCCEEDED)).result == first
    assert {line.message for line in (await engine.log("p", 0, 10)).items} == {first}


async def test_it_is_another_one_in_another_journal_and_when_the_id_is_used_again(
    make_engine: Make, tmp_path: Path
) -> None:
    work.RELEASE.set()
    id = "i" * 128
    keys: list[Any] = []
    for data_dir in (tmp_path / "data", tmp_path / "data", tmp_path / "other"):
        data_dir.mkdir(exist_ok=True)
        engine = await make_engine(data_dir=data_dir)
        await start(engine, id, "keyed")
        keys.append((await reaches(engine, id, State.SUCCEEDED)).result)
        await engine.delete(id)
        await shut(engine)
    assert len(set(keys)) == 3
    assert all(key.startswith(f"{id}#") and len(key) <= 160 for key in keys)


async def test_a_process_of_an_older_journal_keeps_the_key_that_it_started_with(make_engine: Make) -> None:
    engine = await make_engine()
    await start(engine, "p", "keyed")
    await key(engine, "p")
    await engine.pause("p")
    await reaches(engine, "p", State.PAUSED)
    await shut(engine)
    older = sqlite3.connect(engine.journal.path)
    older.executescript(
        "ALTER TABLE processes DROP COLUMN serial; DELETE FROM migrations WHERE name = '2026-11-name-for-ever'"
    )
    older.close()
    engine = await make_engine()
    await engine.resume("p")
    work.RELEASE.set()
    assert (await reaches(engine, "p", State.SUCCEEDED)).result == "p#1"


async def test_what_an_older_journal_holds_and_never_began_has_a_key_of_its_own(make_engine: Make) -> None:
    engine = await make_engine(max_running=1)
    await start(engine, "first", "keyed")
    await key(engine, "first")
    await start(engine, "second", "keyed")
    await shut(engine)
    older = sqlite3.connect(engine.journal.path)
    older.executescript(
        "ALTER TABLE processes DROP COLUMN serial; DELETE FROM migrations WHERE name = '2026-11-name-for-ever'"
    )
    older.close()
    engine = await make_engine()
    work.RELEASE.set()
    assert (await reaches(engine, "first", State.SUCCEEDED)).result == "first#1"
    made = str((await reaches(engine, "second", State.SUCCEEDED)).result)
    assert made.startswith("second#s")
    assert len(made) > 20


async def test_servers_on_one_database_import_and_cancel_each_its_own_rows(settings: Settings) -> None:
    """Two servers, or one after its data directory was moved away."""
    shared = settings.data_dir / "shared.sqlite"
    for name, rows in (("first", 3), ("second", 2)):
        text = "a,b\n" + "".join(f"{name},{n}\n" for n in range(rows))
        (settings.files_dir / f"{name}.csv").write_text(text)

    def loaded() -> list[str]:
        with closing(sqlite3.connect(shared)) as database, database:
            return [row[0] for row in database.execute("SELECT a FROM t ORDER BY a, b")]

    for name in ("first", "second"):
        data_dir = settings.data_dir / name
        data_dir.mkdir()
        changed = dataclasses.replace(settings, data_dir=data_dir, database={"shared": f"sqlite:///{shared}"})
        engine = engine_on(changed, Registry([import_csv]))
        await engine.open()
        await start(engine, "import", "import-csv", file_name=f"{name}.csv", table="t", database="shared")
        done = await reaches(engine, "import", State.SUCCEEDED, State.FAILED)
        assert done.result == {"rows": {"first": 3, "second": 2}[name], "table": "t", "columns": ["a", "b"]}, done.error
        await shut(engine)
    assert loaded() == ["first"] * 3 + ["second"] * 2
    await start_and_cancel(settings, shared)
    assert loaded() == ["first"] * 3 + ["second"] * 2


async def start_and_cancel(settings: Settings, shared: Path) -> None:
    """A third server fails in the middle of an import of the same id, and takes back what it loaded."""
    (settings.files_dir / "third.csv").write_text("a,b\nthird,1\nthird\n")
    data_dir = settings.data_dir / "third"
    data_dir.mkdir()
    changed = dataclasses.replace(settings, data_dir=data_dir, database={"shared": f"sqlite:///{shared}"})
    engine = engine_on(changed, Registry([import_csv]))
    await engine.open()
    params = {"file_name": "third.csv", "table": "t", "database": "shared", "batch_rows": 1}
    await start(engine, "import", "import-csv", **params)
    await reaches(engine, "import", State.FAILED)
    await engine.cancel("import")
    await reaches(engine, "import", State.CANCELLED)
    await shut(engine)
