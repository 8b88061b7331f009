"""Executor that runs each attempt in an OS process of its own, which can be killed; forked from a clean server."""

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

from holdfast.work import Stopping
from tornado_app import imports, problems
from tornado_app.processes.executors import child, log_buffer
from tornado_app.processes.executors.attempt import LONGEST_LINE, Attempt, Failed, Outcome, text_of
from tornado_app.processes.executors.interface import AttemptHandle, AttemptSink
from tornado_app.processes.executors.output import OutputLines
from tornado_app.processes.supervision import claims, supervisor
from tornado_app.processes.supervision.descendants import end_orphans
from tornado_app.processes.supervision.guard import PID
from tornado_app.processes.work_context import UserWork, WorkSettings, WorkspaceSource
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.executors")

_LETTER = {why: letter for letter, why in child.STOP_REQUESTS.items()}
_LONGEST_REPORT = 8 << 20
_POLL_ROOM = 0.02  # seconds
_DEATH = 5.0  # seconds that the kernel of a busy machine may take to end a process, whatever grace work is given
_LAST_REPORTS = 0.5  # seconds without a report after the death of a child: then it had sent no more
_MOST_LEFT = 256 * 1024
_decode = msgspec.msgpack.Decoder(child.Report).decode


class OSProcessExecutor:
    """Forks each attempt from multiprocessing's fork server, which has no threads, sockets or journal of the server."""

    runs_async = False

    def __init__(
        self,
        settings: Settings,
        files: WorkspaceSource,
        module_of: Callable[[str], str],
        for_user: Callable[[str], UserWork] | None = None,
    ) -> None:
        """`module_of` names the module that declares a work type. `for_user` as in `WorkContext`."""
        self._data_dir = settings.data_dir
        self._kill_grace = settings.kill_grace
        self._work_settings = WorkSettings.of(settings)
        self._files = files
        self._for_user = for_user
        self._module_of = module_of
        self._loop = asyncio.get_running_loop()
        self._context = multiprocessing.get_context("forkserver")
        # The first of them makes the last ones importable.
        preloaded = [imports.__name__, child.__name__, *files.modules]
        self._context.set_forkserver_preload([*preloaded, *map(imports.module_name, settings.import_)])
        # One thread starts children: the fork server serves one request at a time, and the loop must not block.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="process-starter")
        self._handles: set[OSProcessHandle] = set()

    def check_usable(self) -> None:
        """See `Executor`."""
        self._files.description()  # raises where no other process can open the files

    def launch(self, attempt: Attempt, sink: AttemptSink) -> AttemptHandle:
        """See `Executor`."""
        handle = OSProcessHandle(self._context, self._starter, self.task_of(attempt), sink)
        self._handles.add(handle)
        handle.task = self._loop.create_task(self._run(handle), name=f"work {attempt.id}")
        return handle

    def task_of(self, attempt: Attempt) -> child.ChildTask:
        """Return what is sent to the child for an attempt."""
        owner = attempt.owner
        claim = claims.path_of(self._data_dir, "process", owner or f"{attempt.id}#{attempt.serial}")
        module = self._module_of(attempt.work_type)
        settings, files = self._work_settings, self._files
        if attempt.user and self._for_user is not None:
            settings, files = self._for_user(attempt.user)
        return child.ChildTask(attempt, module, str(claim), self._kill_grace, settings, files.of(owner))

    async def _run(self, handle: OSProcessHandle) -> None:
        try:
            self.check_usable()  # an earlier server may have started the process on another file store
            outcome = await handle.run()
        except problems.ProblemError as error:
            outcome = Failed("PlaceUnavailable", error.detail)
        except Exception as error:
            log.exception("process %s: its OS process can't be handled", handle.id)
            outcome = Failed(type(error).__name__, f"its OS process can't be started: {error}", retry=True)
        self._handles.discard(handle)
        handle.end(outcome)

    async def close(self) -> None:
        """Kill the children that are left."""
        for handle in list(self._handles):
            handle.signal(signal.SIGKILL)
        tasks = [handle.task for handle in self._handles]
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)
        self._starter.shutdown(wait=False)


class _Reports(asyncio.StreamReader):
    """Stream whose errors are an end: a child that ends before it reads all requests resets the connection."""

    def set_exception(self, exc: BaseException) -> None:
        self.feed_eof()


class OSProcessHandle:
    """An attempt in an OS process."""

    task: asyncio.Task[None]

    def __init__(
        self,
        context: multiprocessing.context.ForkServerContext,
        starter: ThreadPoolExecutor,
        task: child.ChildTask,
        sink: AttemptSink,
    ) -> None:
        self.id = task.attempt.id
        self._context = context
        self._starter = starter
        self._child_task = task
        self._sink = sink
        self._channel: socket.socket | None = None
        self._guard: socket.socket | None = None
        self._stop_request: Stopping | None = None
        self._killed_by: signal.Signals | None = None
        self._reports = 0  # grows while reports still come
        self._gone = asyncio.Event()  # nothing is left of the OS process
        self._is_alive = True
        self.pid: int | None = None  # of the process that guards the work, once it has started

    @property
    def is_alive(self) -> bool:
        return self._is_alive

    def end(self, outcome: Outcome) -> None:
        """Report the end of the attempt."""
        self._is_alive = False
        self._sink.ended(outcome)

    async def run(self) -> Outcome:
        """Start the child, take its reports, and return how it ended."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        guard, guards = socket.socketpair()
        guard.setblocking(False)
        reader = _Reports()
        try:
            arguments = (theirs, guards, self._child_task)
            process = self._context.Process(target=child.main, args=arguments, daemon=False)
            await loop.run_in_executor(self._starter, _start, process)
            self.pid = process.pid
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
        if self._killed_by is not None:  # requested while it started
            self.signal(self._killed_by)
        self.request_stop(self._stop_request)
        try:
            outcome = await self._take_all_reports(reader, process.sentinel)
        except Exception:  # no later report may count, so the child must end
            log.exception("process %s sent a report that can't be read", self.id)
            self.signal(signal.SIGKILL)
            outcome = Failed("BadWork", "its process sent a report that can't be read")
        self._channel = None
        transport.close()
        await _readable(process.sentinel)
        process.join()  # returns at once
        await self._wait_until_all_ended(guard, Path(self._child_task.claim))
        self._gone.set()
        code = process.exitcode
        process.close()
        return outcome or self._outcome_of_death(code)

    async def _wait_until_all_ended(self, guard: socket.socket, claim: Path) -> None:
        """Wait for the guard's end. After the death of the fork server the guard gets the request to end only here."""
        loop = asyncio.get_running_loop()
        self.signal(signal.SIGKILL)
        self._guard = None
        data = bytearray()
        with contextlib.suppress(OSError), contextlib.closing(guard):
            while piece := await loop.sock_recv(guard, _MOST_LEFT):
                data += piece
        pid = PID.unpack(data[: PID.size])[0] if len(data) >= PID.size else None
        await asyncio.to_thread(_end_orphans, pid, claim)
        rest = OutputLines(lambda line: self._sink.log((time.time(), text_of(line, LONGEST_LINE)), wait=False))
        rest.write(data[PID.size :].decode(errors="replace"))
        rest.finish()

    async def _take_all_reports(self, reader: asyncio.StreamReader, sentinel: int) -> Outcome | None:
        """Take reports until the child ends or dies. What it forked may hold its end of the channel open after that."""
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
        """Take reports until the child reports its end (returned), or dies without one (None)."""
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
            if isinstance(report, child.ReportedEnd):
                return report.outcome
            if isinstance(report, child.ReportedLines):
                for line in report.lines:
                    if not self._sink.has_room():
                        await self._wait_for_room()
                    self._sink.log(line, wait=False)
            elif report.commit:
                await asyncio.to_thread(self._sink.commit, report.yields, report.checkpoint)
                self._send(child.COMMITTED)
            else:
                self._sink.checkpoint(report.yields, report.checkpoint)

    async def _wait_for_room(self) -> None:
        """Read nothing while there is no room for log lines, so that the child has to wait."""
        until = time.monotonic() + log_buffer.PATIENCE
        while not self._sink.has_room() and time.monotonic() < until:
            self._reports += 1
            await asyncio.sleep(_POLL_ROOM)

    def _outcome_of_death(self, code: int | None) -> Outcome:
        """Return the outcome of a child that ended without reporting one."""
        if self._killed_by is not None:
            return Failed("Killed", f"it was killed with {self._killed_by.name}")
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = "; the kernel does so when memory runs out" if code == -signal.SIGKILL else ""
            return Failed("ProcessDied", f"its process was ended by {name}{hint}", retry=True)
        return Failed("ProcessDied", f"its process ended by itself with exit status {code}", retry=True)

    def request_stop(self, why: Stopping | None) -> None:
        self._stop_request = why
        self._send(_LETTER[why])

    def _send(self, letter: bytes) -> None:
        # Not through the transport: when one of its writes fails it reads no more, and the last reports are lost.
        if self._channel is not None:
            with contextlib.suppress(OSError):  # the child has ended
                self._channel.send(letter)

    def signal(self, number: signal.Signals) -> None:
        """Send SIGTERM or SIGKILL to the child and all that it started."""
        if self._guard is not None:
            with contextlib.suppress(OSError):  # the guard has ended
                self._guard.send(supervisor.TERMINATE if number == signal.SIGTERM else supervisor.KILL)

    async def kill(self, grace: float) -> str | None:
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, max(grace, _DEATH))):
            self._killed_by = number
            self.signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._gone.wait()
                return None
        return "its OS process does not end, not even by SIGKILL: the kernel holds it"


def _end_orphans(pid: int | None, claim: Path) -> None:
    """End what the work has started when the guard was killed and could not do it."""
    if claim.exists():
        end_orphans(pid, claims.marker(claim))
        claims.drop(claim)


def _start(process: multiprocessing.context.ForkServerProcess) -> None:
    process.start()
    # At each start multiprocessing polls, in that thread, which other children have ended. The exit status can be read
    # only once and must be read on the loop: else a signal is now and then reported as "exit status 255".
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
