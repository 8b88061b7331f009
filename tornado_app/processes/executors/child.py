"""An attempt in an OS process of its own: what runs on the child's side, and what the two sides say to each other.

The work runs in the main thread of a child of the process that was started, so that signals meet it there. Beside it
one thread listens to the server and one sends what is newest. The process that was started guards it, and ends when
nothing is left that the work has started (`guard`).
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import struct
import threading
import time
from pathlib import Path

import msgspec

from holdfast.work import Stopping, WorkType
from tornado_app.processes import sent_code
from tornado_app.processes.executors import tracebacks
from tornado_app.processes.executors.driver import (
    LONGEST_LINE,
    Attempt,
    Control,
    Drive,
    Failed,
    Outcome,
    Yielded,
    text_of,
)
from tornado_app.processes.executors.log_buffer import Line
from tornado_app.processes.executors.output import ProcessOutput, log_in_process
from tornado_app.processes.supervision import claims
from tornado_app.processes.supervision.guard import guard
from tornado_app.processes.work_context import WorkContext, WorkspaceSource
from tornado_app.settings import Settings

HEADER = struct.Struct("!I")
_FLUSH = 0.05  # seconds between reports of progress
_MOST_LINES = 100  # in one report


class Newest(msgspec.Struct, tag=True):
    """The newest safe point, after that many yields. With `durable` the child waits for ACK before it goes on."""

    yields: int
    point: Yielded
    durable: bool = False


class ReportedLines(msgspec.Struct, tag=True):
    """Log lines."""

    lines: list[Line]


class Over(msgspec.Struct, tag=True):
    """The attempt is over; nothing follows."""

    outcome: Outcome


Report = Newest | ReportedLines | Over

WISHES: dict[bytes, Stopping | None] = {b"p": "pause", b"c": "cancel", b"s": "shutdown", b"n": None}
ACK = b"a"


class Task(msgspec.Struct):
    """Task that the parent hands over at the start: `module` declares the work type, `claim` is a path of `claims`."""

    attempt: Attempt
    module: str
    durable: bool
    claim: str


def main(
    channel: socket.socket, control: socket.socket, task: Task, settings: Settings, files: WorkspaceSource
) -> None:
    """Run one attempt and report to `channel`; `control` is the guard's. The process ends with it."""
    os.setsid()
    read, write = os.pipe()
    guard(control, channel, read, Path(task.claim), settings.kill_grace)
    os.environ[claims.VARIABLE] = task.claim
    _Child(channel, task, WorkContext(settings, files), (read, write)).run()
    os._exit(0)  # not through the forked interpreter's own exit handlers


class _Child:
    def __init__(self, channel: socket.socket, task: Task, services: WorkContext, pipe: tuple[int, int]) -> None:
        self._channel = channel
        self._task = task
        self._services = services
        self._control = Control()
        if task.durable:
            self._control.on_yield = self._wait_until_durable
        self._output = ProcessOutput(*pipe, self._say)
        log_in_process(self._output)
        self._sent = 0
        self._sending = threading.RLock()
        self._acknowledged = threading.Event()

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._flush_forever, daemon=True).start()
        outcome = self._outcome()
        self._output.finish()
        self._flush()
        self._send(Over(outcome))
        self._channel.close()

    def _outcome(self) -> Outcome:
        try:
            work = load_work(self._task)
        except BaseException as error:
            message = f"its code can't be loaded in a process of its own: {error}"
            return Failed(type(error).__name__, message, trace=text_of(tracebacks.shown(error), LONGEST_LINE))
        return Drive(work, self._task.attempt, self._control, self._services, self._output.say).run()

    def _say(self, line: str) -> None:
        self._control.lines.put(text_of(line, LONGEST_LINE))

    # -- talking with the parent

    def _listen(self) -> None:
        while True:
            try:
                said = self._channel.recv(1)
            except OSError:
                said = b""
            if said == ACK:
                self._acknowledged.set()
            elif said:
                self._control.stop(WISHES[said])
            else:  # the server is gone: so must we be, and what we started
                os.killpg(0, signal.SIGKILL)

    def _flush_forever(self) -> None:
        while True:
            time.sleep(_FLUSH)
            self._flush()

    def _flush(self) -> None:
        with self._sending:  # what one thread took must not be overtaken by what another one takes
            while lines := self._control.lines.take(_MOST_LINES):
                self._send(ReportedLines(lines))
            yields, point = self._control.yields, self._control.latest
            if yields != self._sent and point is not None:
                self._sent = yields
                self._send(Newest(yields, point))

    def _wait_until_durable(self, control: Control) -> None:
        self._acknowledged.clear()
        self._sent = control.yields
        if control.latest is not None:
            self._send(Newest(control.yields, control.latest, durable=True))
            self._acknowledged.wait()

    def _send(self, report: Report) -> None:
        body = msgspec.msgpack.encode(report)
        with self._sending:
            try:
                self._channel.sendall(HEADER.pack(len(body)) + body)
            except OSError:
                os.killpg(0, signal.SIGKILL)


def load_work(task: Task) -> WorkType:
    """The work type of a task, from its code or its module. Raises `LookupError` when the module has it no more."""
    if task.attempt.code is not None:
        return sent_code.load(task.attempt.code)
    module = importlib.import_module(task.module)
    for value in vars(module).values():
        if isinstance(value, WorkType) and value.name == task.attempt.work_type:
            return value
    raise LookupError(f"module {task.module} has no work type {task.attempt.work_type!r}")
