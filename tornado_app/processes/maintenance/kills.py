"""Ends of attempts that do not yield, here or on the server that runs them."""

from __future__ import annotations

import asyncio
import functools
import time

from tornado_app import problems
from tornado_app.processes.journal.interface import Journal
from tornado_app.processes.journal.ownership import answer_kill, kill_answer, request_kill
from tornado_app.processes.journal.queries import ProcessRecord
from tornado_app.processes.runner import Runner

_WRITTEN = 30.0  # seconds that a killer waits for the end to be in the journal
_ANSWER = 0.05  # seconds between two polls for another server's answer


class Kills:
    """Kills attempts by their owners: this server its own, other servers theirs when they are asked."""

    def __init__(self, journal: Journal, runner: Runner, owner: str, grace: float) -> None:
        """`owner` is the id of this server's lease, `grace` the seconds in which an attempt may still end by itself."""
        self._journal = journal
        self._runner = runner
        self._owner = owner
        self._grace = grace

    async def for_another(self, id: str) -> None:
        """Kill an attempt that runs here, as another server asks, and answer it."""
        refusal = await self._end_attempt(id)
        answer = functools.partial(answer_kill, id=id, refusal=None if refusal is None else refusal.detail)
        await self._runner.insist("the answer to a kill", lambda: self._journal.write(answer))

    async def of(self, row: ProcessRecord) -> problems.ProblemError | None:
        """End the attempt of a row, and return what is in the way, or None once its end is written down."""
        is_here = row.owner in (None, self._owner)
        return await (self._end_attempt(row.id) if is_here else self._end_elsewhere(row))

    async def _end_attempt(self, id: str) -> problems.ProblemError | None:
        """End the attempt that runs, if one does; what is in the way, or None once it is written down."""
        run = self._runner.get(id)
        if run is None or run.handle is None:
            return None
        refusal = await run.handle.kill(self._grace)
        if refusal is not None:
            return problems.ILLEGAL_STATE(f"process {id!r} was not killed: {refusal}", id=id)
        if not await self._runner.wait_over(run, _WRITTEN):
            return problems.UNAVAILABLE(
                f"process {id!r} was killed, but the journal does not take that yet. Look at it again in a moment",
                id=id,
            )
        return None

    async def _end_elsewhere(self, row: ProcessRecord) -> problems.ProblemError | None:
        """Ask the owner of an attempt to kill it, and wait for its answer."""
        await self._journal.write(functools.partial(request_kill, row=row))
        end = time.monotonic() + self._grace + _WRITTEN
        while time.monotonic() < end:
            answered, refusal = await self._journal.read(functools.partial(kill_answer, id=row.id))
            if answered:
                return None if refusal is None else problems.ILLEGAL_STATE(refusal, id=row.id)
            await asyncio.sleep(_ANSWER)
        return problems.UNAVAILABLE(
            f"process {row.id!r} runs on another server, which does not answer. Try again in a moment.", id=row.id
        )
