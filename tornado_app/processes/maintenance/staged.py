"""Removal of what processes have staged and not published, once they will never run again."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from tornado_app import fault_points, problems
from tornado_app.processes.journal import queries
from tornado_app.processes.journal.interface import Journal
from tornado_app.processes.journal.queries import ProcessRecord
from tornado_app.processes.journal.retention import Retention
from tornado_app.processes.work_context import WorkspaceSource

log = logging.getLogger("holdfast.processes")

_TOGETHER = 1.0  # seconds in which what processes have staged is removed together


class StagedCleanup:
    """Cleanup of staged files. Lives on the loop; `spawn` runs a task that ends with the engine."""

    def __init__(
        self,
        journal: Journal,
        retention: Retention,
        files: WorkspaceSource,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._journal = journal
        self._retention = retention
        self._files = files
        self._spawn = spawn
        self._closed = False
        self._ended: set[str] = set()  # names of processes as owners of staged files
        self._deleted: set[str] = set()  # the deleted ones among them, which the journal remembers until it is done

    def add(self, row: ProcessRecord, *, deleted: bool = False) -> None:
        """Remove what this process has staged, soon. `deleted` says that the journal does not have it any more."""
        owner = queries.stager(row)
        if deleted:
            self._deleted.add(owner)
        self._ended.add(owner)
        if len(self._ended) == 1 and not self._closed:
            self._spawn(self._remove_soon())

    async def remove_leftovers(self) -> None:
        """Remove what an earlier server would have removed, had it not been ended before."""
        try:
            owners = await asyncio.to_thread(self._files.owners)
            self._deleted |= await self._journal.read(queries.staged_by_deleted_processes)
            self._ended |= self._deleted
            if owners:
                self._ended |= await self._journal.read(functools.partial(queries.finished_stagers, owners=owners))
            await self.remove()
        except (problems.ProblemError, OSError) as error:
            log.warning("the staged files of ended processes can't be listed: %s", error)

    async def _remove_soon(self) -> None:
        await asyncio.sleep(_TOGETHER)
        await self.remove()

    async def remove(self) -> None:
        """Remove what is due now."""
        owners, self._ended = self._ended, set()
        if owners:
            fault_points.point("staged.before-drop")
            try:
                await asyncio.to_thread(self._files.drop, owners)
                gone = owners & self._deleted
                if gone and not self._closed:
                    await self._journal.write(functools.partial(self._retention.staged_removed, owners=gone))
                    self._deleted -= gone
            except (problems.ProblemError, OSError) as error:
                log.warning("the staged files of %d processes can't be removed: %s", len(owners), error)

    async def close(self) -> None:
        """Remove what is left to remove, after the journal was closed."""
        self._closed = True
        await self.remove()
