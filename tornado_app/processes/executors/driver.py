"""Drives one attempt of a process: the same in a thread, in an OS process and on the loop.

A work type is a generator; the driver takes what it yields, and at each yield either goes on or closes the generator.
Only its two loops, sync and async, know how to wait; everything that is decided is decided once.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

import msgspec

from holdfast.work import MAX_CHECKPOINT, Interrupted, Job, Progress, Services, Stopping, WorkError, WorkType
from holdfast.work._values import NotJson, as_json, line_of
from tornado_app.processes.executors import output, tracebacks
from tornado_app.processes.executors.interrupts import Interrupts
from tornado_app.processes.executors.log_buffer import LogBuffer

MAX_RESULT = 4 << 20
"""Most bytes of a result as JSON."""

LONGEST_NOTE = 1000
LONGEST_LINE = output.LONGEST
"""Most characters of a note, and of a log line, an error message or a traceback; what is longer loses its middle."""

_TURN = 0.005  # seconds that an async generator may hold the loop by yielding without awaiting


class Attempt(msgspec.Struct, frozen=True):
    """What a place needs to run one attempt; `params` and `checkpoint` are JSON. `undo` asks for the rollback.

    `serial` is what no other process of any journal ever has; `owner` stands for it in the files directory.
    """

    id: str
    work_type: str
    attempt: int
    params: bytes
    checkpoint: bytes | None = None
    undo: bool = False
    code: bytes | None = None
    serial: str = ""
    owner: str = ""


class Yielded(NamedTuple):
    """The newest safe point, with the checkpoint as JSON at the moment of the yield: later mutation can't change it."""

    done: float | None
    total: float | None
    note: str
    checkpoint: bytes


class StoppedAttempt(msgspec.Struct, frozen=True, tag_field="outcome", tag=True):
    """The generator was closed at a yield because it was asked to."""


class Succeeded(msgspec.Struct, frozen=True, tag_field="outcome", tag=True):
    """The generator returned; `result` is JSON."""

    result: bytes


class Failed(msgspec.Struct, frozen=True, tag_field="outcome", tag=True):
    """The attempt raised. `retry` says that its work type thinks another attempt may do better."""

    type: str
    message: str
    retry: bool = False
    trace: str = ""


Outcome = StoppedAttempt | Succeeded | Failed


class Control:
    """What the engine and one attempt share: a wish to stop going in, the newest safe point coming out.

    Plain attributes, each written by one side and read by the other; the interpreter makes each access atomic.
    """

    __slots__ = ("interrupts", "latest", "lines", "on_kill", "on_yield", "stopping", "yields")

    def __init__(self, on_yield: Callable[[Control], None] | None = None) -> None:
        self.stopping: Stopping | None = None
        self.interrupts = Interrupts()
        self.on_kill: Callable[[], None] | None = None
        self.latest: Yielded | None = None
        self.yields = 0
        self.on_yield = on_yield
        self.lines = LogBuffer()

    def stop(self, why: Stopping | None) -> None:
        """Ask the work to stop, and interrupt what it waits for; None revokes that. From any thread."""
        self.stopping = why
        self.interrupts.stop(why is not None)


class _Fault(Exception):
    """The work type broke the contract; the message says how."""


class Drive:
    """One attempt of one process."""

    def __init__(
        self,
        work: WorkType,
        attempt: Attempt,
        control: Control,
        services: Services | None = None,
        say: output.Say | None = None,
    ) -> None:
        """`say` takes the lines of a place that hears all that the work prints; others are heard by their context."""
        self.work = work
        self.attempt = attempt
        self.control = control
        self._services = services
        self._say = say
        self._pid = os.getpid()
        self._read_checkpoint: Callable[[bytes], Any] | None = None
        self._running: Any = None  # the generator, and its frame, which outlives it
        self._frame: FrameType | None = None

    # -- the two loops

    def run(self) -> Outcome:
        """Run a plain generator function, or the rollback, to its end or its stop. Never raises."""
        if self._say is not None:
            return self._run()
        with output.spoken_by(self._log):
            return self._run()

    def _run(self) -> Outcome:
        control = self.control
        try:
            job = self._job()
            if self.attempt.undo:
                self._undo(job)
                return self._succeeded(None)
            generator = self._running = self.work.function(job)
            self._frame = getattr(generator, "gi_frame", None)
            try:
                while True:
                    try:
                        item = next(generator)
                    except StopIteration as end:
                        self._check_fork()
                        return self._succeeded(end.value)
                    self._take(item)
                    if control.on_yield is not None:
                        control.on_yield(control)
                    if control.stopping is not None:
                        generator.close()
                        return StoppedAttempt()
            finally:
                generator.close()
        except Interrupted as error:
            if not control.interrupts.killed and not self.attempt.undo:
                return (
                    StoppedAttempt()
                )  # as if at its last yield; if that was revoked meanwhile, it is begun again from there
            return self._failed(error)
        except BaseException as error:
            return self._failed(error)

    async def run_async(self) -> Outcome:
        """Run an async generator function, or an async rollback, likewise."""
        with output.spoken_by(self._log):
            return await self._run_async()

    async def _run_async(self) -> Outcome:
        control = self.control
        try:
            job = self._job()
            if self.attempt.undo:
                undone = self._undo(job)
                if inspect.isawaitable(undone):
                    await undone
                return self._succeeded(None)
            generator = self._running = self.work.function(job)
            self._frame = getattr(generator, "ag_frame", None)
            turn = time.monotonic()
            try:
                async for item in generator:
                    self._take(item)
                    if time.monotonic() - turn > _TURN:  # it may never await anything itself
                        await asyncio.sleep(0)
                        turn = time.monotonic()
                    if control.on_yield is not None:  # it may wait for the disk
                        await asyncio.to_thread(control.on_yield, control)
                    if control.stopping is not None:
                        await generator.aclose()
                        return StoppedAttempt()
                return self._succeeded(job.result)
            finally:
                await generator.aclose()
        except BaseException as error:
            return self._failed(error)

    # -- what is decided

    def _job(self) -> Job[Any]:
        attempt, control = self.attempt, self.control

        def when_killed(end: Callable[[], None]) -> None:
            control.on_kill = end

        try:
            params = msgspec.json.decode(attempt.params, type=self.work.params)
        except msgspec.ValidationError as error:
            raise _Fault(f"its parameters no longer fit the work type {self.work.name}: {error}") from None
        read: Callable[[bytes], Any] = msgspec.json.decode
        if self.work.checkpoint is not None:
            try:
                read = self._read_checkpoint = msgspec.json.Decoder(self.work.checkpoint).decode
            except TypeError as error:
                raise _Fault(f"it declares a checkpoint type that can't be read from JSON: {error}") from None
        checkpoint = None
        if attempt.checkpoint is not None:
            try:
                checkpoint = read(attempt.checkpoint)
            except msgspec.ValidationError as error:
                raise _Fault(f"its last checkpoint no longer fits the work type {self.work.name}: {error}") from None
        return Job(
            attempt.id,
            params,
            checkpoint,
            attempt=attempt.attempt,
            serial=attempt.serial,
            log=self._log,
            stopping=lambda: control.stopping,
            when_killed=when_killed,
            interruptible=control.interrupts,
            services=self._services,
        )

    def _log(self, message: object) -> None:
        text, lines = text_of(message, LONGEST_LINE), self.control.lines
        if self._say is not None:
            self._say(text)
        elif self.work.is_async:
            lines.put_at_once((time.time(), text))
        else:
            lines.put(text)

    def _undo(self, job: Job[Any]) -> Any:
        return self.work.undo(job) if self.work.undo is not None else None

    def _take(self, item: object) -> None:
        """What was yielded is the newest safe point."""
        if not isinstance(item, Progress):
            raise self._fault(f"it yielded {type(item).__name__}; a work type yields holdfast.work.Progress")
        try:
            done, total = _number(item.done), _number(item.total)
        except ValueError as error:
            raise self._fault(f"it yielded a Progress whose done or total is {error}; give a number or None") from None
        note = item.note
        if type(note) is not str or len(note) > LONGEST_NOTE or not note.isascii():
            note = text_of(note, LONGEST_NOTE)
        try:
            checkpoint = as_json(item.checkpoint, "checkpoint")
            if self._read_checkpoint is not None:
                self._read_checkpoint(checkpoint)
        except NotJson as error:
            raise self._fault(f"it yielded a checkpoint that is not JSON: {error}", error.path) from None
        except msgspec.ValidationError as error:
            declared = getattr(self.work.checkpoint, "__name__", self.work.checkpoint)
            message = f"it yielded a checkpoint that does not fit the type that it declares, {declared}: {error}"
            raise self._fault(message.replace("`$", "`checkpoint")) from None
        if len(checkpoint) > MAX_CHECKPOINT:
            message = f"it yielded a checkpoint of {len(checkpoint)} bytes; at most {MAX_CHECKPOINT} are kept"
            raise self._fault(message)
        self._check_fork()
        control = self.control
        control.latest = Yielded(done, total, note, checkpoint)
        control.yields += 1

    def _fault(self, message: str, path: str = "") -> _Fault:
        """The work's mistake, with the way to the value and the line where it is yielded or returned."""
        line = line_of(self._running, self._frame)
        where = ", ".join(filter(None, (path, line and f"at {line}")))
        return _Fault(f"{message} ({where})" if where else message)

    def _check_fork(self) -> None:
        """Work that forked and let its child come back here: only the parent may report."""
        if os.getpid() != self._pid:
            os._exit(70)

    def _succeeded(self, value: Any) -> Outcome:
        try:
            result = as_json(value, "result")
        except NotJson as error:
            raise self._fault(f"it returned a result that is not JSON: {error}", error.path) from None
        if len(result) > MAX_RESULT:
            raise self._fault(
                f"it returned a result of {len(result)} bytes; at most {MAX_RESULT} are kept: put it into a file"
            )
        return Succeeded(result)

    def _failed(self, error: BaseException) -> Failed:
        self._check_fork()
        try:
            return self._failure(error)
        except Exception:  # an error so broken, or memory so short, that it can't be told in full
            return Failed(type(error).__name__, "it failed, and its error can't be told")

    def _failure(self, error: BaseException) -> Failed:
        name = type(error).__name__
        if isinstance(error, _Fault):
            return Failed("BadWork", text_of(error, LONGEST_LINE))
        if isinstance(error, SystemExit):
            said = text_of(error.code, LONGEST_LINE)
            message = f"the work called sys.exit({said}); return, or raise an error"
            return Failed(name, message, trace=text_of(tracebacks.shown(error), LONGEST_LINE))
        message = text_of(error, LONGEST_LINE)
        retry_on = self.work.retry_on
        if isinstance(error, WorkError):  # "cannot go on", so worth another attempt only where its type says so by name
            retry_on = tuple(kind for kind in retry_on if issubclass(kind, WorkError))
            return Failed(name, message, isinstance(error, retry_on))
        retry = isinstance(error, Exception) and isinstance(error, retry_on)
        if isinstance(error, RuntimeError) and message.endswith("generator ignored GeneratorExit"):
            message += f": it must not yield again when it is stopped (at {line_of(self._running, self._frame)})"
        return Failed(name, message or name, retry, text_of(tracebacks.shown(error), LONGEST_LINE))


def text_of(value: object, most: int) -> str:
    """A value as text that UTF-8 can carry, lone surrogates escaped; what is longer than `most` loses its middle."""
    try:
        text = str(value)
    except Exception as error:
        text = f"a {type(value).__name__} whose text can't be made: {type(error).__name__}"
    if len(text) > most:
        text = f"{text[: most // 2]} [...] {text[-(most // 2) :]}"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


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
