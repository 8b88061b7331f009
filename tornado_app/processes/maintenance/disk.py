"""Watch on the free room of the journal's disk: what was answered must be kept, so work stops before it is full."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from holdfast.wire import ErrorInfo
from tornado_app import problems
from tornado_app.processes.journal.interface import Journal
from tornado_app.processes.journal.queries import ProcessRecord
from tornado_app.processes.journal.transitions import Transitions

log = logging.getLogger("holdfast.processes")

CHECK_EVERY = 1.0
_SHARE = 20
_ENOUGH = 1.25  # times the reserve must be free before work goes on, so that it does not stop again at once


def room(folder: Path) -> tuple[int, int]:
    """Return the bytes that are free for us on the disk of `folder`, and how many it has. Blocks."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


class DiskWatch:
    """Pauses what runs, and lets nothing begin, while less than `reserve` bytes are free. Lives on the loop.

    Of a small disk it is a twentieth that stays free. `changed` gets the rows that were paused or resumed.
    """

    def __init__(
        self,
        journal: Journal,
        folder: Path,
        transitions: Transitions,
        reserve: int,
        changed: Callable[[Iterable[ProcessRecord]], None],
    ) -> None:
        self._journal = journal
        self._transitions = transitions
        self._folder = folder
        self._reserve = reserve
        self._changed = changed
        self._is_short: bool | None = None  # not known yet

    async def run(self) -> None:
        """Check the disk again and again."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_EVERY)

    async def is_short(self) -> bool:
        """Return whether there is too little room now."""
        free, reserve = await self._room()
        return free < reserve

    async def _room(self) -> tuple[int, int]:
        free, size = await asyncio.to_thread(room, self._folder)
        return free, min(self._reserve, size // _SHARE)

    async def check(self) -> None:
        """Check once; pause what runs when there is too little room, resume it when there is enough again."""
        try:
            free, reserve = await self._room()
            if free < reserve and not self._is_short:
                log.warning("%d bytes are free on the disk of the journal, less than %d: work is paused", free, reserve)
                await self._do(functools.partial(self._transitions.pause_for_room, error=_why(free, reserve)), True)
            elif free >= reserve * _ENOUGH and self._is_short is not False:
                await self._do(self._transitions.go_on_with_room, False)
        except (OSError, problems.ProblemError) as error:
            log.error("the disk of the journal can't be checked: %s", error)

    async def _do(self, decision: Callable[..., list[ProcessRecord]], short: bool) -> None:
        write: Awaitable[list[ProcessRecord]] = self._journal.write(decision)
        self._changed(await write)
        if self._is_short and not short:
            log.warning("there is room on the disk of the journal again: work goes on")
        self._is_short = short


def _why(free: int, reserve: int) -> ErrorInfo:
    return ErrorInfo(
        "DiskFull",
        f"it is paused because {free} bytes are free on the disk of the journal, and {reserve} of them are kept "
        "(--journal-reserve). Make room, then it goes on by itself",
    )
