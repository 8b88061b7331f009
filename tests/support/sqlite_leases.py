"""Leases that several servers share over one SQLite file: the second implementation of `UploadLeases`.

It shows that the interface is enough for servers that know nothing of each other but the rows. Each polls.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from tornado_app.files.uploads.lease.fairness import Fairness
from tornado_app.files.uploads.lease.interface import Holder, Lease, locked, never

_POLL_S = 0.005
_TABLE = """CREATE TABLE IF NOT EXISTS leases (
    upload TEXT PRIMARY KEY, epoch INTEGER DEFAULT 0, server TEXT DEFAULT '', previous TEXT DEFAULT '',
    expires REAL DEFAULT 0, newest INTEGER DEFAULT 0, wanted INTEGER DEFAULT 0
)"""
_AT_ONCE = 2


class SqliteLeases:
    """`UploadLeases` of one server. A lease that is not renewed for `lease_s` seconds may be taken over."""

    def __init__(self, path: Path, server: str, *, lease_s: float = 60.0) -> None:
        self.server = server
        self._lease_s = lease_s
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)
        self._database.execute("PRAGMA synchronous = OFF")  # tests fear no power cut
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(_TABLE)
        self._held: dict[str, Lease] = {}
        self._fairness: dict[str, Fairness] = {}
        self._waiting: dict[str, int] = {}
        self._watching: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Close the database."""
        if self._watching is not None:
            self._watching.cancel()
        self._database.close()

    async def acquire(
        self, upload: str, holder: Holder, is_lost: Callable[[], bool] = never, *, preempt: bool = False
    ) -> Lease:
        """See `UploadLeases`."""
        self._change("INSERT OR IGNORE INTO leases (upload) VALUES (?)", upload)
        if not preempt:
            self._change("UPDATE leases SET newest = newest + 1 WHERE upload = ?", upload)
        (number,) = self._row("newest", upload)
        self._waiting[upload] = self._waiting.get(upload, 0) + 1
        try:
            while not (taken := self._take(upload, number, preempt=preempt)):
                if not preempt and self._row("newest", upload) != (number,):
                    raise locked()
                if is_lost():
                    raise locked("the client has gone")
                self._want(upload, _AT_ONCE if preempt else 1)
                await asyncio.sleep(_POLL_S)
        finally:
            self._waiting[upload] -= 1
        epoch, previous = taken
        lease = self._held[upload] = Lease(upload, holder, epoch, self.server)
        lease.from_other_server = previous not in ("", self.server)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        return lease

    async def request_release(self, upload: str, is_lost: Callable[[], bool] = never) -> bool:
        """See `UploadLeases`."""
        epoch = self._row("epoch", upload)
        while self._row("epoch", upload) == epoch and self._is_held(upload) and not is_lost():
            self._want(upload, 1)
            await asyncio.sleep(_POLL_S)
        return self._row("iif(server = '', previous, server) NOT IN ('', ?)", upload, self.server) == (1,)

    def release_all(self) -> None:
        """See `UploadLeases`."""
        for lease in [*self._held.values()]:
            lease.request_release()

    def renew(self, lease: Lease) -> bool:
        """See `UploadLeases`."""
        return self._change(
            "UPDATE leases SET expires = ? WHERE upload = ? AND epoch = ? AND server = ?",
            *(time.time() + self._lease_s, lease.upload, lease.epoch, lease.server),
        )

    def release(self, lease: Lease) -> None:
        """See `UploadLeases`."""
        if self._held.get(lease.upload) is lease:
            del self._held[lease.upload]
        self._change(
            "UPDATE leases SET previous = server, server = '', wanted = 0 "
            "WHERE upload = ? AND epoch = ? AND server = ?",
            *(lease.upload, lease.epoch, lease.server),
        )
        lease.mark_released()

    def holder(self, upload: str) -> Holder | None:
        """See `UploadLeases`."""
        lease = self._held.get(upload)
        return None if lease is None else lease.holder

    def waiting(self, upload: str) -> int:
        """See `UploadLeases`."""
        return self._waiting.get(upload, 0)

    def forget(self, upload: str) -> None:
        """See `UploadLeases`."""
        self._held.pop(upload, None)
        self._change("DELETE FROM leases WHERE upload = ?", upload)

    async def _watch(self) -> None:
        """Ask the holders on this server whose leases are wanted to release them, when their time is up."""
        while self._held:
            for upload, lease in [*self._held.items()]:
                wanted = (self._row("wanted", upload) or (0,))[0]
                fairness = self._fairness.setdefault(upload, Fairness())
                if wanted == _AT_ONCE:
                    lease.request_release()
                elif wanted and fairness.remaining(lease) <= 0:
                    fairness.interrupt(lease)
            await asyncio.sleep(_POLL_S)
        self._watching = None

    def _take(self, upload: str, number: int, *, preempt: bool) -> tuple[int, str] | None:
        self._change("INSERT OR IGNORE INTO leases (upload) VALUES (?)", upload)
        row = self._database.execute(
            "UPDATE leases SET epoch = epoch + 1, previous = CASE server WHEN '' THEN previous ELSE server END, "
            "server = ?, expires = ?, wanted = 0 WHERE upload = ? AND (server = '' OR expires < ?) "
            "AND (? OR newest = ?) RETURNING epoch, previous",
            (self.server, time.time() + self._lease_s, upload, time.time(), preempt, number),
        ).fetchone()
        return row and (row[0], row[1])

    def _want(self, upload: str, how: int) -> None:
        self._change("UPDATE leases SET wanted = max(wanted, ?) WHERE upload = ?", how, upload)

    def _is_held(self, upload: str) -> bool:
        return self._row("server <> '' AND expires > ?", upload, time.time()) == (1,)

    def _row(self, columns: str, upload: str, *values: object) -> tuple[float, ...]:
        query = f"SELECT {columns} FROM leases WHERE upload = ?"
        return self._database.execute(query, (*values, upload)).fetchone() or ()

    def _change(self, statement: str, *values: object) -> bool:
        return self._database.execute(statement, values).rowcount > 0
