"""The interface of executors: a place where attempts run.

An executor gets an `Attempt` and a sink, and returns a handle. Requests go in through the handle, reports come out
through the sink, and nothing else is shared, so that both may be messages to another process or another machine. Each
executor is a file of its own, is named by the composition root, and passes `tests/support/executor_conformance.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from holdfast.work import Stopping, WorkType
from tornado_app.processes.executors.attempt import Attempt, Checkpoint, Line, Outcome

FindWork = Callable[[str], WorkType | None]
"""Returns the work type of that name, or None."""


class ReportSink(Protocol):
    """Takes what running work reports. Called from one thread at a time, which may be any thread."""

    def checkpoint(self, yields: int, checkpoint: Checkpoint) -> None:
        """Take the newest checkpoint, after that many yields of the attempt. A report may skip yields. Never blocks."""
        ...

    def commit(self, yields: int, checkpoint: Checkpoint) -> None:
        """Take the newest checkpoint and return once it is durable. Not on the event loop.

        It is written at least once. After a failure that is tried again, until it succeeds or a stop is requested.
        """
        ...

    def log(self, line: Line, *, wait: bool) -> None:
        """Take a log line. With `wait`, block for a while when there is no room; without, drop the oldest line."""
        ...


class AttemptSink(ReportSink, Protocol):
    """Takes the reports and the end of one attempt."""

    def begin(self, run: str) -> bool:
        """Return whether this run of the attempt may begin: true for the first run id, false for every other one.

        For an executor whose cluster may run a lost task again by itself: each run draws an id, asks, and ends at once
        when refused. An executor that never repeats a task need not ask.
        """
        ...

    def has_room(self) -> bool:
        """Return whether a log line can be taken without dropping another one."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """Take the end of the attempt: called once, on the event loop, after all reports."""
        ...


class AttemptHandle(Protocol):
    """One attempt that was launched. Used on the event loop."""

    @property
    def is_alive(self) -> bool:
        """True until the end of the attempt is known."""
        ...

    def request_stop(self, why: Stopping | None) -> None:
        """Request a stop at the next yield; None revokes the request if the attempt has not stopped yet."""
        ...

    async def kill(self, grace: float) -> str | None:
        """End the attempt without its consent. Returns None when it has ended, else a sentence on what to do."""
        ...


class Executor(Protocol):
    """Runs attempts."""

    @property
    def runs_async(self) -> bool:
        """True where work types are async generators, false where they are plain ones."""
        ...

    def check_usable(self) -> None:
        """Raise BAD_PARAMETERS when no attempt can run here with this server's settings, such as its store."""
        ...

    def launch(self, attempt: Attempt, sink: AttemptSink) -> AttemptHandle:
        """Start an attempt. Whatever goes wrong after that is reported as its outcome."""
        ...

    async def close(self) -> None:
        """Release what the executor holds. What still runs goes on from its last checkpoint at the next start."""
        ...


ExecutorFactory = Callable[[], Executor]
"""Makes an executor; called on the running event loop."""

Executors = Mapping[str, ExecutorFactory]
"""Factories by the name that `place` has on the wire."""
