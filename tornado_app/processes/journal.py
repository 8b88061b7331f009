"""The journal: one SQLite file, one writer thread, readers beside it. The loop never touches the disk.

What is written is a *decision*: a function of a connection that reads what it must, decides, and writes, in one trip to
the writer thread. Decisions that wait together share a transaction (group commit); each gets its answer only when that
transaction is on disk. A decision refuses by raising before it writes.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from tornado_app import faults, problems
from tornado_app.problems import ProblemError
from tornado_app.processes.schema import migrate
from tornado_app.settings import SettingsError

log = logging.getLogger("holdfast.journal")

T = TypeVar("T")
Decision = Callable[[Connection], T]

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
_Waiting = Future[Any] | asyncio.Future[Any]
_Job = tuple[Decision[Any], _Waiting]
_Answer = tuple[_Waiting, Any, Exception | None]


class Journal:
    """Open with `open`, then `write` and `read` from the loop and `write_here` from other threads.

    `last` is a decision that closes every batch (the queue's claims). Once the transaction is on disk, `landed` is
    called on the writer thread, and `committed` with the answer of `last`, unless that is None, on the loop. When it
    failed, `aborted` is called on the writer thread.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self.path = path
        self.last: Decision[Any] | None = None
        self.landed: Callable[[], None] = lambda: None
        self.committed: Callable[[Any], None] = lambda answer: None
        self.aborted: Callable[[], None] = lambda: None
        self.observe: Callable[[float], None] = lambda seconds: None
        self._durable = durable
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._write_all, name="journal-writer", daemon=True)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="journal-reader")
        self._engine = _connect(path, durable, writer=True)
        self._read_engine = _connect(path, durable, writer=False)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bring the schema up to date and start writing. Blocks. Raises `SettingsError` when the file is no good."""
        self._loop = loop
        try:
            with self._engine.begin() as connection:
                migrate(connection)
            # A reader's connection stays open in its pool: without one, a writer that fails on a full disk and is
            # closed would take the write-ahead log with it, and to read would need room for a new one.
            self._read_engine.connect().close()
        except DatabaseError as error:
            self._engine.dispose()
            self._read_engine.dispose()
            raise SettingsError(
                f"the journal {self.path} can't be used: {error.orig}; "
                "if it is damaged, move it away or put a backup in its place"
            ) from error
        self._writer.start()

    async def write(self, decision: Decision[T]) -> T:
        """Run a decision; its answer, once it is on disk. Raises UNAVAILABLE when the disk or database won't."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(decision, future)
        return await future

    def write_here(self, decision: Decision[T]) -> T:
        """The same from a worker thread: blocks."""
        future: Future[T] = Future()
        self._put(decision, future)
        return future.result()

    def _put(self, decision: Decision[Any], future: _Waiting) -> None:
        with self._closing:  # so that nothing is queued behind the end
            if self._closed:
                future.set_exception(problems.UNAVAILABLE("the server is stopping; start it again in a moment"))
            else:
                self._jobs.put((decision, future))

    async def read(self, decision: Decision[T]) -> T:
        """Run a function that only reads, on a reader thread, in one snapshot."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, decision)

    def _read(self, decision: Decision[T]) -> T:
        try:
            with self._read_engine.connect() as connection:
                return decision(connection)
        except DatabaseError as error:
            raise self._unavailable(error) from error

    def close(self) -> None:
        """Write what is queued and close the files. Blocks."""
        with self._closing:
            self._closed = True
            self._jobs.put(None)
        if self._writer.is_alive():
            self._writer.join()
        self._readers.shutdown()
        self._read_engine.dispose()
        self._engine.dispose()

    # -- the writer thread

    def _write_all(self) -> None:
        connection: Connection | None = None
        going_on = True
        while going_on:
            jobs, going_on = self._next_batch()
            if not jobs:
                continue
            began = time.perf_counter()
            try:
                if connection is None:
                    connection = self._engine.connect()
                self._commit(connection, jobs)
            except Exception as error:
                self._discard(connection)
                connection = None
                if len(jobs) == 1 or _is_of_the_file(error):
                    self._refuse(jobs, error)
                else:
                    log.warning("journal: a batch of %d writes failed, trying each alone: %s", len(jobs), error)
                    connection = self._one_by_one(jobs)
            self.observe(time.perf_counter() - began)
        if connection is not None:
            connection.close()

    def _next_batch(self) -> tuple[list[_Job], bool]:
        job = self._jobs.get()
        jobs: list[_Job] = []
        while job is not None:
            jobs.append(job)
            if len(jobs) >= _MOST_TOGETHER:
                return jobs, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False

    def _commit(self, connection: Connection, jobs: list[_Job]) -> None:
        """One transaction for all of `jobs`; a refusal is the answer of its own job alone."""
        answers: list[_Answer] = []
        try:
            with connection.begin():
                for decision, future in jobs:
                    try:
                        answers.append((future, decision(connection), None))
                    except ProblemError as error:
                        answers.append((future, None, error))
                last = self.last(connection) if self.last is not None else None
                faults.point("journal.before-commit")
        except BaseException:
            self.aborted()
            raise
        faults.point("journal.after-commit")
        self.landed()
        self._tell(answers, last)

    def _tell(self, answers: list[_Answer], last: Any) -> None:
        """Answers go to where they are waited for; all of those on the loop in one call, which wakes it once."""
        on_loop = []
        for answer in answers:
            if isinstance(answer[0], asyncio.Future):
                on_loop.append(answer)
            else:
                _settle(*answer)
        if on_loop or last is not None:
            try:
                self._loop.call_soon_threadsafe(self._told, on_loop, last)
            except RuntimeError:  # the loop is closed: nobody waits
                log.debug("journal: written after the loop had closed")

    def _told(self, answers: list[_Answer], last: Any) -> None:
        for answer in answers:
            _settle(*answer)
        if last is not None:
            self._loop.call_soon(self.committed, last)  # after those who were just answered

    def _one_by_one(self, jobs: list[_Job]) -> Connection | None:
        """After a batch failed: each job alone, so that one can't spoil the others."""
        connection: Connection | None = None
        for job in jobs:
            try:
                if connection is None:
                    connection = self._engine.connect()
                self._commit(connection, [job])
            except Exception as error:
                self._discard(connection)
                connection = None
                self._refuse([job], error)
        return connection

    def _refuse(self, jobs: list[_Job], error: Exception) -> None:
        log.error("journal: %d writes failed: %s", len(jobs), error)
        failure = self._unavailable(error) if isinstance(error, DatabaseError) else error
        self._tell([(future, None, failure) for _, future in jobs], None)

    def _discard(self, connection: Connection | None) -> None:
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except DatabaseError:
                log.debug("journal: a broken connection could not be closed", exc_info=True)

    def _unavailable(self, error: DatabaseError) -> ProblemError:
        return problems.UNAVAILABLE(
            f"the journal can't be used now ({error.orig}); nothing was changed; try again later"
        )


def _settle(future: _Waiting, answer: Any, failure: Exception | None) -> None:
    if future.done():  # cancelled: nobody waits any more
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(answer)


def _is_of_the_file(error: Exception) -> bool:
    """Whether every other write would fail in the same way now (SQLite's primary result codes)."""
    code = getattr(error.orig, "sqlite_errorcode", 0) if isinstance(error, DatabaseError) else 0
    return (code & 0xFF) in _OF_THE_FILE


def _connect(path: Path, durable: bool, *, writer: bool) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions itself, below
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # In WAL mode NORMAL keeps every commit across a killed process; FULL across a power cut as well.
        cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        if not writer:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine
