"""A journal that is locked, full, read-only or damaged: a clear error, and nothing lost that was answered as done."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import resource
import sqlite3
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, event, insert, text

from holdfast.wire import BulkRequest, State
from tests.support import work
from tests.support.processes import PLACES, eventually, makes_progress, reaches, shut, start, start_in, told, until
from tests.support.servers import ServerProcess, wait_until
from tests.tornado_app.processes.conftest import Make
from tornado_app import problems
from tornado_app.problems import ProblemError
from tornado_app.processes.journal import sqlite as module
from tornado_app.processes.journal.ownership import Takeover
from tornado_app.processes.journal.schema import MIGRATIONS, migrations
from tornado_app.processes.journal.sqlite import SqliteJournal
from tornado_app.processes.service import Engine
from tornado_app.processes.states import Cause
from tornado_app.settings import SettingsError

Spawn = Callable[..., ServerProcess]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked journal is found out at once."""
    monkeypatch.setattr(module, "BUSY_TIMEOUT", 0.05)


@pytest.fixture
def batches() -> list[str]:
    """The threads that wrote, one a transaction."""
    return []


@pytest.fixture
async def journal(tmp_path: Path, batches: list[str]) -> AsyncIterator[SqliteJournal]:
    """A journal by itself."""
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path, observe=lambda seconds: batches.append(threading.current_thread().name))
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, journal.open, loop)
    yield journal
    await loop.run_in_executor(None, journal.close)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to it."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextlib.contextmanager
def with_pragma(journal: SqliteJournal, during: str, after: str) -> Iterator[None]:
    """The writer's connections have a pragma set, from the next transaction on."""
    pragma = during

    @event.listens_for(journal._engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(pragma)

    yield
    pragma = after


def read_only(path: Path, journal: SqliteJournal) -> contextlib.AbstractContextManager[None]:
    """SQLite itself says that the file can't be written to."""
    return with_pragma(journal, "PRAGMA query_only=ON", "PRAGMA query_only=OFF")


TROUBLES: dict[str, tuple[Callable[[Path, SqliteJournal], contextlib.AbstractContextManager[None]], str]] = {
    "locked": (lambda path, journal: locked(path), "database is locked"),
    "read-only": (read_only, "attempt to write a readonly database"),
}
in_each_trouble = pytest.mark.parametrize("trouble", TROUBLES)


def in_trouble(engine: Engine, trouble: str) -> contextlib.AbstractContextManager[None]:
    journal = engine.journal
    return TROUBLES[trouble][0](journal.path, journal)


@in_each_trouble
async def test_what_is_asked_meanwhile_is_refused_and_changes_nothing(engine: Engine, trouble: str) -> None:
    await start(engine, "p", every=0.02)
    await makes_progress(engine, "p")
    with in_trouble(engine, trouble):
        for ask in (engine.pause("p"), start(engine, "q"), engine.check_ready()):
            with pytest.raises(ProblemError) as refusal:
                await ask
            assert refusal.value.kind is problems.UNAVAILABLE
            assert f"({TROUBLES[trouble][1]}). Nothing was changed" in refusal.value.detail
        assert (await engine.get("p")).state == State.RUNNING, "what is kept can be read"
        with pytest.raises(ProblemError) as missing:
            await engine.get("q")
        assert missing.value.kind is problems.NO_SUCH_PROCESS
    await engine.check_ready()
    assert (await start(engine, "q")).id == "q"
    await engine.pause("p")
    await reaches(engine, "p", State.PAUSED)


@pytest.mark.slow
@in_each_trouble
async def test_the_end_of_work_its_log_and_its_rollback_wait_until_they_can_be_written(
    engine: Engine, trouble: str, trail: Path
) -> None:
    await start(engine, "done", "bad", how="spins")
    await start(engine, "undone", trail=trail, every=0.05)
    await makes_progress(engine, "undone")
    await engine.cancel("undone")
    with in_trouble(engine, trouble):
        work.RELEASE.set()
        await asyncio.sleep(0.3)
        assert (await engine.get("done")).state == State.RUNNING, "not done before it is written"
    assert (await reaches(engine, "done", State.SUCCEEDED)).error is None
    assert [line.message for line in (await engine.log("done", 0, 10)).items] == ["before", "after"]
    await reaches(engine, "undone", State.CANCELLED)
    assert [line.split()[0] for line in told(trail)] == ["run", "stop", "undo"]


class FirstFails:
    """The journal of log lines: the first write is held, and fails when it is let go."""

    def __init__(self, engine: Engine) -> None:
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()
        self._journal = engine.journal
        engine.runner.reports._journal = self  # type: ignore[assignment]

    async def write(self, decision: Any) -> Any:
        if not self.begun.is_set():
            self.begun.set()
            await self.let_go.wait()
            raise problems.UNAVAILABLE("the disk is full")
        return await self._journal.write(decision)


async def test_log_lines_that_come_while_older_ones_cannot_be_written_stay_behind_them(engine: Engine) -> None:
    first = FirstFails(engine)
    watcher = engine.broker.watch("p", lambda event, row: event.type == "log")
    await start(engine, "p", "says", lines=["before", "after"])
    await first.begun.wait()
    work.RELEASE.set()
    run = engine.runner.get("p")
    assert run is not None
    await eventually(lambda: run.yields > 0)
    asking = asyncio.create_task(engine.log("p", 0, 10))
    await asyncio.sleep(0.05)  # time enough for what must not happen
    first.let_go.set()
    await asking
    await reaches(engine, "p", State.SUCCEEDED)
    assert [line.message for line in (await engine.log("p", 0, 10)).items] == ["before", "after"]
    assert [event.message for event in await watcher.next(1)] == ["before", "after"]
    engine.broker.leave("p", watcher)


async def test_work_does_not_end_before_lines_that_are_being_written_are_on_disk(
    engine: Engine,
) -> None:
    first = FirstFails(engine)
    await start(engine, "p", "says", lines=["only"])
    await first.begun.wait()
    work.RELEASE.set()
    run = engine.runner.get("p")
    assert run is not None
    assert not await engine.runner.wait_over(run, 0.1)
    first.let_go.set()
    await reaches(engine, "p", State.SUCCEEDED)
    assert [line.message for line in (await engine.log("p", 0, 10)).items] == ["only"]


@contextlib.asynccontextmanager
async def killed_while_locked(engine: Engine, ids: str) -> AsyncIterator[contextlib.ExitStack]:
    """Endless attempts, and a journal that is locked from the moment on at which the first of them is killed."""
    with contextlib.ExitStack() as lock:

        async def kill(grace: float, end: Callable[[float], Awaitable[str | None]]) -> str | None:
            if not held:
                held.append(lock.enter_context(locked(engine.journal.path)))
            return await end(grace)

        held: list[None] = []
        for id in ids:
            await start(engine, id, "bad", how="spins", place="process")
            await reaches(engine, id, State.RUNNING)
            run = engine.runner.get(id)
            assert run is not None
            assert run.handle is not None
            run.handle.kill = functools.partial(kill, end=run.handle.kill)  # type: ignore[method-assign]
        yield lock


@pytest.mark.slow
async def test_a_kill_is_not_told_as_done_before_that_is_written(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tornado_app.processes.maintenance.kills._WRITTEN", 0.1)
    async with killed_while_locked(engine, "p") as lock:
        with pytest.raises(ProblemError, match="'p' was killed, but the journal does not take that yet") as refusal:
            await engine.kill("p")
        assert refusal.value.kind is problems.UNAVAILABLE
        lock.close()
        await reaches(engine, "p", State.FAILED)
    async with killed_while_locked(engine, "ab"):
        answer = await engine.ask_all(BulkRequest(ids=["a", "b"]), Cause.KILL)
        assert answer.changed == []
        assert set(answer.refused) == {"a", "b"}
        assert "'a' was killed, but" in answer.refused["a"]
    assert {(await reaches(engine, id, State.FAILED)).state for id in "ab"} == {State.FAILED}


@pytest.mark.slow
async def test_a_kill_waits_until_its_end_is_written(engine: Engine) -> None:
    async with killed_while_locked(engine, "p") as lock:
        killing = asyncio.create_task(engine.kill("p"))
        run = engine.runner.get("p")
        assert run is not None
        await eventually(lambda: not run.handle.is_alive)  # type: ignore[union-attr]
        assert not killing.done()
        lock.close()
        assert (await killing).state == State.FAILED


@pytest.mark.slow
@in_each_trouble
async def test_a_retry_that_is_due_meanwhile_comes_afterwards(
    engine: Engine, trouble: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tornado_app.processes.journal.transitions.BACKOFF_FIRST", 1.0)
    await start(engine, "p", "stubborn", fails=1, to=1)
    await until(engine, "p", lambda p: p.retry_at is not None)
    with in_trouble(engine, trouble):
        await eventually(lambda: "that a retry is due can't be written yet" in caplog.text)
    await reaches(engine, "p", State.SUCCEEDED)


async def test_what_no_longer_fits_is_refused_and_what_still_fits_is_taken(engine: Engine) -> None:
    await start(engine, "p")
    await makes_progress(engine, "p")
    with with_pragma(engine.journal, "PRAGMA max_page_count=1", "PRAGMA max_page_count=1000000"):
        with pytest.raises(ProblemError, match="database or disk is full"):
            await start(engine, "q", trail="x" * 60_000)
        await engine.pause("p")
        await reaches(engine, "p", State.PAUSED)
    await start(engine, "q", to=1, trail="")
    await reaches(engine, "q", State.SUCCEEDED)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
async def test_work_whose_every_checkpoint_is_kept_waits_for_a_locked_journal(
    make_engine: Make, place: str, trail: Path
) -> None:
    engine = await make_engine(journal_interval=0)
    await start_in(engine, place, "p", every=0.005, trail=trail)
    await makes_progress(engine, "p")
    with locked(engine.journal.path):
        await asyncio.sleep(0.15)
        stands = (await engine.get("p")).progress.done
        await asyncio.sleep(0.15)
        assert (await engine.get("p")).progress.done == stands
    await makes_progress(engine, "p", stands or 0)
    await engine.cancel("p")
    await reaches(engine, "p", State.CANCELLED)
    assert [line.split()[0] for line in told(trail)] == ["run", "stop", "undo"]


@pytest.mark.parametrize("place", PLACES)
async def test_with_an_interval_of_zero_every_checkpoint_is_durable_before_the_work_goes_on(
    make_engine: Make, place: str
) -> None:
    engine = await make_engine(journal_interval=0)
    kept: list[float] = []
    write = engine.transitions.checkpoints

    def watch(connection: Connection, newest: Any) -> int:
        kept.extend(point.done for _, _, point, _ in newest)
        return write(connection, newest)

    engine.transitions.checkpoints = watch  # type: ignore[method-assign]
    await start_in(engine, place, "p", to=30, every=0)
    await reaches(engine, "p", State.SUCCEEDED)
    assert [done for done, _ in itertools.groupby(kept)] == list(range(1, 31))


async def test_a_shutdown_does_not_wait_for_a_journal_that_stays_locked(make_engine: Make) -> None:
    engine = await make_engine(journal_interval=0)
    await start(engine, "p", every=0.01)
    await makes_progress(engine, "p")
    with locked(engine.journal.path):
        await shut(engine, 0.3)
    again = await make_engine()
    await makes_progress(again, "p")


async def test_many_writes_that_wait_for_a_locked_journal_are_refused_together(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with locked(engine.journal.path):
        results = await asyncio.gather(*(start(engine, f"p{n}") for n in range(100)), return_exceptions=True)
    refused = [record for record in caplog.records if "writes failed" in record.getMessage()]
    assert 0 < len(refused) < 50, "not one after another"
    assert all(isinstance(result, ProblemError) for result in results)
    assert (await start(engine, "p0", to=1)).id == "p0"


# -- the journal by itself


def put(name: str) -> Callable[[Connection], str]:
    """A decision that writes a row which must be unique."""

    def decision(connection: Connection) -> str:
        connection.execute(insert(migrations).values(name=name))
        return name

    return decision


def names(connection: Connection) -> set[str]:
    return {row[0] for row in connection.execute(text("SELECT name FROM migrations"))} - dict(MIGRATIONS).keys()


async def test_decisions_that_wait_together_share_a_transaction(journal: SqliteJournal, batches: list[str]) -> None:
    with locked(journal.path):
        writing = [asyncio.create_task(journal.write(put("first")))]
        await asyncio.sleep(0.01)
        writing += [asyncio.create_task(journal.write(put(f"n{n}"))) for n in range(300)]
        await asyncio.sleep(0)
    results = await asyncio.gather(*writing, return_exceptions=True)
    assert results[1:] == [f"n{n}" for n in range(300)]
    assert len(batches) <= 4


class Held:
    """A decision that a worker thread writes, and that takes until it is told to go on."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._begun = threading.Event()
        self._go_on = threading.Event()
        self.writing = asyncio.create_task(asyncio.to_thread(journal.write_here, self._decide))

    def _decide(self, connection: Connection) -> None:
        self._begun.set()
        assert self._go_on.wait(10)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, 10)

    async def go_on(self) -> None:
        self._go_on.set()
        await self.writing


async def test_whoever_writes_first_writes_for_all_who_wait(journal: SqliteJournal, batches: list[str]) -> None:
    held = Held(journal)
    await held.begun()
    writing = [
        asyncio.create_task(write)
        for n in range(5)
        for write in (journal.write(put(f"loop{n}")), asyncio.to_thread(journal.write_here, put(f"worker{n}")))
    ]
    await eventually(lambda: len(journal._waiting) == 10)
    await held.go_on()
    assert await asyncio.gather(*writing) == [f"{who}{n}" for n in range(5) for who in ("loop", "worker")]
    assert len(batches) == 2, "what was begun, and all the others together"


async def test_what_worker_threads_wait_to_write_at_the_end_is_written(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, journal.open, loop)
    held = Held(journal)
    await held.begun()
    writing = asyncio.create_task(asyncio.to_thread(journal.write_here, put("a")))
    await eventually(lambda: len(journal._waiting) == 1)
    closing = asyncio.create_task(asyncio.to_thread(journal.close))
    await eventually(lambda: not journal._writer.is_alive())
    await held.go_on()
    await closing
    assert await writing == "a"


async def test_a_refusal_is_the_answer_of_its_own_decision_alone(journal: SqliteJournal) -> None:
    def refuse(connection: Connection) -> None:
        raise problems.CONFLICT("no")

    results = await asyncio.gather(
        journal.write(put("a")), journal.write(refuse), journal.write(put("b")), return_exceptions=True
    )
    assert results[0] == "a"
    assert isinstance(results[1], ProblemError)
    assert results[2] == "b"
    assert await journal.read(names) == {"a", "b"}


async def test_a_decision_that_breaks_spoils_no_other(journal: SqliteJournal) -> None:
    def bug(connection: Connection) -> None:
        raise ZeroDivisionError

    def broken(connection: Connection) -> None:
        connection.execute(text("SELECT * FROM moon"))

    writes = [put("a"), bug, put("b"), broken, put("a"), put("c")]
    results = await asyncio.gather(*map(journal.write, writes), return_exceptions=True)
    assert [type(result).__name__ for result in results] == [
        *("str", "ZeroDivisionError", "str", "ProblemError", "ProblemError", "str")
    ]
    assert await journal.read(names) == {"a", "b", "c"}


async def test_whoever_stops_waiting_stops_nothing(journal: SqliteJournal) -> None:
    writing = asyncio.create_task(journal.write(put("a")))
    await asyncio.sleep(0)
    writing.cancel()
    await journal.write(put("b"))
    assert await journal.read(names) == {"a", "b"}


async def test_a_reader_cannot_write(journal: SqliteJournal) -> None:
    with pytest.raises(ProblemError, match="attempt to write a readonly database"):
        await journal.read(put("a"))


async def test_after_the_end_writes_are_refused_and_those_before_it_are_done(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite", durable=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, journal.open, loop)
    writing = [asyncio.create_task(journal.write(put(f"n{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await loop.run_in_executor(None, journal.close)
    assert await asyncio.gather(*writing) == [f"n{n}" for n in range(50)]
    with pytest.raises(ProblemError, match="the server is stopping"):
        await journal.write(put("late"))
    with pytest.raises(ProblemError, match="the server is stopping"):
        await asyncio.to_thread(journal.write_here, put("late"))


# -- at the start


async def test_an_older_journal_is_brought_up_to_date_and_keeps_what_it_has(make_engine: Make) -> None:
    engine = await make_engine()
    await start(engine, "p", to=1)
    await reaches(engine, "p", State.SUCCEEDED)
    await shut(engine)
    older = sqlite3.connect(engine.journal.path)
    older.executescript(
        "DROP INDEX events_of_deletions; ALTER TABLE events DROP COLUMN data;"
        "ALTER TABLE processes DROP COLUMN crashes; ALTER TABLE processes DROP COLUMN alone;"
        "ALTER TABLE processes DROP COLUMN reached; ALTER TABLE processes DROP COLUMN serial;"
        "DELETE FROM migrations WHERE name != '2026-11-create'"
    )
    older.close()
    engine = await make_engine()
    assert len(await engine.events_after(0, BulkRequest())) == 3
    await engine.delete("p")
    (event,) = await engine.events_after(0, BulkRequest())
    assert event.data == {"work_type": "steps", "labels": {}}


def damage(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def overwrite(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\0" * (len(whole) - 4096))


def replace_with_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def write_from_the_future(path: Path) -> None:
    with closing(sqlite3.connect(path)) as journal, journal:
        journal.execute("INSERT INTO migrations VALUES ('2031-02-teleport')")
    journal.close()


def open_files() -> set[str]:
    """Paths of what this process has open."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the list itself
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return found


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damage, "can't be used: file is not a database; it is damaged: put a backup in its place, or keep it"),
        (cut, "can't be used: database disk image is malformed; it is damaged"),
        (overwrite, "can't be used: "),
        (replace_with_a_folder, "can't be used: unable to open database file; it can't be opened or written: see to"),
        (write_from_the_future, "was written by a newer Holdfast (it has 2031-02-teleport): upgrade this one"),
    ],
)
async def test_a_journal_that_is_no_good_is_refused_at_the_start_and_left_as_it_is(
    make_engine: Make, harm: Callable[[Path], None], words: str
) -> None:
    first = await make_engine()
    await start(first, "p", "empty")
    await reaches(first, "p", State.SUCCEEDED)
    await shut(first)
    path = first.journal.path
    harm(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(SettingsError) as refusal:
        await make_engine()
    assert words in str(refusal.value)
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert str(path) not in open_files()


@pytest.mark.slow
def test_the_server_says_so_in_one_line_and_exits(spawn_server: Spawn, tmp_path: Path) -> None:
    server = spawn_server()
    server.stop()
    damage(server.data_dir / "journal.sqlite")
    with pytest.raises(AssertionError, match=r"exit 2") as refusal:
        server.restart()
    assert "can't be used: file is not a database" in str(refusal.value)
    assert "Traceback" not in str(refusal.value)


def refused_at_start(server: ServerProcess) -> str:
    """The one line that it says when it does not start."""
    before = len(server.log)
    with pytest.raises(AssertionError, match=r"exit 2"):
        server.restart()
    lines = server.log[before:].splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("holdfast: ")
    return lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_journal_that_is_locked_at_the_start_is_said_to_be_and_nobody_is_told_to_move_it(
    spawn_server: Spawn, how: str
) -> None:
    server = spawn_server(*FLAGS)
    server.stop()
    other = sqlite3.connect(server.data_dir / "journal.sqlite", isolation_level=None)
    other.execute("PRAGMA journal_mode=DELETE")  # so that an exclusive lock keeps readers out as well
    other.execute(f"BEGIN {how}")
    said = refused_at_start(server)
    assert "can't be used: database is locked; another program holds it: end that one" in said
    assert "move" not in said
    assert "new one" not in said
    other.execute("ROLLBACK")
    other.close()
    server.restart()


@pytest.mark.slow
async def test_a_journal_that_fails_only_when_work_is_taken_up_is_refused_as_well(
    make_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recover(takeover: Takeover, connection: Connection) -> None:
        connection.execute(text("PRAGMA max_page_count=1"))
        connection.execute(text("CREATE TABLE no_room (a)"))

    monkeypatch.setattr(Takeover, "recover", recover)
    with pytest.raises(SettingsError, match="can't be used: database or disk is full; its disk is full: make room"):
        await make_engine()


async def test_a_journal_that_is_damaged_while_the_server_runs_is_a_clear_error(engine: Engine) -> None:
    for n in range(30):
        await start(engine, f"p{n}", "empty", labels={"k": "x" * 200})
    await reaches(engine, "p29", State.SUCCEEDED)
    path = engine.journal.path
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    for ask in (start(engine, "q"), engine.pause("p1"), engine.get("p3")):
        with pytest.raises(ProblemError) as refusal:
            await ask
        assert refusal.value.kind is problems.UNAVAILABLE
        assert "malformed" in refusal.value.detail or "not a database" in refusal.value.detail


# -- a real disk


def ready(server: ServerProcess) -> int:
    return httpx.get(f"{server.url}/health/ready", timeout=30).status_code


def states(server: ServerProcess) -> dict[str, str]:
    return {p["id"]: p["state"] for p in httpx.get(f"{server.url}/v1/processes", timeout=30).json()["items"]}


FLAGS = ("--import", "tests.support.work", "--journal-interval", "0.01")


def start_over_http(server: ServerProcess, id: str, work_type: str = "steps", **params: Any) -> int:
    request = {"id": id, "work_type": work_type, "params": {"every": 0.01} | params}
    return httpx.post(f"{server.url}/v1/processes", json=request, timeout=30).status_code


@pytest.mark.slow
def test_a_full_disk_is_a_503_and_when_there_is_room_again_everything_goes_on(
    spawn_server: Spawn, tmp_path: Path
) -> None:
    """The limit on the size of files stands for the end of the disk; it can be lifted."""
    server = spawn_server(*FLAGS)
    trail = tmp_path / "trail"
    assert start_over_http(server, "p", to=100, every=0.05, trail=str(trail)) == 201
    assert ready(server) == 200
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4096, hard))
    assert ready(server) == 503
    answers = [httpx.post(f"{server.url}/v1/processes/p/cancel", timeout=30), httpx.get(f"{server.url}/health/ready")]
    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert "the journal can't be used now (disk I/O error)" in answer.json()["detail"]
    assert start_over_http(server, "q") == 503
    assert httpx.get(f"{server.url}/health/live").status_code == 200
    wait_until(lambda: "stop " in trail.read_text())  # the work comes to its end meanwhile
    assert states(server) == {"p": "running"}
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))
    wait_until(lambda: states(server) == {"p": "succeeded"})
    assert ready(server) == 200
    assert start_over_http(server, "q", to=1) == 201
    server.kill()
    server.restart()
    assert states(server)["p"] == "succeeded"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root; the test above runs without")
def test_a_small_disk_that_fills_up_loses_nothing_that_was_answered(spawn_server: Spawn, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(data)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this machine allows no mounts: {mounted.stderr.decode().strip()}")
    server = spawn_server(*FLAGS)
    try:
        answered = []
        for n in range(300):
            if start_over_http(server, f"p{n}", "talker", to=1, trail="x" * 5000) == 503:
                break
            answered.append(f"p{n}")
        else:
            pytest.fail("the disk never filled up")
        assert set(answered) == set(states_of(server, answered))
        server.kill()
        with contextlib.suppress(AssertionError):  # it may well refuse to start on a full disk
            server.restart()
            assert set(answered) == set(states_of(server, answered))
            server.kill()
        subprocess.run(["mount", "-o", "remount,size=50m", str(data)], check=True)
        server.restart()
        wait_until(lambda: set(states_of(server, answered).values()) == {"succeeded"})
    finally:
        server.end()
        subprocess.run(["umount", str(data)], check=True)


def states_of(server: ServerProcess, ids: list[str]) -> dict[str, str]:
    return {id: httpx.get(f"{server.url}/v1/processes/{id}", timeout=30).json()["state"] for id in ids}


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("of", ["data", "files"])
def test_a_full_disk_at_the_start_is_said_to_be_full_and_nothing_is_lost(
    spawn_server: Spawn, tmp_path: Path, of: str
) -> None:
    folder = tmp_path / of
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this machine allows no mounts: {mounted.stderr.decode().strip()}")
    server = spawn_server(*FLAGS)
    try:
        assert start_over_http(server, "p", to=1) == 201
        wait_until(lambda: states(server) == {"p": "succeeded"})
        server.stop()
        for name in ("lock", "journal.sqlite-wal", "journal.sqlite-shm"):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        if of == "data":
            said = refused_at_start(server)
            assert "No space left on device" in said or "its disk is full: make room and start again" in said
            assert "damaged" not in said
        else:  # downloads need no room
            server.restart()
            server.stop()
        (folder / "filler").unlink()
        server.restart()
        assert states(server) == {"p": "succeeded"}
    finally:
        server.end()
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start(spawn_server: Spawn, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "data").write_text("a file, in which no folder can be")  # root may write anywhere else
    else:
        (tmp_path / "data").mkdir(mode=0o500)
    with pytest.raises(AssertionError, match=r"exit 2") as refusal:
        spawn_server()
    assert "--data-dir" in str(refusal.value)
    assert "can't be used" in str(refusal.value)
    with contextlib.suppress(NotADirectoryError):
        (tmp_path / "data").chmod(0o700)
