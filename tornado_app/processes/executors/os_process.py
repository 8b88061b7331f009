"""The place for work that must be killable: an OS process for each attempt, forked from a clean, small server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import multiprocessing.process
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from holdfast.work import Stopping, WorkType
from tornado_app import imports
from tornado_app.processes.executors import child, log_buffer
from tornado_app.processes.executors.driver import LONGEST_LINE, Attempt, Control, Failed, Outcome, text_of
from tornado_app.processes.executors.interface import Ended, Handle
from tornado_app.processes.executors.output import OutputLines
from tornado_app.processes.supervision import claims, supervisor
from tornado_app.processes.supervision.descendants import end_forsaken
from tornado_app.processes.supervision.guard import PID
from tornado_app.processes.work_context import WorkspaceSource
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.places")

_WISH = {wish: letter for letter, wish in child.WISHES.items()}
_LONGEST_REPORT = 8 << 20
_LOOK_FOR_ROOM = 0.02  # seconds
_DEATH = 5.0  # seconds that the kernel of a busy machine may take to end a process, whatever grace work is given
_LAST_REPORTS = 0.5  # seconds without a report after which one that has died had sent no more
_MOST_SAID = 256 * 1024
_decode = msgspec.msgpack.Decoder(child.Report).decode


class ProcessPlace:
    """Forks each attempt from multiprocessing's fork server, which holds no threads, sockets or journal of ours."""

    def __init__(self, settings: Settings, files: WorkspaceSource, module_of: Callable[[str], str]) -> None:
        self._settings = settings
        self._files = files
        self._module_of = module_of
        self._context = multiprocessing.get_context("forkserver")
        # The first of them lets it find the last ones.
        preloaded = [imports.__name__, child.__name__, *files.modules]
        self._context.set_forkserver_preload([*preloaded, *map(imports.module_name, settings.import_)])
        # One thread starts children: the fork server is asked by one at a time, and the loop never waits for it.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="process-starter")
        self._handles: set[_ProcessHandle] = set()

    def launch(self, work: WorkType, attempt: Attempt, control: Control, ended: Ended) -> Handle:
        """Run a plain generator."""
        claim = claims.path_of(self._settings.data_dir, "process", attempt.owner or f"{attempt.id}#{attempt.serial}")
        task = child.Task(attempt, self._module_of(work.name), control.on_yield is not None, str(claim))
        handle = _ProcessHandle(self._context, self._starter, control)
        self._handles.add(handle)

        async def run() -> None:
            try:
                outcome = await handle.run(task, self._settings, self._files.of(attempt.owner))
            except Exception as error:
                log.exception("process %s: its OS process can't be handled", attempt.id)
                outcome = Failed(type(error).__name__, f"its OS process can't be started: {error}", retry=True)
            self._handles.discard(handle)
            ended(outcome)

        handle.task = asyncio.get_running_loop().create_task(run(), name=f"work {attempt.id}")
        return handle

    async def close(self) -> None:
        """Kill what is left: its last safe point is what counts."""
        for handle in list(self._handles):
            handle.signal(signal.SIGKILL)
        tasks = [handle.task for handle in self._handles if handle.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)
        self._starter.shutdown(wait=False)


class _Reports(asyncio.StreamReader):
    """A child that is over before it read all wishes resets the connection: what it said before that counts."""

    def set_exception(self, exc: BaseException) -> None:
        self.feed_eof()


class _ProcessHandle:
    def __init__(
        self, context: multiprocessing.context.ForkServerContext, starter: ThreadPoolExecutor, control: Control
    ) -> None:
        self._context = context
        self._starter = starter
        self._control = control
        self._channel: socket.socket | None = None
        self._guard: socket.socket | None = None
        self._process: multiprocessing.context.ForkServerProcess | None = None
        self._wish: Stopping | None = None
        self._killed_by: signal.Signals | None = None
        self._reports = 0  # signs that reports still come
        self._over = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def run(self, task: child.Task, settings: Settings, files: WorkspaceSource) -> Outcome:
        """Start the child, take its reports, and say how it ended."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        guard, guards = socket.socketpair()
        guard.setblocking(False)
        reader = _Reports()
        try:
            given = (theirs, guards, task, settings, files)
            process = self._context.Process(target=child.main, args=given, daemon=False)
            await loop.run_in_executor(self._starter, _start, process)
            self._process = process
            transport, _ = await loop.create_connection(lambda: asyncio.StreamReaderProtocol(reader), sock=ours)
        except BaseException:
            ours.close()
            guard.close()
            raise
        finally:
            theirs.close()
            guards.close()
        self._channel = ours
        self._guard = guard
        if self._killed_by is not None:  # asked for while it started
            self.signal(self._killed_by)
        self.stop(self._wish)
        try:
            outcome = await self._take_all_reports(reader, process.sentinel)
        except Exception:  # nothing more of it may count, so it must not go on
            log.exception("process %s sent a report that can't be read", task.attempt.id)
            self.signal(signal.SIGKILL)
            outcome = Failed("BadWork", "its process sent a report that can't be read")
        self._channel = None
        transport.close()
        await _readable(process.sentinel)
        process.join()  # at once, now
        await self._until_none_is_left(guard, Path(task.claim))
        self._over.set()
        code = process.exitcode
        process.close()
        return self._verdict(outcome, code)

    async def _until_none_is_left(self, guard: socket.socket, claim: Path) -> None:
        """Wait for the guard's end, which it may be told only now, when it is the fork server that has died."""
        loop = asyncio.get_running_loop()
        self.signal(signal.SIGKILL)
        self._guard = None
        said = bytearray()
        with contextlib.suppress(OSError), contextlib.closing(guard):
            while some := await loop.sock_recv(guard, _MOST_SAID):
                said += some
        pid = PID.unpack(said[: PID.size])[0] if len(said) >= PID.size else None
        await asyncio.to_thread(_end_forsaken, pid, claim)
        last = OutputLines(lambda line: self._control.lines.put_at_once((time.time(), text_of(line, LONGEST_LINE))))
        last.write(said[PID.size :].decode(errors="replace"))
        last.finish()

    async def _take_all_reports(self, reader: asyncio.StreamReader, sentinel: int) -> Outcome | None:
        """Until the child is over or dead. What it forked may hold its end of the channel open after its death."""
        loop = asyncio.get_running_loop()
        dead = asyncio.Event()
        taking = asyncio.create_task(self._take_reports(reader))
        taking.add_done_callback(lambda task: dead.set())
        loop.add_reader(sentinel, dead.set)
        try:
            await dead.wait()
            reports = -1
            while not taking.done() and reports != self._reports:
                reports = self._reports
                await asyncio.wait([taking], timeout=_LAST_REPORTS)
            return await taking if taking.done() else None
        finally:
            loop.remove_reader(sentinel)
            taking.cancel()

    async def _take_reports(self, reader: asyncio.StreamReader) -> Outcome | None:
        """Until the child says that it is over, or goes without a word."""
        while True:
            try:
                (length,) = child.HEADER.unpack(await reader.readexactly(child.HEADER.size))
                if length > _LONGEST_REPORT:
                    self.signal(signal.SIGKILL)
                    return Failed("BadWork", f"its process sent a report of {length} bytes")
                report = _decode(await reader.readexactly(length))
                self._reports += 1
            except (asyncio.IncompleteReadError, OSError):
                return None
            if isinstance(report, child.Over):
                return report.outcome
            if isinstance(report, child.ReportedLines):
                for line in report.lines:
                    if self._control.lines.is_full:
                        await self._room_for_lines()
                    self._control.lines.put_at_once(line)
                continue
            self._control.latest = report.point
            self._control.yields = report.yields
            if report.durable and self._control.on_yield is not None:
                await asyncio.to_thread(self._control.on_yield, self._control)
                self._say(child.ACK)

    async def _room_for_lines(self) -> None:
        """While nothing is read, the child has to wait."""
        until = time.monotonic() + log_buffer.PATIENCE
        while self._control.lines.is_full and time.monotonic() < until:
            self._reports += 1
            await asyncio.sleep(_LOOK_FOR_ROOM)

    def _verdict(self, outcome: Outcome | None, code: int | None) -> Outcome:
        if outcome is not None:
            return outcome
        if self._killed_by is not None:
            return Failed("Killed", f"it was killed with {self._killed_by.name}")
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = "; the kernel does so when memory runs out" if code == -signal.SIGKILL else ""
            return Failed("ProcessDied", f"its process was ended by {name}{hint}", retry=True)
        return Failed("ProcessDied", f"its process ended by itself with exit status {code}", retry=True)

    def stop(self, why: Stopping | None) -> None:
        self._wish = self._control.stopping = why
        self._say(_WISH[why])

    def _say(self, letter: bytes) -> None:
        # Not through the transport: when a write of that fails it reads no more, and the last words are lost.
        if self._channel is not None:
            with contextlib.suppress(OSError):  # it is over, and says so
                self._channel.send(letter)

    def signal(self, number: signal.Signals) -> None:
        """Send SIGTERM or SIGKILL to the child and all that it started."""
        if self._guard is not None:
            with contextlib.suppress(OSError):  # it is over
                self._guard.send(supervisor.TERMINATE if number == signal.SIGTERM else supervisor.KILL)

    async def kill(self, grace: float) -> str | None:
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, max(grace, _DEATH))):
            self._killed_by = number
            self.signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._over.wait()
                return None
        return "its OS process does not end, not even by SIGKILL: the kernel holds it"


def _end_forsaken(pid: int | None, claim: Path) -> None:
    """End what the work has started when the guard was killed itself, and could not."""
    if claim.exists():
        end_forsaken(pid, claims.marker(claim))
        claims.drop(claim)


def _start(process: multiprocessing.context.ForkServerProcess) -> None:
    process.start()
    # Whenever one is started, multiprocessing looks in that thread which others have ended. How one has ended can be
    # read only once, and is for the loop to read: else a signal is now and then told as "exit status 255".
    multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]


async def _readable(fd: int) -> None:
    """Wait until there is something to read from a file descriptor."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
