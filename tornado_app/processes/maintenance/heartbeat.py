"""Heartbeat of a server: renew the lease, read what other servers have committed, take over from dead ones."""

from __future__ import annotations

import asyncio
import logging
import time

from sqlalchemy import Connection

from tornado_app import problems
from tornado_app.processes.journal.interface import Journal
from tornado_app.processes.journal.ownership import ServerLease, Takeover
from tornado_app.processes.journal.queries import ProcessRecord, cancelling
from tornado_app.processes.journal.queue import ProcessQueue
from tornado_app.processes.journal.transitions import Transitions
from tornado_app.processes.runner import Runner

log = logging.getLogger("holdfast.processes")

POLL = 1.0
"""Seconds between two reads of what other servers have committed, where no notification comes."""

ALONE = 60.0
"""Seconds between two renewals where no other server can have the journal open: nothing reads that lease."""


class Heartbeat:
    """Runs on the loop for as long as the server may run anything.

    Where the lease can't be renewed for two thirds of it, or another server has taken over, what runs here is stopped,
    and nothing is claimed until that has ended and the lease is held again.
    """

    def __init__(
        self,
        journal: Journal,
        transitions: Transitions,
        takeover: Takeover,
        queue: ProcessQueue,
        lease: ServerLease,
        runner: Runner,
    ) -> None:
        self._journal = journal
        self._transitions = transitions
        self._takeover = takeover
        self._queue = queue
        self._lease = lease
        self._runner = runner
        self._is_lost = False
        self._is_failing = False  # the last renewal failed, and the log has it

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            interval = ALONE
            if self._lease.is_shared or self._is_lost:
                interval = min(POLL, self._lease.interval)
            await self._journal.notifications.wait(interval)
            await self.beat()

    async def beat(self) -> None:
        """Renew the lease once, or stop what runs when that has not been possible for too long."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._lease.interval):
                held, rollbacks = await self._journal.write(self._renew)
        except Exception as error:  # a bug must not end the heartbeat: others would take over what still runs here
            self._failed(error)
            held, rollbacks = not self._is_lost, []
        else:
            if self._is_failing:
                self._is_failing = False
                log.warning("the lease of this server can be renewed again")
            if held:
                self._lease.renewed(began)
        if not held or not self._lease.is_safe:
            self._lose()
        elif self._is_lost:
            self._is_lost = False
            self._queue.go_on("lease")
            log.warning("the lease of this server is held again: it claims what is queued")
        for row in rollbacks:
            self._runner.spawn(self._runner.roll_back(row))

    def _failed(self, error: Exception) -> None:
        """Log the first of several failures. A server that is alone has no lease to lose."""
        if not self._is_failing and not isinstance(error, (problems.ProblemError, TimeoutError)):
            log.exception("the lease of this server can't be renewed")
        elif not self._is_failing and self._lease.is_shared:
            log.warning("the lease of this server can't be renewed: %s", error or "the journal does not answer")
        else:
            return
        self._is_failing = True

    def _renew(self, connection: Connection) -> tuple[bool, list[ProcessRecord]]:
        held = self._lease.renew(connection)
        stopped: list[ProcessRecord] = []
        if self._is_lost and not len(self._runner):
            if not held:
                self._lease.acquire(connection)
            held = True
            stopped = cancelling(connection, self._lease.id)
        elif self._is_lost or not held:
            self._queue.hold("lease")  # already in this transaction
            return False, []
        self._transitions.poll(connection)
        return held, stopped + self._takeover.take_over(connection)

    def _lose(self) -> None:
        if not self._is_lost:
            log.error("the lease of this server is lost: what runs is stopped, before or after others take it over")
            self._is_lost = True
            self._queue.hold("lease")
        self._runner.stop_all()
