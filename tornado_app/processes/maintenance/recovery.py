"""Recovery of what an earlier server left. Suspects of having ended it run alone first, to find which one did."""

from __future__ import annotations

import asyncio
import functools
import logging

from holdfast.wire import State
from tornado_app.processes.journal import queries
from tornado_app.processes.journal.interface import Journal
from tornado_app.processes.journal.ownership import Recovered, Takeover
from tornado_app.processes.journal.queries import ProcessRecord
from tornado_app.processes.runner import Runner

log = logging.getLogger("holdfast.processes")

FIRST_TIME = 1.0
"""Most seconds that a process runs alone whose server has died once; all of them together have five times as long."""
AGAIN = 10.0
"""The same when that has happened before."""

_POLL = 0.01


class Recovery:
    """Runs once, on the loop, when an earlier server has left something."""

    def __init__(self, journal: Journal, takeover: Takeover, owner: str, runner: Runner, found: Recovered) -> None:
        self._journal = journal
        self._takeover = takeover
        self._owner = owner
        self._runner = runner
        self._found = found
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Try the suspects, then let everything go on."""
        insist, write = self._runner.insist, self._journal.write
        if self._found.suspects:
            once = sum(row.crashes == 1 for row in self._found.suspects)
            for row in self._found.suspects:
                try:
                    await self._try(row, min(FIRST_TIME, 5 * FIRST_TIME / once) if row.crashes == 1 else AGAIN)
                except Exception:  # a bug in trying one must not hold the queue for ever
                    log.exception("process %s can't be tried alone", row.id)
            await insist("that the queue goes on", lambda: write(self._takeover.go_on))
            mine = functools.partial(queries.cancelling, owner=self._owner)  # much may have been rolled back meanwhile
            read = functools.partial(self._journal.read, mine)
            cancelling = await insist("what is to be rolled back", read)
        else:
            cancelling = self._found.cancelling
        for row in cancelling:
            self._runner.spawn(self._runner.roll_back(row))

    async def _try(self, row: ProcessRecord, patience: float) -> None:
        """Let it run alone until it has ended, has made progress, or has stood it that long."""
        insist, write = self._runner.insist, self._journal.write
        begin = functools.partial(self._takeover.try_alone, id=row.id)
        if not await insist(f"that process {row.id} runs alone", lambda: write(begin)):
            return
        if row.state is State.CANCELLING:
            self._runner.spawn(self._runner.roll_back(row))
        end = self._loop.time() + patience
        run = None
        while self._loop.time() < end:
            run = self._runner.get(row.id) or run
            if run is not None and (run.over.is_set() or (run.has_progressed() and not run.rollback)):
                break
            await asyncio.sleep(_POLL)
        trust = functools.partial(self._takeover.trust, id=row.id)
        await insist(f"that process {row.id} runs on", lambda: write(trust))
