"""State of one process in a feed. No I/O; the feed holds its lock."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from holdfast import wire
from holdfast._client.verbs import FINAL, possible_verbs
from holdfast.notebook._feed._speed import Speed
from holdfast.wire import ENDED, State, Verb

LOG_LINES = 6
"""Log lines on a card."""

DETAIL_LINES = 200
"""Log lines that are kept of a process that has a subscription of its own."""


class Tracked:
    """Newest known state of a process. `revision` grows with every change."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.info: wire.ProcessInfo | None = None
        self.missing = False
        self.stale = False  # the connection broke since: the server may even have another journal
        self._lines: dict[int, str] = {}
        self.kept_lines = LOG_LINES
        self.notify = False  # its end is to be announced by the browser
        self.pending_verb = ""
        self.refusal = ""
        self.verbs: frozenset[Verb] = frozenset()
        """Verbs that the newest answer says are legal. Events do not carry them, but an answer follows each event."""
        self.speed = Speed()
        self.revision = 0

    def apply_answer(self, info: wire.ProcessInfo) -> None:
        """Apply an answer, unless an event has brought a newer version."""
        known = self.info
        if known is not None and info.created > known.created:  # another process of the same id: versions begin again
            self.mark_missing()
        if self.info is None or self.stale or info.version >= self.info.version:
            if self.info is None or info.progress != self.info.progress:
                self.speed.moved(time.monotonic())
            self.info, self.verbs = info, possible_verbs(info)
        elif (info.state, info.attempt) == (self.info.state, self.info.attempt):
            self.verbs = possible_verbs(info)  # progress came meanwhile: it is older, but what is legal is the same
        self.missing = self.stale = False

    def mark_missing(self) -> None:
        """Drop the state: the server has no such process. A later one with this id is another process."""
        self.info, self.missing, self.refusal, self.verbs = None, True, "", frozenset()
        self._lines, self.speed = {}, Speed()

    def apply_event(self, event: wire.Event) -> None:
        """Apply an event of this process."""
        info = self.info
        if event.type == "log":
            self.add_lines([((event.data or {}).get("seq", 0), event.message or "")])
        elif event.type == "deleted":
            self.mark_missing()
        elif info is None or (event.version or 0) <= info.version:
            return
        elif event.type == "state" and event.state is not None:
            ended = event.time if event.state in ENDED else None
            started = info.started or (event.time if event.state is State.RUNNING else None)
            changes = {"state": event.state, "error": event.error, "started": started, "ended": ended}
            attempt = info.attempt if event.attempt is None else event.attempt
            self.info = msgspec.structs.replace(info, **changes, attempt=attempt, version=event.version)
            self.refusal = ""
            if event.state in FINAL:
                self.verbs = frozenset()
            self.speed.reset()
            self.speed.moved_at = time.monotonic()
        elif event.type == "progress" and event.progress is not None:
            if event.progress != info.progress:
                self.speed.moved(time.monotonic())
            self.info = msgspec.structs.replace(info, progress=event.progress, version=event.version)
            if event.progress.done is not None:
                self.speed.add(event.time.timestamp(), event.progress.done)

    @property
    def lines(self) -> dict[int, str]:
        """The last lines of the log by their numbers, as many as a card shows."""
        return dict(list(self._lines.items())[-LOG_LINES:])

    @property
    def log(self) -> dict[int, str]:
        """The lines of the log that are kept, by their numbers."""
        return dict(self._lines)

    def add_lines(self, lines: Iterable[tuple[int, str]]) -> None:
        """Add log lines by their numbers. Events and answers may bring a line twice, and in any order."""
        self._lines = dict(sorted({**self._lines, **dict(lines)}.items())[-self.kept_lines :])
