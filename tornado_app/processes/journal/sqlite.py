"""The journal: one SQLite file, one writer at a time, readers beside it. The loop never touches the disk.

What is written is a *decision*: a function of a connection that reads what it must, decides, and writes. Decisions that
wait together share a transaction (group commit); each gets its answer only when that transaction is on disk. A decision
refuses by raising before it writes. The loop's decisions go to the writer thread. A worker thread writes its own: to
hand it over and be woken again would take longer than the writing. Whoever's turn it is writes for all who wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, CursorResult, Engine, Table, create_engine, event, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DatabaseError

from tornado_app import fault_points, problems
from tornado_app.problems import ProblemError
from tornado_app.processes.journal.interface import Decision, Participant
from tornado_app.processes.journal.schema import migrate
from tornado_app.settings import SettingsError

log = logging.getLogger("holdfast.journal")

T = TypeVar("T")

BUSY_TIMEOUT = 5.0
"""Seconds that a write waits for another program that holds the journal; then it is refused."""

_MOST_TOGETHER = 256
# What is wrong with the file or its disk, not with one decision: trying each decision alone would only take longer.
_OF_THE_FILE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
    }
)
_NO_ROOM = 64 << 10  # bytes; SQLite needs as much to open a journal at all

_LOCKED = "another program holds it: end that one, or wait until it is done, and start again"
_FULL = "its disk is full: make room and start again"
_DAMAGED = (
    "it is damaged: put a backup in its place, or keep it elsewhere and start with a new one; either way move its -wal "
    "and -shm files along with it, which hold its newest and would spoil another one"
)
_CLOSED = "it can't be opened or written: see to its owner and permissions, and those of its folder"
_DISK = "its disk can't be read or written: see to that, to quotas and limits, and start again"

_ADVICE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_READONLY: _CLOSED,
    sqlite3.SQLITE_PERM: _CLOSED,
    sqlite3.SQLITE_AUTH: _CLOSED,
    sqlite3.SQLITE_IOERR: _DISK,
}

_NEWEST = text("SELECT seq FROM sqlite_sequence WHERE name = :name")

_Future = Future[Any] | asyncio.Future[Any]
_Job = tuple[Decision[Any], _Future]
_Answer = tuple[_Future, Any, Exception | None]


class SqliteDatabase:
    """SQLite's own SQL. All servers of one file are on one machine, so its monotonic clock is theirs in common."""

    def insert(self, table: Table) -> sqlite.Insert:
        """Return an INSERT that can be given an ON CONFLICT clause."""
        return sqlite.insert(table)

    def inserted_number(self, result: CursorResult[Any]) -> int:
        """Return the number of the row that was inserted."""
        return result.lastrowid

    def newest_number(self, connection: Connection, table: Table) -> int:
        """Return the newest number that a row of `table` ever had. Writers hold the only write lock already."""
        newest: int | None = connection.execute(_NEWEST, {"name": table.name}).scalar()
        return newest or 0

    def now(self, connection: Connection) -> float:
        """Return seconds since the machine was started."""
        return time.monotonic()


class Polling:
    """Notifications of a database that sends none."""

    async def wait(self, timeout: float) -> None:
        """Wait for all of `timeout` seconds."""
        await asyncio.sleep(timeout)


class SqliteJournal:
    """The journal in one SQLite file: see `interface.Journal`.

    `shared` says that other servers may have the file open; otherwise the caller holds the lock of its directory.
    `observe` is called with the seconds that each transaction took.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = False,
        shared: bool = False,
        observe: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.path = path
        self.folder: Path | None = path.parent
        self.is_shared = shared
        self.database = SqliteDatabase()
        self.notifications = Polling()
        self._participant: Participant | None = None
        self._on_commit: Callable[[Any], None] = lambda answer: None
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._wakeups: queue.SimpleQueue[bool] = queue.SimpleQueue()  # wakes the writer thread; False ends it
        self._turn = threading.Lock()
        self._connection: Connection | None = None  # of whoever's turn it is
        self._closing = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._write_all, name="journal-writer", daemon=True)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="journal-reader")
        self._engine = _connect(path, durable, writer=True)
        self._read_engine = _connect(path, durable, writer=False)

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        participant: Participant | None = None,
        on_commit: Callable[[Any], None] | None = None,
    ) -> None:
        """Bring the schema up to date and start writing. Blocks. Raises `SettingsError` when the file is no good."""
        self._loop = loop
        self._participant = participant
        self._on_commit = on_commit or self._on_commit
        try:
            with self._engine.begin() as connection:
                migrate(connection)
            # A reader's connection stays open in its pool: without one, a writer that fails on a full disk and is
            # closed would take the write-ahead log with it, and to read would need room for a new one.
            self._read_engine.connect().close()
        except Exception as error:
            self._engine.dispose()
            self._read_engine.dispose()
            if isinstance(error, DatabaseError):
                raise self.refusal(error.orig) from error
            raise
        self._writer.start()

    async def write(self, decision: Decision[T]) -> T:
        """Run a decision; its answer, once it is on disk. Raises UNAVAILABLE when the disk or database won't."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(decision, future)
        self._wakeups.put(True)
        return await future

    def write_here(self, decision: Decision[T]) -> T:
        """The same from a worker thread: blocks."""
        future: Future[T] = Future()
        self._put(decision, future)
        with self._turn:
            while not future.done():  # else another one took it along
                self._write_batch()
        return future.result()

    def _put(self, decision: Decision[Any], future: _Future) -> None:
        with self._closing:  # so that nothing is queued behind the end
            if self._closed:
                raise problems.UNAVAILABLE("the server is stopping. Start it again in a moment")
            self._waiting.append((decision, future))

    async def read(self, decision: Decision[T]) -> T:
        """Run a function that only reads, on a reader thread, in one snapshot."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, decision)

    def _read(self, decision: Decision[T]) -> T:
        try:
            with self._read_engine.connect() as connection:
                return decision(connection)
        except DatabaseError as error:
            raise self._unavailable(error) from error

    def refusal(self, error: BaseException | None) -> SettingsError:
        """Return why the file can't be used. Only for a damaged one does it advise to put another one in its place."""
        advice = _ADVICE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "see the server's log")
        if advice in (_CLOSED, _DISK) and _is_full(self.path.parent):  # what SQLite says when it can't make its files
            advice = _FULL
        return SettingsError(f"the journal {self.path} can't be used: {error}; {advice}")

    def close(self) -> None:
        """Write what is queued and close the files. Blocks."""
        with self._closing:
            self._closed = True
        self._wakeups.put(False)
        if self._writer.is_alive():
            self._writer.join()
        with self._turn:
            while self._waiting:
                self._write_batch()
            if self._connection is not None:
                self._connection.close()
        self._readers.shutdown()
        self._read_engine.dispose()
        self._engine.dispose()

    # -- writing, by whoever's turn it is

    def _write_all(self) -> None:
        """The writer thread."""
        while self._wakeups.get():
            with self._turn:
                if self._waiting:  # else a worker took it along
                    self._write_batch()

    def _write_batch(self) -> None:
        jobs: list[_Job] = []
        while self._waiting and len(jobs) < _MOST_TOGETHER:
            jobs.append(self._waiting.popleft())
        began = time.perf_counter()
        try:
            self._commit(jobs)
        except Exception as error:
            self._discard()
            if len(jobs) == 1 or _is_of_the_file(error):
                self._refuse(jobs, error)
            else:
                log.warning("journal: a batch of %d writes failed, trying each alone: %s", len(jobs), error)
                self._one_by_one(jobs)
        self._observe(time.perf_counter() - began)

    def _commit(self, jobs: list[_Job]) -> None:
        """One transaction for all of `jobs`; a refusal is the answer of its own job alone."""
        if self._connection is None:
            self._connection = self._engine.connect()
        connection = self._connection
        answers: list[_Answer] = []
        try:
            with connection.begin():
                for decision, future in jobs:
                    try:
                        answers.append((future, decision(connection), None))
                    except ProblemError as error:
                        answers.append((future, None, error))
                last = self._participant.finish(connection) if self._participant is not None else None
                fault_points.point("journal.before-commit")
        except BaseException:
            if self._participant is not None:
                self._participant.rolled_back()
            raise
        fault_points.point("journal.after-commit")
        if self._participant is not None:
            self._participant.committed()
        self._send(answers, last)

    def _send(self, answers: list[_Answer], last: Any) -> None:
        """Answers go to where they are waited for; all of those on the loop in one call, which wakes it once."""
        on_loop = []
        for answer in answers:
            if isinstance(answer[0], asyncio.Future):
                on_loop.append(answer)
            else:
                _resolve(*answer)
        if on_loop or last is not None:
            try:
                self._loop.call_soon_threadsafe(self._answer_all, on_loop, last)
            except RuntimeError:  # the loop is closed: nobody waits
                log.debug("journal: written after the loop had closed")

    def _answer_all(self, answers: list[_Answer], last: Any) -> None:
        for answer in answers:
            _resolve(*answer)
        if last is not None:
            self._loop.call_soon(self._on_commit, last)  # after those who were just answered

    def _one_by_one(self, jobs: list[_Job]) -> None:
        """After a batch failed: each job alone, so that one can't spoil the others."""
        for job in jobs:
            try:
                self._commit([job])
            except Exception as error:
                self._discard()
                self._refuse([job], error)

    def _refuse(self, jobs: list[_Job], error: Exception) -> None:
        log.error("journal: %d writes failed: %s", len(jobs), error)
        failure = self._unavailable(error) if isinstance(error, DatabaseError) else error
        self._send([(future, None, failure) for _, future in jobs], None)

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except DatabaseError:
                log.debug("journal: a broken connection could not be closed", exc_info=True)

    def _unavailable(self, error: DatabaseError) -> ProblemError:
        problem = problems.UNAVAILABLE(
            f"the journal can't be used now ({error.orig}). Nothing was changed. Try again later"
        )
        problem.__cause__ = error
        return problem


def _resolve(future: _Future, answer: Any, failure: Exception | None) -> None:
    if future.done():  # cancelled: nobody waits any more
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(answer)


def _is_of_the_file(error: Exception) -> bool:
    """Return whether every other write would fail in the same way now (SQLite's primary result codes)."""
    code = getattr(error.orig, "sqlite_errorcode", 0) if isinstance(error, DatabaseError) else 0
    return (code & 0xFF) in _OF_THE_FILE


def _connect(path: Path, durable: bool, *, writer: bool) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions itself, below
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            # In WAL mode NORMAL keeps every commit across a killed process; FULL across a power cut as well.
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            if not writer:
                connection.execute("PRAGMA query_only=ON")
        except BaseException:
            connection.close()  # nobody else would: it is not in the pool yet
            raise

    begin = "BEGIN IMMEDIATE" if writer else "BEGIN"

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        driver = cast(sqlite3.Connection, connection.connection.driver_connection)
        try:
            driver.execute(begin)  # by way of SQLAlchemy it would be a sixth of the time of a checkpoint
        except sqlite3.Error as error:
            raise DatabaseError(begin, None, error) from error

    return engine


def _is_full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _NO_ROOM
