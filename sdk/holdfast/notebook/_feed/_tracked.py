"""State of one process in a feed. No I/O; the feed holds its lock."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from holdfast import wire
from holdfast._client.verbs import FINAL, possible_verbs
from holdfast.notebook._feed._speed import Speed
from holdfast.wire import ENDED, State, Verb

LOG_LINES = 6


class Tracked:
    """Newest known state of a process. `revision` grows with every change."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.info: wire.ProcessInfo | None = None
        self.missing = False
        self.stale = False  # the connection broke since: the server may even have another journal
        self._lines: dict[int, str] = {}
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
        elif event.type == "progress" and event.progress is not None:
            self.info = msgspec.structs.replace(info, progress=event.progress, version=event.version)
            if event.progress.done is not None:
                self.speed.add(event.time.timestamp(), event.progress.done)

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines of the log."""
        return tuple(self._lines.values())

    def add_lines(self, lines: Iterable[tuple[int, str]]) -> None:
        """Add log lines by their numbers. Events and answers may bring a line twice, and in any order."""
        self._lines = dict(sorted({**self._lines, **dict(lines)}.items())[-LOG_LINES:])
