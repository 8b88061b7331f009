"""Log lines on their way to the journal: bounded, with back-pressure, and a dropped line is counted in the log."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

from tornado_app.processes.executors.attempt import Line

MOST = 10_000
"""Most lines that may wait."""
MOST_CHARACTERS = 4 << 20
"""Most characters of them together."""
PATIENCE = 5.0
"""Seconds that a new line waits for room; then the oldest line is dropped, and a line in its place counts those."""

_POLL = 0.01  # seconds


class LogBuffer:
    """Log lines that wait to be written. Thread-safe."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque()
        self._characters = 0
        self._dropped = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of lines that wait."""
        return len(self._lines)

    @property
    def is_full(self) -> bool:
        """True where one more line would have to wait, or to push out another one."""
        return len(self._lines) >= MOST or self._characters >= MOST_CHARACTERS

    def put(self, line: Line, *, wait: bool) -> None:
        """Append a line. With `wait`, block up to `PATIENCE` seconds for room, so that fast work loses no line."""
        if wait and self.is_full:
            until = time.monotonic() + PATIENCE
            while self.is_full and time.monotonic() < until:
                time.sleep(_POLL)
        with self._lock:
            while self.is_full:
                self._pop()
                self._dropped += 1
            self._lines.append(line)
            self._characters += len(line[1])

    def take(self, most: int = MOST) -> list[Line]:
        """Remove and return the oldest lines, in order."""
        with self._lock:
            self._count_dropped()
            return [self._pop() for _ in range(min(most, len(self._lines)))]

    def put_back(self, lines: Iterable[Line]) -> None:
        """Return lines that could not be written to the front, however many there are."""
        with self._lock:
            self._count_dropped()
            for line in reversed(list(lines)):
                self._lines.appendleft(line)
                self._characters += len(line[1])

    def _pop(self) -> Line:
        line = self._lines.popleft()
        self._characters -= len(line[1])
        return line

    def _count_dropped(self) -> None:
        """Put a line that counts the dropped ones in their place, before all others."""
        if self._dropped:
            text = f"[{self._dropped} lines of the log are missing here: they came quicker than they could be written]"
            self._lines.appendleft((self._lines[0][0], text))
            self._characters += len(text)
            self._dropped = 0
