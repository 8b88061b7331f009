"""Lifetimes of uploads, and the sweep that ends those that nobody resumes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from tornado_app import problems
from tornado_app.clocks import AgeClock
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store.interface import FileStore, StagedData
from tornado_app.files.uploads.lease.interface import UploadLeases
from tornado_app.files.uploads.upload import Upload

log = logging.getLogger("holdfast.files")

EMPTY_EXPIRY_S = 900.0
"""Seconds that an upload without a byte, or a broken one, is kept at most: it takes a place, and nothing else."""

JOINED_EXPIRY_S = 3600.0
"""Seconds that a part is kept at most once it has become part of a file: a client may use it again."""

_MOST_BETWEEN_S = 60.0
_NOTE_EVERY_S = 600.0


class Lifetimes:
    """The times at which uploads expire, by a clock that no change of the system's time moves."""

    def __init__(self, store: FileStore, executor: BlockingExecutor, expiry: float) -> None:
        self.clock = AgeClock(None)
        self._store = store
        self._executor = executor
        self._expiry = expiry
        self._noted = 0.0

    async def start(self, seen: float | None, found: Iterable[StagedData]) -> None:
        """Go on from the time that an earlier server noted, or else from when bytes last came for what it left."""
        modified = [staged.modified for staged in found]
        if seen is None and modified:  # left by an earlier version, which noted no time
            seen = min(time.time(), max(modified))
        self.clock = AgeClock(seen)
        await self.note_time()

    async def note_time(self, every: float = _NOTE_EVERY_S) -> None:
        """Note the time in the store, at most once in `every` seconds: a later server tells by it how long none ran."""
        now = self.clock.now()
        if now - self._noted >= every:
            self._noted = now
            try:
                await self._executor.run(self._store.note_time, now)
            except (problems.ProblemError, OSError) as error:
                log.warning("the time could not be noted, uploads may be kept longer for it: %s", error)

    def begin(self, upload: Upload) -> None:
        """Count from when bytes last came for an upload that was created or found."""
        upload.idle_since = self.clock.since(max(upload.staged.modified, upload.record.created))

    def expires(self, upload: Upload) -> float:
        """Return when an upload will be removed unless bytes come, in seconds since the epoch."""
        return self.clock.on_the_wall(self.expires_at(upload))

    def is_expired(self, upload: Upload) -> bool:
        """Return whether no byte has come for as long as an upload is kept, counted while a server ran."""
        return self.expires_at(upload) <= self.clock.now()

    def expires_at(self, upload: Upload) -> float:
        """Return when an upload will be removed unless bytes come, by `clock`."""
        kept = self._expiry
        if upload.is_empty or upload.record.broken:
            kept = min(kept, EMPTY_EXPIRY_S)
        expires = upload.idle_since + kept
        return min(expires, upload.record.joined + JOINED_EXPIRY_S) if upload.record.joined else expires


class Expiry:
    """Sweeps from `start` to `stop`.

    `end` removes one upload, or publishes it as it stands.
    """

    def __init__(
        self,
        uploads: Iterable[Upload],
        lifetimes: Lifetimes,
        leases: UploadLeases,
        end: Callable[[Upload], Awaitable[None]],
        expiry: float,
    ) -> None:
        self._uploads = uploads
        self._lifetimes = lifetimes
        self._leases = leases
        self._end = end
        self._between = min(_MOST_BETWEEN_S, expiry / 4)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep now and then."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Sweep no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._between)
            await self.sweep()

    async def sweep(self) -> None:
        """End the uploads that have expired and that nobody writes to; log those that can't be ended."""
        await self._lifetimes.note_time()
        for upload in self._uploads:
            if self._leases.holder(upload.id) is not None or not self._lifetimes.is_expired(upload):
                continue
            try:
                await self._end(upload)
            except problems.ProblemError as error:
                log.warning("upload %s could not be ended: %s", upload.id, error.detail)
            except OSError:
                log.exception("upload %s could not be ended", upload.id)
