"""A process as the feed of its server knows it. No I/O; the feed holds its lock."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from holdfast import wire
from holdfast.notebook._feed._speed import Speed
from holdfast.wire import ENDED, State

LOG_LINES = 6


class Tracked:
    """A process as the feed knows it. `revision` grows whenever something of it changes."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.info: wire.Process | None = None
        self.missing = False
        self.stale = False  # the connection was lost since: the server may even have another journal
        self._lines: dict[int, str] = {}
        self.asking = ""
        self.refusal = ""
        self.speed = Speed()
        self.revision = 0

    def learn(self, info: wire.Process) -> None:
        """Take an answer, unless an event has told something newer meanwhile."""
        known = self.info
        if known is not None and info.created > known.created:  # of the same id, but another: versions begin again
            self.forget()
        if self.info is None or self.stale or info.version >= self.info.version:
            self.info = info
        self.missing = self.stale = False

    def forget(self) -> None:
        """It is not there any more; what comes next under this id has nothing to do with it."""
        self.info, self.missing, self.refusal = None, True, ""
        self._lines, self.speed = {}, Speed()

    def take(self, event: wire.Event) -> None:
        """Take an event of this process."""
        info = self.info
        if event.type == "log":
            self.add_lines([((event.data or {}).get("seq", 0), event.message or "")])
        elif event.type == "deleted":
            self.forget()
        elif info is None or (event.version or 0) <= info.version:
            return
        elif event.type == "state" and event.state is not None:
            ended = event.time if event.state in ENDED else None
            started = info.started or (event.time if event.state is State.RUNNING else None)
            changes = {"state": event.state, "error": event.error, "started": started, "ended": ended}
            attempt = info.attempt if event.attempt is None else event.attempt
            self.info = msgspec.structs.replace(info, **changes, attempt=attempt, version=event.version)
            self.refusal = ""
            self.speed.stop()
        elif event.type == "progress" and event.progress is not None:
            self.info = msgspec.structs.replace(info, progress=event.progress, version=event.version)
            if event.progress.done is not None:
                self.speed.add(event.time.timestamp(), event.progress.done)

    @property
    def lines(self) -> tuple[str, ...]:
        """The end of the log."""
        return tuple(self._lines.values())

    def add_lines(self, lines: Iterable[tuple[int, str]]) -> None:
        """Take log lines with their numbers; events and answers may bring them twice, and in any order."""
        self._lines = dict(sorted({**self._lines, **dict(lines)}.items())[-LOG_LINES:])
