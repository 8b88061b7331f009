"""Executor that stands for a cluster: it talks in pickled messages, and runs each task twice, as clusters may."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

from holdfast.work import Stopping
from tornado_app.processes.executors.attempt import Attempt, Checkpoint, Failed, Line
from tornado_app.processes.executors.driver import AttemptDriver
from tornado_app.processes.executors.interface import AttemptHandle, AttemptSink, FindWork


class RemoteExecutor:
    """Runs attempts in threads that share nothing with the server but bytes."""

    runs_async = False

    def __init__(self, find_work: FindWork) -> None:
        self._find_work = find_work
        self._loop = asyncio.get_running_loop()
        self._handles: list[RemoteHandle] = []

    def check_usable(self) -> None:
        """Any attempt can run here."""

    def launch(self, attempt: Attempt, sink: AttemptSink) -> AttemptHandle:
        """Send the attempt away, twice."""
        handle = RemoteHandle(sink)
        self._handles.append(handle)
        for run in ("first", "second"):
            task = _Task(pickle.dumps(attempt), run, self._loop, handle)
            threading.Thread(target=task.run, args=(self._find_work,), daemon=True).start()
        return handle

    async def close(self) -> None:
        """Forget what still runs."""
        for handle in self._handles:
            handle.request_stop("shutdown")


class RemoteHandle:
    """The server's side of one attempt. Counts the runs that were refused."""

    def __init__(self, sink: AttemptSink) -> None:
        self._sink = sink
        self._task: _Task | None = None
        self._stop: Stopping | None = None
        self.is_alive = True
        self.refused = 0

    def take(self, task: _Task, message: bytes) -> None:
        """Take a message of a task; called on the event loop."""
        kind, *values = pickle.loads(message)
        if kind == "begin":
            may_begin = self._sink.begin(*values)
            self.refused += not may_begin
            self._task = task if may_begin else self._task
            task.reply(may_begin)
            task.request_stop(self._stop)
        elif kind == "checkpoint":
            self._sink.checkpoint(*values)
        elif kind == "commit":
            committing = asyncio.get_running_loop().run_in_executor(None, self._sink.commit, *values)
            committing.add_done_callback(lambda done: task.reply(True))
        elif kind == "log":
            self._sink.log(*values, wait=False)
        else:
            self.is_alive = False
            self._sink.ended(*values)

    def request_stop(self, why: Stopping | None) -> None:
        """Send the request to the run that was let begin."""
        self._stop = why
        if self._task is not None:
            self._task.request_stop(why)

    async def kill(self, grace: float) -> str | None:
        """Say that it can't be done."""
        return "this cluster can't kill: cancel it and wait for its next yield"


class _Task:
    """The far side of one run."""

    def __init__(self, attempt: bytes, run: str, loop: asyncio.AbstractEventLoop, handle: RemoteHandle) -> None:
        self._attempt = attempt
        self._run = run
        self._loop = loop
        self._handle = handle
        self._replied = threading.Event()
        self._reply = False
        self._driver: AttemptDriver | None = None

    def reply(self, value: bool) -> None:
        self._reply = value
        self._replied.set()

    def request_stop(self, why: Stopping | None) -> None:
        if self._driver is not None:
            self._driver.request_stop(why)

    def run(self, find_work: FindWork) -> None:
        attempt: Attempt = pickle.loads(self._attempt)
        work = find_work(attempt.work_type)
        assert work is not None
        self._driver = AttemptDriver(work, attempt, self)
        if self._ask("begin", self._run):
            self._send("ended", self._driver.run())

    def checkpoint(self, yields: int, checkpoint: Checkpoint) -> None:
        self._send("checkpoint", yields, checkpoint)

    def commit(self, yields: int, checkpoint: Checkpoint) -> None:
        self._ask("commit", yields, checkpoint)

    def log(self, line: Line, *, wait: bool) -> None:
        self._send("log", line)

    def _ask(self, *message: Any) -> bool:
        self._replied.clear()
        self._send(*message)
        return self._replied.wait(30) and self._reply

    def _send(self, *message: Any) -> None:
        try:
            packed = pickle.dumps(message)
        except Exception as error:
            packed = pickle.dumps(("ended", Failed(type(error).__name__, str(error))))
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._handle.take, self, packed)
