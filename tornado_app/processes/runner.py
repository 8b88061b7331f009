"""Runner of attempts: launches what the journal has claimed, watches it, and writes down how it ends."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection

from holdfast.wire import ENDED, Process, State
from holdfast.work import Stopping
from tornado_app import problems
from tornado_app.processes import metrics
from tornado_app.processes.events import EventBroker
from tornado_app.processes.executors.attempt import Attempt, Failed, Outcome, StoppedAttempt, Succeeded
from tornado_app.processes.executors.interface import Executor
from tornado_app.processes.journal import queries
from tornado_app.processes.journal.changes import Batch
from tornado_app.processes.journal.interface import Journal
from tornado_app.processes.journal.ownership import Takeover
from tornado_app.processes.journal.queries import ATTEMPTING, ProcessRecord
from tornado_app.processes.journal.retention import Retention
from tornado_app.processes.journal.schema import DELETED
from tornado_app.processes.journal.transitions import BACKOFF_MOST, DEADLINE_PASSED, Transitions
from tornado_app.processes.maintenance.deadlines import Timers
from tornado_app.processes.maintenance.staged import StagedCleanup
from tornado_app.processes.progress import ProgressReports, RunningAttempt
from tornado_app.processes.registry import Registry
from tornado_app.processes.sent_code import code
from tornado_app.processes.work_context import WorkContext
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.processes")

T = TypeVar("T")

_STOP_REQUESTS: dict[State, Stopping] = {State.PAUSING: "pause", State.CANCELLING: "cancel"}

_LAST_WORD = 1.0  # seconds that a stop waits for a journal that does not take what it writes


class Runner:
    """Runner of everything that runs, by process id. Lives on the loop; the journal is the truth."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        journal: Journal,
        transitions: Transitions,
        takeover: Takeover,
        retention: Retention,
        owner: str,
        broker: EventBroker,
        executors: Mapping[str, Executor],
        services: WorkContext,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._journal = journal
        self._transitions = transitions
        self._takeover = takeover
        self._owner = owner  # this server's id, in the rows of what it runs
        self._broker = broker
        self._executors = executors
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._runs: dict[str, RunningAttempt] = {}
        self.reports = ProgressReports(settings, journal, transitions, broker, self._runs)
        self._rolling_back: set[str] = set()  # what is being rolled back, or waits for a slot to be
        self._rollback_slots = asyncio.Semaphore(settings.max_running)
        self._timers = Timers(self._retry_is_due, self._deadline_has_passed, BACKOFF_MOST)
        self.staged = StagedCleanup(journal, retention, services.files, self.spawn)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.is_stopping = False  # it begins nothing any more
        self._closed = False
        self._idle = asyncio.Event()

    def begin(self, timed: Iterable[ProcessRecord]) -> None:
        """Begin to report, and wait for the times of what an earlier server left."""
        for row in timed:
            self._timers.set(row)
        self.spawn(self.staged.remove_leftovers())
        self.spawn(self.reports.keep_forever())

    def stop_all(self) -> None:
        """Request that everything that runs stops at its next yield: it goes on elsewhere, or later."""
        for run in self._runs.values():
            run.request_stop("shutdown")

    async def close(self, grace: float) -> None:
        """Let what runs stop at its next checkpoint, `grace` seconds long, and keep the newest of what did not."""
        self.is_stopping = True
        saying = self._loop.create_task(self._say_stopping())
        self.stop_all()
        try:
            async with asyncio.timeout(grace):
                while self._runs:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            names = ", ".join(self._runs)
            log.warning("did not stop in time, go on from their last checkpoint at the next start: %s", names)
        self._closed = True
        await asyncio.wait([saying], timeout=_LAST_WORD)
        saying.cancel()
        try:
            await self.reports.keep_lines()
            await self.reports.keep_newest()
        except problems.ProblemError as error:
            log.error("the newest checkpoints can't be kept: %s", error.detail)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _say_stopping(self) -> None:
        try:
            await self._journal.write(self._takeover.stopping)
        except problems.ProblemError as error:
            log.error("that the server stops can't be written: %s", error.detail)

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, id: str) -> RunningAttempt | None:
        """Return the attempt of that process that runs now."""
        return self._runs.get(id)

    def asked(self, row: ProcessRecord) -> None:
        """Pass a committed request on to the attempt, or roll back what has none."""
        run = self._runs.get(row.id)
        if run is not None and run.row.attempt == row.attempt and not run.rollback:
            run.row = row
            if not run.deadline_passed:
                going_on: Stopping | None = "shutdown" if self.is_stopping else None
                run.request_stop(_STOP_REQUESTS.get(row.state, going_on))
        elif row.state is State.CANCELLING and run is None and row.owner == self._owner:
            self.spawn(self.roll_back(row))

    def show(self, row: ProcessRecord) -> Process:
        """Return a row as the wire has it, with the newest progress of its running attempt."""
        run = self._runs.get(row.id)
        if run is None or run.row.attempt != row.attempt:
            return queries.wire(row)
        if row.version > run.row.version:
            run.row = row
        stalled = not run.rollback and time.monotonic() - run.touched > self._settings.stall_after
        return queries.wire(run.current(), published=run.published, stalled=stalled)

    def _changed_elsewhere(self, row: ProcessRecord) -> None:
        """Follow what another server has committed: it may have asked something of an attempt that runs here."""
        run = self._runs.get(row.id)
        if run is not None and run.row.attempt == row.attempt and row.owner != self._owner:
            run.request_stop("shutdown")  # another server has taken it over
        elif row.owner == self._owner:
            self.asked(row)
        self._timers.set(row)

    def committed(self, batch: Batch) -> None:
        """Launch what a committed transaction has claimed, and publish what it has changed."""
        for other, event in batch.others:
            if other is not None:
                self._changed_elsewhere(other)
            self._broker.publish(event, other)
        for row, event in batch.changed:
            if event.type == DELETED:
                log.info("process %s is deleted", row.id, extra={"process_id": row.id, "before": event.before})
                self.staged.add(row, deleted=True)
                continue
            log.info(
                "process %s is %s (attempt %d)",
                row.id,
                row.state,
                row.attempt,
                extra={"process_id": row.id, "state": row.state, "before": event.before, "attempt": row.attempt},
            )
            metrics.CHANGES.labels(row.state, row.work_type).inc()
            run = self._runs.get(row.id)
            if run is not None and run.row.attempt == row.attempt:
                run.row = row
                if row.state not in ATTEMPTING:
                    self._forget(run)
            if row.state in ENDED and self._services.keeps(row.id):
                self.spawn(asyncio.to_thread(self._services.forget, row.id))
            if row.state in (State.SUCCEEDED, State.CANCELLED):  # what failed may go on yet
                self.staged.add(row)
            self._timers.set(row)
        for row, sent in batch.claimed:
            self._launch(row, sent)
        for row, event in batch.changed:
            self._broker.publish(event, row)

    def _retry_is_due(self, id: str, attempt: int) -> None:
        if not self.is_stopping:
            due = functools.partial(self._transitions.due, id=id, attempt=attempt)
            self.spawn(self.insist("that a retry is due", lambda: self._journal.write(due)))

    def _deadline_has_passed(self, id: str) -> None:
        if not self.is_stopping:
            self.spawn(self._stop_at_deadline(id))

    async def _stop_at_deadline(self, id: str) -> None:
        passed = functools.partial(self._transitions.deadline_passed, id=id)
        row = await self.insist("a deadline", lambda: self._journal.write(passed))
        run = self._runs.get(id)
        if row is not None and run is not None and run.row.attempt == row.attempt and not run.deadline_passed:
            run.deadline_passed = True
            self.spawn(self._end(run))

    async def _end(self, run: RunningAttempt) -> None:
        """Stop an attempt at its next yield, or else kill it where that can be done."""
        if run.handle is not None:
            run.request_stop("cancel")
            if not await self.wait_over(run, self._settings.kill_grace):
                await run.handle.kill(self._settings.kill_grace)

    async def wait_over(self, run: RunningAttempt, timeout: float) -> bool:
        """Return whether the end of that attempt is in the journal, after `timeout` seconds at most."""
        try:
            async with asyncio.timeout(timeout):
                return await run.over.wait()
        except TimeoutError:
            return False

    def _launch(self, row: ProcessRecord, sent: bytes | None) -> None:
        if self._closed:  # nobody waits for its end any more: it goes back to the queue at the next start
            return
        work = self._registry.get(row.work_type)
        if work is None:
            error = Failed("UnknownWorkType", self._registry.why_absent(row.work_type))
            self.spawn(self._write_end(row.id, row.attempt, error, None))
            return
        run = self._begin(row, sent, rollback=False)
        if self.is_stopping:
            run.request_stop("shutdown")
        if row.deadline is not None and self._timers.has_passed(row.id):  # between two attempts
            self._deadline_has_passed(row.id)

    def _begin(self, row: ProcessRecord, sent: bytes | None, rollback: bool) -> RunningAttempt:
        """Hand an attempt, or a rollback, to the executor of its process."""
        run = self._runs[row.id] = RunningAttempt(row, rollback, self.reports.keep_now, self._ended)
        attempt = Attempt(
            row.id,
            row.work_type,
            row.attempt,
            row.params,
            row.checkpoint,
            rollback,
            sent,
            queries.serial(row),
            queries.stager(row),
            self._settings.journal_interval == 0 and not rollback,
            row.user or "",
        )
        try:
            run.handle = self._executors[row.place].launch(attempt, run)
        except Exception as error:
            log.exception("process %s can't be launched", row.id)
            self._ended(run, Failed(type(error).__name__, f"it can't be launched: {error}", retry=True))
        return run

    def _ended(self, run: RunningAttempt, outcome: Outcome) -> None:
        if self._closed:  # cut off by the end of the server: it goes on from its last checkpoint at the next start
            return
        self.spawn(self._finish_rollback(run, outcome) if run.rollback else self._finish(run, outcome))

    async def _finish(self, run: RunningAttempt, outcome: Outcome) -> None:
        metrics.YIELDS.inc(run.yields - run.seen)
        if run.deadline_passed and not isinstance(outcome, Succeeded):
            outcome = Failed(DEADLINE_PASSED.type, DEADLINE_PASSED.message)
        if isinstance(outcome, Failed) and outcome.trace:
            run.lines.put((time.time(), outcome.trace), wait=False)
        await self.insist(f"the log of process {run.row.id}", lambda: self.reports.keep_lines(run))
        row = await self._write_end(run.row.id, run.row.attempt, outcome, run)
        if row is not None and row.state is State.CANCELLING and not self.is_stopping:
            self.spawn(self.roll_back(row))

    async def _write_end(
        self, id: str, attempt: int, outcome: Outcome, run: RunningAttempt | None
    ) -> ProcessRecord | None:
        """Write the end of an attempt down, which frees its slot."""
        latest = run.latest if run is not None else None
        shutdown = self.is_stopping

        def end(connection: Connection) -> ProcessRecord | None:
            return self._transitions.ended(connection, id, attempt, outcome, latest, shutdown)

        row = await self.insist(f"the end of process {id}", lambda: self._journal.write(end))
        if run is not None:
            self._forget(run)
        return row

    async def insist(self, what: str, write: Callable[[], Awaitable[T]]) -> T:
        """Write, and try again for as long as the journal can't be written."""
        pause = 0.1
        while True:
            try:
                return await write()
            except problems.ProblemError as error:
                log.error("%s can't be written yet: %s", what, error.detail)
                await asyncio.sleep(pause)
                pause = min(5.0, pause * 2)

    def _forget(self, run: RunningAttempt) -> None:
        run.over.set()
        if self._runs.get(run.row.id) is run:
            del self._runs[run.row.id]
        if not self._runs:
            self._idle.set()

    async def roll_back(self, row: ProcessRecord) -> None:
        """Roll back a process that was cancelled, in its place, once at a time and never beside its own attempt."""
        run = self._runs.get(row.id)
        if row.id in self._rolling_back or (run is not None and not run.rollback):  # `_finish` begins the rollback
            return
        self._rolling_back.add(row.id)
        work = self._registry.get(row.work_type)
        if work is None:
            await self._write_rollback_end(row, Failed("UnknownWorkType", self._registry.why_absent(row.work_type)))
            return
        await self._rollback_slots.acquire()
        sent: bytes | None = None
        if work is code:
            read = functools.partial(self._journal.read, lambda connection: queries.code(connection, row.id))
            sent = await self.insist(f"the rollback of process {row.id}", read)
        if self.is_stopping:  # nobody might wait for its end any more: it is done at the next start, and once
            return
        self._begin(row, sent, rollback=True)

    async def _finish_rollback(self, run: RunningAttempt, outcome: Outcome) -> None:
        self._rollback_slots.release()
        if isinstance(outcome, Failed) and outcome.trace:
            run.lines.put((time.time(), outcome.trace), wait=False)
        await self.insist(f"the log of process {run.row.id}", lambda: self.reports.keep_lines(run))
        if isinstance(outcome, StoppedAttempt):  # it stays `cancelling`: it runs again at the next start, or elsewhere
            self._rolling_back.discard(run.row.id)
        else:
            await self._write_rollback_end(run.row, outcome)
        self._forget(run)

    async def _write_rollback_end(self, row: ProcessRecord, outcome: Outcome) -> None:
        def end(connection: Connection) -> ProcessRecord | None:
            return self._transitions.rollback_ended(connection, row.id, row.attempt, outcome)

        await self.insist(f"the end of the rollback of process {row.id}", lambda: self._journal.write(end))
        self._rolling_back.discard(row.id)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a task that ends with the engine, and log what it raises."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the engine failed", exc_info=task.exception())
