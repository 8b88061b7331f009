"""Driver of one attempt: the same in a thread, in an OS process and on the event loop.

A work type is a generator. The driver reports what it yields, and at each yield goes on or closes the generator. The
driver lives where the work runs; only its two loops, sync and async, differ.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec

from holdfast.work import MAX_CHECKPOINT, Interrupted, Job, Progress, Services, Stopping, WorkError, WorkType
from holdfast.work._values import NotJson, as_json, line_of
from tornado_app.processes.executors import output, tracebacks
from tornado_app.processes.executors.attempt import (
    LONGEST_LINE,
    LONGEST_NOTE,
    MAX_RESULT,
    Attempt,
    Checkpoint,
    Failed,
    Outcome,
    StoppedAttempt,
    Succeeded,
    text_of,
)
from tornado_app.processes.executors.interface import ReportSink
from tornado_app.processes.executors.interrupts import Interrupts

_TURN = 0.005  # seconds that an async generator may hold the loop by yielding without awaiting


class _ContractError(Exception):
    """The work type broke its contract; the message says how."""


class AttemptDriver:
    """Runs one attempt of one process. Stop requests come from any thread."""

    def __init__(
        self,
        work: WorkType,
        attempt: Attempt,
        sink: ReportSink,
        context: Services | None = None,
        write_line: output.WriteLine | None = None,
    ) -> None:
        """`write_line` takes log lines where the whole output of the process is captured already.

        Without it the driver captures what the work prints in its own context.
        """
        self.work = work
        self.attempt = attempt
        self.stopping: Stopping | None = None
        self.interrupts = Interrupts()
        self.yields = 0
        self._sink = sink
        self._context = context
        self._write_line = write_line
        self._on_kill: Callable[[], None] | None = None
        self._pid = os.getpid()
        self._read_checkpoint: Callable[[bytes], Any] | None = None
        self._running: Any = None  # the generator, and its frame, which outlives it
        self._frame: FrameType | None = None

    def request_stop(self, why: Stopping | None) -> None:
        """Request a stop at the next yield, and interrupt what the work waits for. None revokes the request."""
        self.stopping = why
        self.interrupts.request_stop(why is not None)

    @property
    def end_wait(self) -> Callable[[], None] | None:
        """Function by which a kill ends what the work waits for; None where the work offers none."""
        return self._on_kill or (self.interrupts.kill if self.interrupts.used else None)

    # -- the two loops

    def run(self) -> Outcome:
        """Run a plain generator function, or the rollback, to its end or its stop. Never raises."""
        if self._write_line is not None:
            return self._run()
        with output.Captured(self._log):
            return self._run()

    def _run(self) -> Outcome:
        try:
            job = self._job()
            if self.attempt.rollback:
                self._roll_back(job)
                return self._succeeded(None)
            generator = self._running = self.work.function(job)
            self._frame = getattr(generator, "gi_frame", None)
            durable, sink = self.attempt.durable, self._sink
            try:
                while True:
                    try:
                        item = next(generator)
                    except StopIteration as end:
                        self._check_fork()
                        return self._succeeded(end.value)
                    checkpoint = self._checkpoint(item)
                    if durable:
                        sink.commit(self.yields, checkpoint)
                    else:
                        sink.checkpoint(self.yields, checkpoint)
                    if self.stopping is not None:
                        generator.close()
                        return StoppedAttempt()
            finally:
                generator.close()
        except Interrupted as error:
            if self.interrupts.killed or (self.attempt.rollback and self.stopping is None):
                return self._failed(error)
            # At its last yield: if the request was revoked, a new attempt goes on from there. A rollback runs again.
            return StoppedAttempt()
        except BaseException as error:
            return self._failed(error)

    async def run_async(self) -> Outcome:
        """Run an async generator function, or an async rollback, to its end or its stop. Never raises."""
        with output.Captured(self._log):
            return await self._run_async()

    async def _run_async(self) -> Outcome:
        try:
            job = self._job()
            if self.attempt.rollback:
                awaitable = self._roll_back(job)
                if inspect.isawaitable(awaitable):
                    await awaitable
                return self._succeeded(None)
            generator = self._running = self.work.function(job)
            self._frame = getattr(generator, "ag_frame", None)
            durable, sink = self.attempt.durable, self._sink
            turn = time.monotonic()
            try:
                async for item in generator:
                    checkpoint = self._checkpoint(item)
                    if durable:
                        await asyncio.to_thread(sink.commit, self.yields, checkpoint)
                    else:
                        sink.checkpoint(self.yields, checkpoint)
                    if time.monotonic() - turn > _TURN:  # it may never await anything itself
                        await asyncio.sleep(0)
                        turn = time.monotonic()
                    if self.stopping is not None:
                        await generator.aclose()
                        return StoppedAttempt()
                return self._succeeded(job.result)
            finally:
                await generator.aclose()
        except BaseException as error:
            return self._failed(error)

    # -- what both loops share

    def _job(self) -> Job[Any]:
        attempt = self.attempt
        try:
            params = msgspec.json.decode(attempt.params, type=self.work.params)
        except msgspec.ValidationError as error:
            raise _ContractError(f"its parameters no longer fit the work type {self.work.name}: {error}") from None
        read: Callable[[bytes], Any] = msgspec.json.decode
        if self.work.checkpoint is not None:
            try:
                read = self._read_checkpoint = msgspec.json.Decoder(self.work.checkpoint).decode
            except TypeError as error:
                raise _ContractError(f"it declares a checkpoint type that can't be read from JSON: {error}") from None
        checkpoint = None
        if attempt.checkpoint is not None:
            try:
                checkpoint = read(attempt.checkpoint)
            except msgspec.ValidationError as error:
                raise _ContractError(
                    f"its last checkpoint no longer fits the work type {self.work.name}: {error}"
                ) from None
        return Job(
            attempt.own_id,
            params,
            checkpoint,
            attempt=attempt.attempt,
            serial=attempt.serial,
            log=self._log,
            stopping=lambda: self.stopping,
            when_killed=self._when_killed,
            interruptible=self.interrupts,
            services=self._context,
        )

    def _when_killed(self, end: Callable[[], None]) -> None:
        self._on_kill = end

    def _log(self, message: object) -> None:
        text = text_of(message, LONGEST_LINE)
        if self._write_line is not None:
            self._write_line(text)
        else:
            self._sink.log((time.time(), text), wait=not self.work.is_async)

    def _roll_back(self, job: Job[Any]) -> Any:
        return self.work.rollback_function(job) if self.work.rollback_function is not None else None

    def _checkpoint(self, item: object) -> Checkpoint:
        """Return what was yielded as the newest checkpoint. Raises `_ContractError` for what can't be one."""
        if not isinstance(item, Progress):
            raise self._contract_error(f"it yielded {type(item).__name__}. A work type yields holdfast.work.Progress")
        try:
            done, total = _number(item.done), _number(item.total)
        except ValueError as error:
            raise self._contract_error(
                f"it yielded a Progress whose done or total is {error}. Give a number or None"
            ) from None
        note = item.note
        if type(note) is not str or len(note) > LONGEST_NOTE or not note.isascii():
            note = text_of(note, LONGEST_NOTE)
        try:
            checkpoint = as_json(item.checkpoint, "checkpoint")
            if self._read_checkpoint is not None:
                self._read_checkpoint(checkpoint)
        except NotJson as error:
            raise self._contract_error(f"it yielded a checkpoint that is not JSON: {error}", error.path) from None
        except msgspec.ValidationError as error:
            declared = getattr(self.work.checkpoint, "__name__", self.work.checkpoint)
            message = f"it yielded a checkpoint that does not fit the type that it declares, {declared}: {error}"
            raise self._contract_error(message.replace("`$", "`checkpoint")) from None
        if len(checkpoint) > MAX_CHECKPOINT:
            message = f"it yielded a checkpoint of {len(checkpoint)} bytes; at most {MAX_CHECKPOINT} are kept"
            raise self._contract_error(message)
        self._check_fork()
        self.yields += 1
        return Checkpoint(done, total, note, checkpoint)

    def _contract_error(self, message: str, path: str = "") -> _ContractError:
        """Return an error that names the path to the value and the line of the work where it is yielded or returned."""
        line = line_of(self._running, self._frame)
        where = ", ".join(filter(None, (path, line and f"at {line}")))
        return _ContractError(f"{message} ({where})" if where else message)

    def _check_fork(self) -> None:
        """End the child of a fork of the work that came back here: only the parent may report."""
        if os.getpid() != self._pid:
            os._exit(70)

    def _succeeded(self, value: Any) -> Outcome:
        try:
            result = as_json(value, "result")
        except NotJson as error:
            raise self._contract_error(f"it returned a result that is not JSON: {error}", error.path) from None
        if len(result) > MAX_RESULT:
            raise self._contract_error(
                f"it returned a result of {len(result)} bytes; at most {MAX_RESULT} are kept: put it into a file"
            )
        return Succeeded(result)

    def _failed(self, error: BaseException) -> Failed:
        self._check_fork()
        try:
            return self._failure(error)
        except Exception:  # the error is broken, or memory is too short to describe it
            return Failed(type(error).__name__, "it failed, and its error can't be told")

    def _failure(self, error: BaseException) -> Failed:
        name = type(error).__name__
        if isinstance(error, _ContractError):
            return Failed("BadWork", text_of(error, LONGEST_LINE))
        if isinstance(error, SystemExit):
            status = text_of(error.code, LONGEST_LINE)
            message = f"the work called sys.exit({status}). Return, or raise an error"
            return Failed(name, message, trace=text_of(tracebacks.format_error(error), LONGEST_LINE))
        message = text_of(error, LONGEST_LINE)
        retry_on = self.work.retry_on
        if isinstance(error, WorkError):  # retried only where the work type names it or a subclass
            retry_on = tuple(kind for kind in retry_on if issubclass(kind, WorkError))
            return Failed(name, message, isinstance(error, retry_on))
        retry = isinstance(error, Exception) and isinstance(error, retry_on)
        if isinstance(error, RuntimeError) and message.endswith("generator ignored GeneratorExit"):
            message += f": it must not yield again when it is stopped (at {line_of(self._running, self._frame)})"
        return Failed(name, message or name, retry, text_of(tracebacks.format_error(error), LONGEST_LINE))


def _number(value: object) -> float | None:
    """Return a `done` or `total` as a number, None when it is not finite. Raises `ValueError` when it is no number."""
    if value is None:
        return None
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        number = float(value)  # type: ignore[arg-type] # numpy's numbers, Decimal and Fraction can, others raise
    except (TypeError, ValueError, OverflowError):
        shown = text_of(repr(value), 100)
        raise ValueError(shown) from None
    return number if math.isfinite(number) else None
