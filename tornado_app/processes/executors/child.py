"""Child side of an attempt in an OS process of its own, and the messages between the two sides.

The work runs in the main thread of a child of the process that was started, so that signals reach it there. One more
thread listens to the server and one sends the newest reports. The process that was started guards the work, and ends
when nothing is left that the work has started (`guard`).
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import msgspec

from holdfast.work import Stopping, WorkType
from tornado_app import settings
from tornado_app.processes import sent_code
from tornado_app.processes.executors import tracebacks
from tornado_app.processes.executors.attempt import (
    LONGEST_LINE,
    Attempt,
    Checkpoint,
    Failed,
    Line,
    Outcome,
    text_of,
)
from tornado_app.processes.executors.driver import AttemptDriver
from tornado_app.processes.executors.log_buffer import LogBuffer
from tornado_app.processes.executors.output import ProcessOutput, log_in_process
from tornado_app.processes.supervision import claims
from tornado_app.processes.supervision.guard import guard
from tornado_app.processes.work_context import WorkContext, WorkSettings, WorkspaceSource

HEADER = struct.Struct("!I")
_FLUSH = 0.05  # seconds between reports of progress
_MOST_LINES = 100  # in one report


class ReportedCheckpoint(msgspec.Struct, tag=True):
    """The newest checkpoint, after that many yields. With `commit` the child waits for `COMMITTED`."""

    yields: int
    checkpoint: Checkpoint
    commit: bool = False


class ReportedLines(msgspec.Struct, tag=True):
    """Log lines."""

    lines: list[Line]


class ReportedEnd(msgspec.Struct, tag=True):
    """The end of the attempt; nothing follows."""

    outcome: Outcome


Report = ReportedCheckpoint | ReportedLines | ReportedEnd

STOP_REQUESTS: dict[bytes, Stopping | None] = {b"p": "pause", b"c": "cancel", b"s": "shutdown", b"n": None}
COMMITTED = b"a"


class ChildTask(msgspec.Struct, frozen=True):
    """All that the server hands to the child: `module` declares the work type, `claim` is a path of `claims`."""

    attempt: Attempt
    module: str
    claim: str
    kill_grace: float
    settings: WorkSettings
    files: WorkspaceSource


def main(channel: socket.socket, control: socket.socket, task: ChildTask) -> None:
    """Run one attempt and report to `channel`; `control` is the guard's. The process ends with the attempt."""
    _remove_secrets()
    os.setsid()
    read, write = os.pipe()
    guard(control, channel, read, Path(task.claim), task.kill_grace)
    os.environ[claims.VARIABLE] = task.claim
    _Child(channel, task, (read, write)).run()
    os._exit(0)  # not through the forked interpreter's own exit handlers


def _remove_secrets() -> None:
    """Remove the server's flags, and the variables of its secret settings: work has its own way to the databases."""
    del sys.argv[1:]
    for name in settings.secret_variables():
        os.environ.pop(name, None)


class _Child:
    """Report sink of the driver: it keeps the newest checkpoint and the log lines until they are sent."""

    def __init__(self, channel: socket.socket, task: ChildTask, pipe: tuple[int, int]) -> None:
        self._channel = channel
        self._task = task
        self._context = WorkContext(task.settings, task.files)
        self._driver: AttemptDriver | None = None
        self._stop_request: Stopping | None = None
        self._stop_lock = threading.Lock()
        self._newest: tuple[int, Checkpoint] | None = None
        self._lines = LogBuffer()
        self._sent: tuple[int, Checkpoint] | None = None
        self._sending = threading.RLock()
        self._committed = threading.Event()
        self._output = ProcessOutput(*pipe, self._put_line, self._flush)
        log_in_process(self._output)

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._flush_forever, daemon=True).start()
        outcome = self._outcome()
        self._output.finish()
        self._flush()
        self._send(ReportedEnd(outcome))
        self._channel.close()

    def _outcome(self) -> Outcome:
        attempt = self._task.attempt
        try:
            work = load_work(attempt, self._task.module)
        except BaseException as error:
            message = f"its code can't be loaded in a process of its own: {error}"
            return Failed(type(error).__name__, message, trace=text_of(tracebacks.format_error(error), LONGEST_LINE))
        driver = AttemptDriver(work, attempt, self, self._context, self._output.write_line)
        with self._stop_lock:
            self._driver = driver
            driver.request_stop(self._stop_request)
        return driver.run()

    # -- reports of the driver

    def checkpoint(self, yields: int, checkpoint: Checkpoint) -> None:
        self._newest = (yields, checkpoint)

    def commit(self, yields: int, checkpoint: Checkpoint) -> None:
        self._committed.clear()
        self._newest = self._sent = (yields, checkpoint)
        self._send(ReportedCheckpoint(yields, checkpoint, commit=True))
        self._committed.wait()

    def log(self, line: Line, *, wait: bool) -> None:
        self._lines.put(line, wait=wait)

    def _put_line(self, text: str) -> None:
        self._lines.put((time.time(), text_of(text, LONGEST_LINE)), wait=True)

    # -- messages to and from the server

    def _listen(self) -> None:
        while True:
            try:
                letter = self._channel.recv(1)
            except OSError:
                letter = b""
            if letter == COMMITTED:
                self._committed.set()
            elif letter:
                self._request_stop(STOP_REQUESTS[letter])
            else:  # the server is gone: end ourselves, and what we started
                os.killpg(0, signal.SIGKILL)

    def _request_stop(self, why: Stopping | None) -> None:
        with self._stop_lock:
            self._stop_request = why
            if self._driver is not None:
                self._driver.request_stop(why)

    def _flush_forever(self) -> None:
        while True:
            time.sleep(_FLUSH)
            self._flush()

    def _flush(self) -> None:
        with self._sending:  # reports are sent in the order in which they are taken
            while lines := self._lines.take(_MOST_LINES):
                self._send(ReportedLines(lines))
            newest = self._newest
            if newest is not None and newest is not self._sent:
                self._sent = newest
                self._send(ReportedCheckpoint(*newest))

    def _send(self, report: Report) -> None:
        body = msgspec.msgpack.encode(report)
        with self._sending:
            try:
                self._channel.sendall(HEADER.pack(len(body)) + body)
            except OSError:
                os.killpg(0, signal.SIGKILL)


def load_work(attempt: Attempt, module_name: str) -> WorkType:
    """Return the work type of an attempt, from its code or its module. Raises `LookupError` when it is not there."""
    if attempt.code is not None:
        return sent_code.load(attempt.code)
    module = importlib.import_module(module_name)
    for value in vars(module).values():
        if isinstance(value, WorkType) and value.name == attempt.work_type:
            return value
    raise LookupError(f"module {module_name} has no work type {attempt.work_type!r}")
