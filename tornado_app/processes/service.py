"""The engine: takes requests, keeps slots full, launches attempts in their places and writes down what they report.

It lives on the loop. The journal is the truth; what the engine holds in memory is only about attempts that run now.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator

import msgspec
from sqlalchemy.exc import DatabaseError

from holdfast.wire import (
    LIVE,
    BulkAnswer,
    BulkRequest,
    Event,
    LogPage,
    Process,
    ProcessPage,
    StartRequest,
    State,
    WorkTypeInfo,
)
from tornado_app import problems
from tornado_app.processes import metrics
from tornado_app.processes.events import EventBroker, Watcher
from tornado_app.processes.executors.interface import Executor, Executors
from tornado_app.processes.journal import logs, queries
from tornado_app.processes.journal.changes import Batch
from tornado_app.processes.journal.interface import Journal
from tornado_app.processes.journal.logs import ProcessLogs
from tornado_app.processes.journal.ownership import (
    LEASE,
    ServerLease,
    Takeover,
)
from tornado_app.processes.journal.queries import ATTEMPTING, ProcessRecord
from tornado_app.processes.journal.queue import ProcessQueue
from tornado_app.processes.journal.retention import Retention
from tornado_app.processes.journal.schema import probe
from tornado_app.processes.journal.transitions import Transitions
from tornado_app.processes.maintenance.disk import DiskWatch
from tornado_app.processes.maintenance.heartbeat import Heartbeat
from tornado_app.processes.maintenance.kills import Kills
from tornado_app.processes.maintenance.recovery import Recovery
from tornado_app.processes.registry import Registry, completed
from tornado_app.processes.requests import check_id, check_labels, check_user_id, validated
from tornado_app.processes.runner import Runner
from tornado_app.processes.states import Cause
from tornado_app.processes.work_context import WorkContext
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.processes")

_EXPIRE_EVERY = 60.0  # seconds between looks for processes that ended long ago
_MOST_IDS = 10_000  # in one bulk request; SQLite takes no more than 32,766 values in a statement


class Engine:
    """The process service. Construct, `await open()`, and `await close(grace)` in the end."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        context: WorkContext,
        executors: Executors,
        journal: Journal,
        *,
        lease: float = LEASE,
    ) -> None:
        """`executors` are made when it is opened; processes name one of them as their `place`.

        `lease` is for how many seconds this server owns what it runs without renewing that.
        """
        self.registry = registry
        self.broker = EventBroker()
        self._settings = settings
        self._check_id = check_user_id if settings.per_user else check_id
        self._services = context
        self._factories = executors
        limits = {
            name: work.limit for name in registry.names if (work := registry.get(name)) and work.limit is not None
        }
        logs = ProcessLogs(journal.database, settings.log_size, settings.logs_size)
        self.journal = journal
        self.lease = ServerLease(journal.database, shared=journal.is_shared, seconds=lease)
        self.queue = ProcessQueue(settings.max_running, limits, self.lease.id, shared=journal.is_shared)
        self.transitions = Transitions(journal.database, self.queue, self.lease.id, self._has_rollback, logs)
        changes, begin = self.transitions.changes, self.transitions.begin
        self.takeover = Takeover(changes, self.queue, self.lease, begin, settings.max_crashes)
        self.retention = Retention(changes, logs, journal.database, settings.keep_ended)
        self._executors: dict[str, Executor] = {}
        self.runner: Runner

    async def open(self) -> None:
        """Open the journal and go on with what an earlier server left. Raises `SettingsError` for a bad journal."""
        loop = asyncio.get_running_loop()
        self._executors = {name: make() for name, make in self._factories.items()}
        self.runner = Runner(
            self._settings,
            self.registry,
            self.journal,
            self.transitions,
            self.takeover,
            self.retention,
            self.lease.id,
            self.broker,
            self._executors,
            self._services,
        )
        self.kills = Kills(self.journal, self.runner, self.lease.id, self._settings.kill_grace)
        await loop.run_in_executor(None, self.journal.open, loop, self.transitions, self._committed)
        reserve, folder = self._settings.journal_reserve, self.journal.folder
        watch = folder and DiskWatch(self.journal, folder, self.transitions, reserve, self._paused_or_resumed)
        try:
            if watch and reserve and await watch.is_short():
                self.transitions.hold_for_room()  # before anything begins
            found = await self.journal.write(self.takeover.recover)
        except problems.ProblemError as error:
            await loop.run_in_executor(None, self.journal.close)
            cause = error.__cause__
            raise self.journal.refusal(cause.orig if isinstance(cause, DatabaseError) else error) from error
        runner = self.runner
        runner.begin(found.timed)
        runner.spawn(Recovery(self.journal, self.takeover, self.lease.id, runner, found).run())
        self.broker.newest = self.transitions.changes.newest
        self.heartbeat = Heartbeat(self.journal, self.transitions, self.takeover, self.queue, self.lease, runner)
        runner.spawn(self.heartbeat.run())
        if watch:  # without a reserve, too, once: what an earlier server has paused for want of room goes on
            runner.spawn(watch.run() if reserve else watch.check())
        if self._settings.keep_ended > 0:
            runner.spawn(self._expire_forever())

    def _committed(self, batch: Batch) -> None:
        self.runner.committed(batch)
        for id in batch.kills:
            self.runner.spawn(self.kills.for_another(id))

    def _paused_or_resumed(self, changed: Iterable[ProcessRecord]) -> None:
        for row in changed:
            self.runner.asked(row)

    async def stop(self, grace: float) -> None:
        """Take no more work, let watchers go, let what runs stop at its next checkpoint: `grace` seconds at most."""
        if self.runner.is_stopping:
            return
        self.broker.close()
        self.queue.close()
        await self.runner.close(grace)

    async def close(self) -> None:
        """After `stop`: close the executors and the journal."""
        for executor in self._executors.values():
            await executor.close()
        if self.lease.is_shared and not len(self.runner):  # else it expires, when what was cut off has surely ended
            with contextlib.suppress(problems.ProblemError):
                await self.journal.write(self.lease.release)
        await asyncio.get_running_loop().run_in_executor(None, self.journal.close)
        await self.runner.staged.close()
        await asyncio.get_running_loop().run_in_executor(None, self._services.close)

    # -- asked for by people

    async def start(self, request: StartRequest, *, strict: bool = True, user: str = "") -> tuple[Process, bool]:
        """Start a process, or answer with the one that the same request started; whether it is new.

        `user` is the folder of whom it belongs to, where users are kept apart.

        Raises:
            ProblemError: BAD_PARAMETERS, UNKNOWN_WORK_TYPE, ID_TAKEN, UNAVAILABLE.
        """
        if self.runner.is_stopping:
            raise problems.UNAVAILABLE("the server is stopping. Start it again in a moment")
        allow_code, setting = self._settings.allow_code, self._services.setting
        new = validated(request, self.registry, self._executors, setting, allow_code=allow_code, strict=strict)
        if user:
            new = msgspec.structs.replace(new, id=f"{user}/{new.id}")
        known = functools.partial(completed, self.registry.find(new.work_type))
        row, created = await self.journal.write(
            lambda connection: self.transitions.start(connection, new, known, user or None)
        )
        return self.runner.show(row), created

    def work_types(self) -> list[WorkTypeInfo]:
        """Return every work type. The documentation of one whose place can't be used on this server says why."""
        return [self._with_refusal(info) for info in self.registry.infos()]

    def _with_refusal(self, info: WorkTypeInfo) -> WorkTypeInfo:
        try:
            self._executors[info.place].check_usable()
        except problems.ProblemError as error:
            return msgspec.structs.replace(info, doc=f"{info.doc}\n\nOn this server: {error.detail}.")
        return info

    def get_running(self, id: str) -> Process | None:
        """A process that runs on this server as it stands, None for others."""
        run = self.runner.get(id)
        return None if run is None else self.runner.show(run.row)

    async def get(self, id: str) -> Process:
        """A process as it stands. Raises NO_SUCH_PROCESS."""
        running = self.get_running(id)
        if running is not None:
            return running
        self._check_id(id)
        return self.runner.show(await self.journal.read(lambda connection: queries.get(connection, id)))

    async def wait(self, id: str, after: int | None, timeout: float) -> Process:
        """The process once its version is not `after` (by default, its version now), or after `timeout` seconds."""
        with self._watching(id) as watcher:
            process = await self.get(id)
            known = process.version if after is None else after
            return await self._until(lambda process: process.version != known, process, watcher, timeout)

    async def wait_ended(self, process: Process, timeout: float) -> Process:
        """A process that was answered just now once it has ended, or as it stands after `timeout` seconds."""
        with self._watching(process.id) as watcher:
            return await self._until(lambda process: process.has_ended, process, watcher, timeout)

    @contextlib.contextmanager
    def _watching(self, id: str) -> Iterator[Watcher]:
        # A flood of log lines would drop it as too slow.
        watcher = self.broker.watch(id, lambda event, row: event.type != "log")
        try:
            yield watcher
        finally:
            self.broker.leave(id, watcher)

    async def _until(
        self, true: Callable[[Process], bool], process: Process, watcher: Watcher, timeout: float
    ) -> Process:
        end = time.monotonic() + timeout
        while not true(process) and not watcher.dropped and (left := end - time.monotonic()) > 0:
            await watcher.next(left)
            process = await self.get(process.id) if watcher.row is None else self.runner.show(watcher.row)
        return process

    async def page(self, wanted: BulkRequest, cursor: str | None, limit: int) -> ProcessPage:
        """A page of processes, newest first. Raises BAD_PARAMETERS for a cursor that is none."""
        before = None if cursor is None else queries.from_cursor(cursor)
        found, more = await self.journal.read(lambda connection: queries.page(connection, wanted, before, limit))
        return ProcessPage([self.runner.show(row) for row in found], queries.cursor(found[-1].n) if more else None)

    async def pause(self, id: str) -> Process:
        """Stop at the next yield, keep the checkpoint, free the slot."""
        return await self._ask(id, Cause.PAUSE)

    async def resume(self, id: str, work_types: list[str] | None = None) -> Process:
        """Go on from the last checkpoint; with `work_types`, only when the process's own is among them."""
        for name in work_types or ():
            self.registry.find(name)
        if work_types is not None:
            process = await self.get(id)
            if process.work_type not in work_types:
                return process
        return await self._ask(id, Cause.RESUME)

    async def cancel(self, id: str) -> Process:
        """Stop at the next yield, then roll back what was done."""
        return await self._ask(id, Cause.CANCEL)

    async def kill(self, id: str) -> Process:
        """End an attempt that does not yield. Answers once that is written down.

        Raises:
            ProblemError: ILLEGAL_STATE, saying why, where it can't be done; UNAVAILABLE where it can't be written.
        """
        row = await self._ask_row(id, Cause.KILL)
        refusal = await self.kills.of(row)
        if refusal is not None:
            raise refusal
        return await self.get(id)

    async def _ask_row(self, id: str, cause: Cause) -> ProcessRecord:
        self._check_id(id)
        row = await self.journal.write(lambda connection: self.transitions.ask(connection, id, cause))
        self.runner.asked(row)
        return row

    async def _ask(self, id: str, cause: Cause) -> Process:
        return self.runner.show(await self._ask_row(id, cause))

    async def ask_all(self, wanted: BulkRequest, cause: Cause) -> BulkAnswer:
        """A verb for all that match the filter. Raises BAD_PARAMETERS for no filter at all."""
        if wanted.ids is None and wanted.work_type is None and wanted.state is None and not wanted.label:
            raise problems.BAD_PARAMETERS("name what is meant: ids, work_type, state or label")
        if len(wanted.ids or ()) > _MOST_IDS:
            raise problems.BAD_PARAMETERS(f"name at most {_MOST_IDS} ids at once", field="ids")
        check_labels(wanted.label or {}, "label")
        if wanted.state is None and wanted.ids is None:
            meant = {Cause.RESUME: (State.PAUSED, State.PAUSING), Cause.KILL: ATTEMPTING}.get(cause, LIVE)
            wanted = msgspec.structs.replace(wanted, state=sorted(meant))
        rows, refused = await self.journal.write(lambda connection: self.transitions.ask_all(connection, wanted, cause))
        changed = [row.id for row in rows]
        for row in rows:
            self.runner.asked(row)
        if cause is Cause.KILL:
            refusals = await asyncio.gather(*map(self.kills.of, rows))
            refused |= {id: why.detail for id, why in zip(changed, refusals, strict=True) if why is not None}
            changed = [id for id in changed if id not in refused]
        return BulkAnswer(changed, refused)

    async def delete(self, id: str) -> None:
        """Forget a process that has ended. Raises NO_SUCH_PROCESS, ILLEGAL_STATE."""
        self._check_id(id)
        await self.journal.write(lambda connection: self.retention.delete(connection, id))

    def watch(self, wanted: BulkRequest) -> Watcher:
        """Watch the processes that the filter means; with none at all everything. End it with `leave`."""
        if wanted == BulkRequest():
            return self.broker.watch(None)
        return self.broker.watch(None, lambda event, row: queries.fits(wanted, event, row))

    def watch_one(self, id: str) -> Watcher:
        """Watch one process. End it with `leave`."""
        return self.broker.watch(id)

    def leave(self, id: str | None, watcher: Watcher) -> None:
        """End watching one process, or all that a filter means."""
        self.broker.leave(id, watcher)

    @property
    def newest_event(self) -> int:
        """Return the number of the newest event."""
        return self.broker.newest

    def event_for_user(self, event: Event) -> Event:
        """Return an event as those who watch see it."""
        return event

    async def known_event(self, seq: int) -> int:
        """Return that number of an event, or the newest one's when it is of another journal, moved away since."""
        newest = functools.partial(queries.newest_event, self.journal.database)
        return min(seq, await self.journal.read(newest))

    async def events_after(self, seq: int, wanted: BulkRequest, limit: int = 500) -> list[Event]:
        """State changes and deletions after that number, in order, of the processes that the filter means."""
        return await self.journal.read(lambda connection: queries.events_after(connection, seq, wanted, limit))

    async def check_ready(self) -> None:
        """Raises UNAVAILABLE when the server is stopping or the journal takes no writes."""
        if self.runner.is_stopping:
            raise problems.UNAVAILABLE("the server is stopping")
        await self.journal.write(probe)

    async def has_work(self) -> bool:
        """Return whether a process runs, stops, rolls back or waits for its turn, or a paused one has left work alive.

        A journal that can't be read counts as work.
        """
        if len(self.runner) or self._services.keeps_any:
            return True
        try:
            return await self.journal.read(queries.has_live)
        except problems.ProblemError:
            return True

    async def refresh_metrics(self) -> None:
        """Bring the gauges up to date: what the journal and the loop know now."""
        counts, oldest = await self.journal.read(
            lambda connection: (queries.counts(connection), queries.oldest_queued(connection))
        )
        metrics.LIVE.clear()
        for state, work_type, count in counts:
            metrics.LIVE.labels(state, work_type).set(count)
        metrics.QUEUE_AGE.set(0.0 if oldest is None else max(0.0, time.time() - oldest))
        metrics.RUNNING.set(len(self.runner))
        metrics.WATCHERS.set(len(self.broker))

    async def log(self, id: str, after: int, limit: int, last: int = 0) -> LogPage:
        """Return what the work logged, in order; with `last`, the end of it, so many lines."""
        await self.runner.reports.keep_lines()
        await self.get(id)
        if last:
            return LogPage(await self.journal.read(lambda connection: logs.log_end(connection, id, last)))
        lines, more = await self.journal.read(lambda connection: logs.log_after(connection, id, after, limit))
        return LogPage(lines, lines[-1].seq if more else None)

    async def _expire_forever(self) -> None:
        """Forget processes that ended longer than `--keep-ended` ago."""
        while True:
            expired = 0
            with contextlib.suppress(problems.ProblemError):
                expired = await self.journal.write(self.retention.expire)
            await asyncio.sleep(0 if expired else _EXPIRE_EVERY)

    def _has_rollback(self, name: str) -> bool:
        work = self.registry.get(name)
        return work is None or work.rollback_function is not None
