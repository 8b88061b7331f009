"""Takes up what an earlier server left. Suspects of having ended it run alone first, so that the culprit is found."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING

from holdfast.wire import State
from tornado_app.processes.journal import queries
from tornado_app.processes.journal.queries import ProcessRecord
from tornado_app.processes.journal.sqlite import Journal
from tornado_app.processes.journal.transitions import Recovered, Transitions

if TYPE_CHECKING:
    from tornado_app.processes.runner import Runner

log = logging.getLogger("holdfast.processes")

FIRST_TIME = 1.0
"""Most seconds that a process runs alone whose server has died once; all of them together have five times as long."""
AGAIN = 10.0
"""The same when that has happened before."""

_LOOK = 0.01


class Recovery:
    """Runs once, on the loop, when an earlier server has left something."""

    def __init__(self, journal: Journal, book: Transitions, attempts: Runner, found: Recovered) -> None:
        self._journal = journal
        self._book = book
        self._attempts = attempts
        self._found = found
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Try the suspects, then let everything go on."""
        insist, write = self._attempts.insist, self._journal.write
        if self._found.suspects:
            once = sum(row.crashes == 1 for row in self._found.suspects)
            for row in self._found.suspects:
                try:
                    await self._try(row, min(FIRST_TIME, 5 * FIRST_TIME / once) if row.crashes == 1 else AGAIN)
                except Exception:  # a bug in trying one must not hold the queue for ever
                    log.exception("process %s can't be tried alone", row.id)
            await insist("that the queue goes on", lambda: write(self._book.go_on))
            read = functools.partial(self._journal.read, queries.cancelling)  # much may have been rolled back meanwhile
            cancelling = await insist("what is to be rolled back", read)
        else:
            cancelling = self._found.cancelling
        for row in cancelling:
            self._attempts.spawn(self._attempts.roll_back(row))

    async def _try(self, row: ProcessRecord, patience: float) -> None:
        """Let it run alone until it has ended, has made progress, or has stood it that long."""
        insist, write = self._attempts.insist, self._journal.write
        begin = functools.partial(self._book.try_alone, id=row.id)
        if not await insist(f"that process {row.id} runs alone", lambda: write(begin)):
            return
        if row.state is State.CANCELLING:
            self._attempts.spawn(self._attempts.roll_back(row))
        end = self._loop.time() + patience
        run = None
        while self._loop.time() < end:
            run = self._attempts.get(row.id) or run
            if run is not None and (run.over.is_set() or (run.has_progressed() and not run.rollback)):
                break
            await asyncio.sleep(_LOOK)
        trust = functools.partial(self._book.trust, id=row.id)
        await insist(f"that process {row.id} runs on", lambda: write(trust))
