"""What attempts report while they run: progress is told, safe points and log lines are written down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from holdfast.wire import Event, ProgressInfo
from holdfast.work import WorkType
from tornado_app import problems
from tornado_app.processes import metrics
from tornado_app.processes.events import EventBroker
from tornado_app.processes.executors.driver import Control, Yielded
from tornado_app.processes.executors.interface import Handle
from tornado_app.processes.executors.log_buffer import Line
from tornado_app.processes.journal.queries import ProcessRecord, version
from tornado_app.processes.journal.sqlite import Journal
from tornado_app.processes.journal.transitions import SafePoint, Transitions
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.processes")

_TICK = 0.1  # progress is told at most ten times a second


class RunningAttempt:
    """An attempt that runs now, as the engine sees it. `row` is how the journal stands."""

    __slots__ = (
        "began_at",
        "control",
        "handle",
        "journaled",
        "lines_in_flight",
        "over",
        "overdue",
        "progress_is_kept",
        "published",
        "row",
        "seen",
        "touched",
        "undo",
        "work",
    )

    def __init__(self, row: ProcessRecord, work: WorkType, undo: bool) -> None:
        self.row = row
        self.began_at = row
        self.work = work
        self.undo = undo
        self.control = Control()
        self.handle: Handle | None = None
        self.published = 0
        self.seen = 0  # yields that the last tick saw
        self.journaled = 0  # yields that the journal has
        self.lines_in_flight = False  # some of its log lines are being written
        self.touched = time.monotonic()  # when a yield was last seen
        self.over = asyncio.Event()  # its end is in the journal
        self.overdue = False
        self.progress_is_kept = False  # the journal knows that this attempt has made progress

    def has_progressed(self) -> bool:
        """Whether this attempt has come further than any before it."""
        latest = self.control.latest
        return latest is not None and self.began_at.is_surpassed_by(latest.checkpoint, latest.done)

    def current(self) -> ProcessRecord:
        """The row with the newest progress in place."""
        latest = self.control.latest
        if latest is None or self.undo:
            return self.row
        return msgspec.structs.replace(self.row, done=latest.done, total=latest.total, note=latest.note)


class ProgressReports:
    """Keeps what `runs` report. Lives on the loop."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        book: Transitions,
        hub: EventBroker,
        runs: Mapping[str, RunningAttempt],
    ) -> None:
        self._interval = settings.journal_interval
        self._journal = journal
        self._book = book
        self._hub = hub
        self._runs = runs
        self._loop = asyncio.get_running_loop()
        self._writing_lines = asyncio.Lock()

    async def keep_forever(self) -> None:
        """Ten times a second: tell progress, write log lines; and safe points as often as the journal interval says."""
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
        """Tell the progress that came since the last tick."""
        now = time.monotonic()
        for id, run in self._runs.items():
            latest, yields = run.control.latest, run.control.yields
            if yields == run.seen or latest is None or run.undo:
                continue
            metrics.YIELDS.inc(yields - run.seen)
            run.seen = yields
            run.touched = now
            run.published += 1
            if self._hub.anyone:
                progress = ProgressInfo(latest.done, latest.total, latest.note)
                newest = version(run.row, run.published)
                event = Event("progress", id, datetime.now(UTC), progress=progress, version=newest)
                self._hub.tell(event, run.row)

    async def keep_newest(self) -> None:
        """Write the newest safe point of every attempt that has a newer one than the journal."""
        newest = []
        for run in self._runs.values():
            yields, latest = run.control.yields, run.control.latest
            if yields != run.journaled and latest is not None and not run.undo:
                newest.append((run, yields, _safe_point(run, latest)))
        if not newest:
            return
        points = [point for _, _, point in newest]
        with metrics.CHECKPOINT.time():
            await self._journal.write(lambda connection: self._book.checkpoints(connection, points))
        for run, yields, point in newest:
            run.journaled = yields
            run.progress_is_kept |= point.first

    def keep_now(self, run: RunningAttempt) -> None:
        """In the worker's thread, with a journal interval of 0: durable before the work goes on, or told to stop."""
        latest = run.control.latest
        assert latest is not None  # noqa: S101 - called by a yield
        point = _safe_point(run, latest)
        pause = 0.1
        while run.control.stopping is None:  # a wish to stop ends the wait: its answer writes this checkpoint, too
            try:
                self._journal.write_here(lambda connection: self._book.checkpoints(connection, [point]))
            except problems.ProblemError as error:
                log.error("process %s waits: its checkpoint can't be kept: %s", run.row.id, error.detail)
                time.sleep(pause)
                pause = min(5.0, pause * 2)
            else:
                run.journaled = run.control.yields
                run.progress_is_kept |= point.first
                return

    async def keep_lines(self, run: RunningAttempt | None = None) -> None:
        """Write the log lines that wait, and tell them, in order. What can't be written goes on waiting.

        Returns once every line of `run` (of all runs) that was said before the call is on disk.
        """
        runs = [run] if run is not None else list(self._runs.values())
        if not any(each.lines_in_flight or each.control.lines for each in runs):
            return
        # One write at a time: were one that fails overtaken by the next, its lines would come behind newer ones.
        async with self._writing_lines:
            taken = [(each, some) for each in runs if (some := each.control.lines.take())]
            if taken:
                await self._write_lines(taken)

    async def _write_lines(self, taken: list[tuple[RunningAttempt, list[Line]]]) -> None:
        for run, _ in taken:
            run.lines_in_flight = True
        lines = [(run.row, at, message) for run, some in taken for at, message in some]
        rows = [(row.id, at, row.attempt, message) for row, at, message in lines]
        try:
            seqs = await self._journal.write(lambda connection: self._book.add_logs(connection, rows))
        except Exception:
            for run, some in taken:
                run.control.lines.put_back(some)
            raise
        finally:
            for run, _ in taken:
                run.lines_in_flight = False
        if self._hub.anyone:
            for seq, (row, at, message) in zip(seqs, lines, strict=True):
                when = datetime.fromtimestamp(at, UTC)
                event = Event("log", row.id, when, attempt=row.attempt, message=message, data={"seq": seq})
                self._hub.tell(event, row)


def _safe_point(run: RunningAttempt, latest: Yielded) -> SafePoint:
    first = not run.progress_is_kept and run.began_at.is_surpassed_by(latest.checkpoint, latest.done)
    return SafePoint(run.row.id, run.row.attempt, latest, first)
