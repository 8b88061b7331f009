"""Log lines on their way to the journal: bounded, with back-pressure, and none goes without a word."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

MOST = 10_000
"""Lines that may wait, and characters of them."""
MOST_CHARACTERS = 4 << 20
PATIENCE = 5.0
"""Seconds that a line waits for room; then the oldest goes, and a line in its place says how many did."""

_LOOK = 0.01

Line = tuple[float, str]
"""When it was said, in seconds since the epoch, and what."""


class LogBuffer:
    """Lines that wait to be taken. From any thread."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque()
        self._characters = 0
        self._dropped = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Lines that wait."""
        return len(self._lines)

    @property
    def is_full(self) -> bool:
        """Whether a line more would have to wait, or to cost another one."""
        return len(self._lines) >= MOST or self._characters >= MOST_CHARACTERS

    def put(self, message: str) -> None:
        """Say a line. Who says more than can be written waits a little, so that none is lost. Blocks."""
        if self.is_full:
            until = time.monotonic() + PATIENCE
            while self.is_full and time.monotonic() < until:
                time.sleep(_LOOK)
        self.put_at_once((time.time(), message))

    def put_at_once(self, line: Line) -> None:
        """For who must not wait, as on the loop."""
        with self._lock:
            while self.is_full:
                self._pop()
                self._dropped += 1
            self._lines.append(line)
            self._characters += len(line[1])

    def take(self, most: int = MOST) -> list[Line]:
        """The oldest lines, in order."""
        with self._lock:
            self._tell_dropped()
            return [self._pop() for _ in range(min(most, len(self._lines)))]

    def put_back(self, lines: Iterable[Line]) -> None:
        """They could not be written: they are the oldest again, however many there are."""
        with self._lock:
            self._tell_dropped()
            for line in reversed(list(lines)):
                self._lines.appendleft(line)
                self._characters += len(line[1])

    def _pop(self) -> Line:
        line = self._lines.popleft()
        self._characters -= len(line[1])
        return line

    def _tell_dropped(self) -> None:
        """What went was older than all that is there."""
        if self._dropped:
            said = f"[{self._dropped} lines of the log are missing here: they came quicker than they could be written]"
            self._lines.appendleft((self._lines[0][0], said))
            self._characters += len(said)
            self._dropped = 0
