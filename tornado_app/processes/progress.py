"""Reports of attempts that run: progress is published, safe points and log lines are written down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from holdfast.wire import Event, ProgressInfo
from holdfast.work import Stopping
from tornado_app import problems
from tornado_app.processes import metrics
from tornado_app.processes.events import EventBroker
from tornado_app.processes.executors.attempt import Checkpoint, Line, Outcome
from tornado_app.processes.executors.interface import AttemptHandle
from tornado_app.processes.executors.log_buffer import LogBuffer
from tornado_app.processes.journal.interface import Journal
from tornado_app.processes.journal.queries import ProcessRecord, version
from tornado_app.processes.journal.transitions import SafePoint, Transitions
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.processes")

_TICK = 0.1  # progress is published at most ten times a second


class RunningAttempt:
    """An attempt that runs now. `row` is how the journal stands. It is the sink of what the executor reports."""

    __slots__ = (
        "_commit",
        "_end",
        "_run_id",
        "began_at",
        "deadline_passed",
        "handle",
        "journaled",
        "latest",
        "lines",
        "lines_in_flight",
        "over",
        "progress_is_kept",
        "published",
        "rollback",
        "row",
        "seen",
        "stop_request",
        "touched",
        "yields",
    )

    def __init__(
        self,
        row: ProcessRecord,
        rollback: bool,
        commit: Callable[[RunningAttempt], None],
        end: Callable[[RunningAttempt, Outcome], None],
    ) -> None:
        """`commit` makes the newest checkpoint durable, in a thread of the work; `end` takes the outcome."""
        self.row = row
        self.began_at = row
        self.rollback = rollback
        self._commit = commit
        self._end = end
        self._run_id: str | None = None
        self.handle: AttemptHandle | None = None
        self.stop_request: Stopping | None = None
        self.latest: Checkpoint | None = None
        self.yields = 0
        self.lines = LogBuffer()
        self.published = 0
        self.seen = 0  # yields that the last tick saw
        self.journaled = 0  # yields that the journal has
        self.lines_in_flight = False  # some of its log lines are being written
        self.touched = time.monotonic()  # when a yield was last seen
        self.over = asyncio.Event()  # its end is in the journal
        self.deadline_passed = False
        self.progress_is_kept = False  # the journal knows that this attempt has made progress

    def request_stop(self, why: Stopping | None) -> None:
        """Request a stop of the attempt at its next yield; None revokes the request."""
        self.stop_request = why
        if self.handle is not None:
            self.handle.request_stop(why)

    # -- reports of the executor: see `AttemptSink`

    def begin(self, run: str) -> bool:
        if self._run_id is None:
            self._run_id = run
        return self._run_id == run

    def checkpoint(self, yields: int, checkpoint: Checkpoint) -> None:
        self.latest = checkpoint  # before the count, so that who reads the count first misses nothing
        self.yields = yields

    def commit(self, yields: int, checkpoint: Checkpoint) -> None:
        self.checkpoint(yields, checkpoint)
        self._commit(self)

    def log(self, line: Line, *, wait: bool) -> None:
        self.lines.put(line, wait=wait)

    def has_room(self) -> bool:
        return not self.lines.is_full

    def ended(self, outcome: Outcome) -> None:
        self._end(self, outcome)

    # -- what the newest checkpoint shows

    def has_progressed(self) -> bool:
        """Return whether this attempt has come further than any before it."""
        latest = self.latest
        return latest is not None and self.began_at.is_surpassed_by(latest.data, latest.done)

    def current(self) -> ProcessRecord:
        """The row with the newest progress in place."""
        latest = self.latest
        if latest is None or self.rollback:
            return self.row
        return msgspec.structs.replace(self.row, done=latest.done, total=latest.total, note=latest.note)


class ProgressReports:
    """Keeps what `runs` report. Lives on the loop."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        transitions: Transitions,
        broker: EventBroker,
        runs: Mapping[str, RunningAttempt],
    ) -> None:
        self._interval = settings.journal_interval
        self._journal = journal
        self._transitions = transitions
        self._broker = broker
        self._runs = runs
        self._loop = asyncio.get_running_loop()
        self._writing_lines = asyncio.Lock()

    async def keep_forever(self) -> None:
        """Ten times a second, publish progress and write log lines; and safe points at the journal interval."""
        kept = self._loop.time()
        while True:
            due = self._loop.time() + _TICK
            await asyncio.sleep(_TICK)
            metrics.LOOP_LAG.observe(self._loop.time() - due)
            try:
                self._publish()
                await self.keep_lines()
                if self._loop.time() - kept >= self._interval:
                    kept = self._loop.time()
                    await self.keep_newest()
            except problems.ProblemError as error:
                log.error("checkpoints can't be kept now: %s", error.detail)
            except Exception:  # a bug in one report must not end the reports of all
                log.exception("checkpoints can't be kept now")

    def _publish(self) -> None:
        """Publish the progress that came since the last tick."""
        now = time.monotonic()
        for id, run in self._runs.items():
            yields, latest = run.yields, run.latest
            if yields == run.seen or latest is None or run.rollback:
                continue
            metrics.YIELDS.inc(yields - run.seen)
            run.seen = yields
            run.touched = now
            run.published += 1
            if self._broker.has_watchers:
                progress = ProgressInfo(latest.done, latest.total, latest.note)
                newest = version(run.row, run.published)
                event = Event("progress", id, datetime.now(UTC), progress=progress, version=newest)
                self._broker.publish(event, run.row)

    async def keep_newest(self) -> None:
        """Write the newest safe point of every attempt that has a newer one than the journal."""
        newest = []
        for run in self._runs.values():
            yields, latest = run.yields, run.latest
            if yields != run.journaled and latest is not None and not run.rollback:
                newest.append((run, yields, _safe_point(run, latest)))
        if not newest:
            return
        points = [point for _, _, point in newest]
        with metrics.CHECKPOINT.time():
            await self._journal.write(lambda connection: self._transitions.checkpoints(connection, points))
        for run, yields, point in newest:
            run.journaled = yields
            run.progress_is_kept |= point.first

    def keep_now(self, run: RunningAttempt) -> None:
        """Write the newest safe point in the worker's thread, and try again until that succeeds or the work is to stop.

        A stop request ends only the retries: the work may do anything once its yield returns.
        """
        latest = run.latest
        assert latest is not None  # noqa: S101 - called by a yield
        point = _safe_point(run, latest)
        pause = 0.1
        while True:
            try:
                self._journal.write_here(lambda connection: self._transitions.checkpoints(connection, [point]))
            except problems.ProblemError as error:
                if run.stop_request is not None:  # the end of the attempt writes this checkpoint, too
                    return
                log.error("process %s waits: its checkpoint can't be kept: %s", run.row.id, error.detail)
                time.sleep(pause)
                pause = min(5.0, pause * 2)
            else:
                run.journaled = run.yields
                run.progress_is_kept |= point.first
                return

    async def keep_lines(self, run: RunningAttempt | None = None) -> None:
        """Write the log lines that wait, and publish them, in order. What can't be written goes on waiting.

        Returns once every line of `run` (of all runs) that was said before the call is on disk.
        """
        runs = [run] if run is not None else list(self._runs.values())
        if not any(each.lines_in_flight or each.lines for each in runs):
            return
        # One write at a time: were one that fails overtaken by the next, its lines would come behind newer ones.
        async with self._writing_lines:
            taken = [(each, some) for each in runs if (some := each.lines.take())]
            if taken:
                await self._write_lines(taken)

    async def _write_lines(self, taken: list[tuple[RunningAttempt, list[Line]]]) -> None:
        for run, _ in taken:
            run.lines_in_flight = True
        lines = [(run.row, at, message) for run, some in taken for at, message in some]
        rows = [(row.id, at, row.attempt, message) for row, at, message in lines]
        try:
            seqs = await self._journal.write(lambda connection: self._transitions.add_logs(connection, rows))
        except Exception:
            for run, some in taken:
                run.lines.put_back(some)
            raise
        finally:
            for run, _ in taken:
                run.lines_in_flight = False
        if self._broker.has_watchers:
            for seq, (row, at, message) in zip(seqs, lines, strict=True):
                when = datetime.fromtimestamp(at, UTC)
                event = Event("log", row.id, when, attempt=row.attempt, message=message, data={"seq": seq})
                self._broker.publish(event, row)


def _safe_point(run: RunningAttempt, latest: Checkpoint) -> SafePoint:
    first = not run.progress_is_kept and run.began_at.is_surpassed_by(latest.data, latest.done)
    return SafePoint(run.row.id, run.row.attempt, latest, first)
