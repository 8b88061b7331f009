"""The journal as services see it. `sqlite.py` is one implementation; the composition root names it.

Transitions, queue, queries and logs are SQL that every database runs alike, in decisions. A journal supplies what
differs: connections and transactions (`Journal`), a few statements and the clock (`Database`), and word of what other
servers have committed (`Notifications`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, CursorResult, Table
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

from tornado_app.settings import SettingsError

T = TypeVar("T")

Decision = Callable[[Connection], T]
"""A function that reads what it must, decides, and writes, in a transaction that it shares with others.

It refuses by raising a `ProblemError` before it writes. It may run again when the transaction could not be committed.
"""


class Database(Protocol):
    """SQL that databases write differently, and the clock that all servers of one journal share."""

    def insert(self, table: Table) -> SqliteInsert | PostgresInsert:
        """Return an INSERT that can be given an ON CONFLICT clause."""

    def inserted_number(self, result: CursorResult[Any]) -> int:
        """Return the number that the database gave to the one row that was inserted."""

    def newest_number(self, connection: Connection, table: Table) -> int:
        """Return the newest number that a row of `table` ever had, 0 for none.

        In a transaction that writes, no other server takes a number after this call and before the commit. So numbers
        are dense and in the order of commits.
        """

    def now(self, connection: Connection) -> float:
        """Return seconds on the clock by which leases expire. It is not set, and may begin anew with the machine."""


class Notifications(Protocol):
    """Word of what other servers have committed. It may come late or not at all: everything works by polling, too."""

    async def wait(self, timeout: float) -> None:
        """Return when another server may have committed something, after `timeout` seconds at the latest."""


class Participant(Protocol):
    """Takes part in each transaction. Its methods are called one at a time, on the thread that writes."""

    def finish(self, connection: Connection) -> object | None:
        """Close the transaction after the last decision. What is returned goes to the loop after the commit."""

    def committed(self) -> None:
        """Called when the transaction is committed."""

    def rolled_back(self) -> None:
        """Called when the transaction is not: nothing of it counts."""


class Journal(Protocol):
    """Runs decisions in transactions that several of them share (group commit).

    An answer comes only when the transaction is durable in the sense of `--durable`.
    """

    @property
    def database(self) -> Database: ...

    @property
    def notifications(self) -> Notifications: ...

    @property
    def is_shared(self) -> bool:
        """Return whether other servers may have the journal open now."""

    @property
    def folder(self) -> Path | None:
        """Return the folder on whose disk the journal grows, None where that is another machine's matter."""

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        participant: Participant | None = None,
        on_commit: Callable[[Any], None] | None = None,
    ) -> None:
        """Bring the schema up to date and start writing. Blocks.

        `on_commit` is called on `loop` with what the participant's `finish` returned, unless that is None, after
        those who wait for the decisions of that transaction have their answers.

        Raises:
            SettingsError: The journal can't be used.
        """

    def close(self) -> None:
        """Write what is queued, and close. Blocks."""

    async def write(self, decision: Decision[T]) -> T:
        """Run a decision on the loop's behalf. Raises UNAVAILABLE when the database can't be written."""

    def write_here(self, decision: Decision[T]) -> T:
        """Run a decision from a worker thread. Blocks. Raises UNAVAILABLE likewise."""

    async def read(self, decision: Decision[T]) -> T:
        """Run a function that only reads, in one snapshot. Raises UNAVAILABLE likewise."""

    def refusal(self, error: BaseException | None) -> SettingsError:
        """Return why the journal can't be used at the start, and what to do about it, in one line."""
