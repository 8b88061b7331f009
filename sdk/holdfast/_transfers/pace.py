"""How fast and how wide a transfer goes: a rate limit, the size of pieces, the number of connections. Pure."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

Clock = Callable[[], float]

MOST_AT_ONCE = 8


def checked_rate(rate: float | None) -> float | None:
    """The rate, if it is one. Raises `ValueError`."""
    if rate is not None and not rate > 0:
        raise ValueError(f"a limit is bytes a second, more than 0, or None for no limit; not {rate}")
    return rate


class Throttle:
    """At most `rate` bytes a second, over all who take from it; None is no limit. May be changed at any time."""

    def __init__(self, rate: float | None = None, clock: Clock = time.monotonic) -> None:
        self.rate = checked_rate(rate)
        self._clock = clock
        self._lock = threading.Lock()
        self._free = 0.0

    def delay(self, count: int) -> float:
        """Take `count` bytes; the seconds to wait before the next ones."""
        if not self.rate:
            return 0.0
        with self._lock:
            now = self._clock()
            self._free = max(self._free, now) + count / self.rate
            return self._free - now

    def piece(self, size: int) -> int:
        """How much to take at once, so that waits stay short."""
        return size if not self.rate else max(1024, min(size, int(self.rate / 8)))


class Rate:
    """Bytes a second over the last few seconds, from samples taken when it is asked."""

    WINDOW = 5.0

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque()

    def at(self, done: int) -> float:
        """The rate, now that `done` bytes are there."""
        with self._lock:
            now = self._clock()
            if not self._samples or now - self._samples[-1][0] >= 0.1:
                self._samples.append((now, done))
            while len(self._samples) > 2 and now - self._samples[0][0] > self.WINDOW:
                self._samples.popleft()
            then, before = self._samples[0]
            return max(0.0, (done - before) / (now - then)) if now > then else 0.0


class Pieces:
    """How many bytes one request carries: doubled while it takes less than `seconds`, halved when that is too much."""

    SMALLEST = 64 << 10
    FIRST = 16 << 20

    def __init__(self, seconds: float = 5.0) -> None:
        self.size = self.FIRST
        self._seconds = seconds
        self._most: int | None = None
        self._broken = 0

    def sent(self, count: int, seconds: float) -> None:
        """A request with `count` bytes was carried out."""
        self._broken = 0
        if count >= self.size and seconds < self._seconds:
            self.size = self.size * 2 if self._most is None else min(self.size * 2, self._most)

    def too_large(self, count: int) -> bool:
        """A request with `count` bytes was refused as too large (413); False when it can't be made smaller."""
        if count <= self.SMALLEST:
            return False
        self.size = self._most = max(self.SMALLEST, count // 2)
        return True

    def broken(self, gained: int) -> None:
        """A request broke. Where nothing gets through twice, something on the way keeps the whole of it back."""
        self._broken = 0 if gained else self._broken + 1
        if self._broken >= 2:
            self.size = max(self.SMALLEST, self.size // 2)


class Growth:
    """How many connections pay, found out by measuring: another one stays only if the whole got quicker by it.

    Args:
        most: connections at most.
        at_once: open them all without measuring: the user said so.
    """

    SETTLE = 0.5  # seconds that a new connection gets to come up to speed
    MEASURE = 1.0
    WORTH = 1.15  # times quicker
    SOON = 2.0  # seconds left in which nothing is worth beginning

    def __init__(self, most: int, *, at_once: bool, clock: Clock = time.monotonic) -> None:
        self._most = most
        self._at_once = at_once
        self._clock = clock
        self._best = 0.0
        self._settled = most <= 1
        self._since = clock() + self.SETTLE
        self._before: int | None = None

    def more(self, workers: int, done: int, left: int) -> int:
        """How many to add to `workers`, now that `done` bytes are there and `left` are not."""
        if self._at_once:
            return max(0, self._most - workers)
        now = self._clock()
        if self._settled or now < self._since:
            return 0
        if self._before is None:
            self._since, self._before = now, done
            return 0
        if now - self._since < self.MEASURE:
            return 0
        rate = (done - self._before) / (now - self._since)
        self._since, self._before = now, done
        if rate < self._best * self.WORTH or workers >= self._most:
            self._settled = True
            return 0
        if rate <= 0 or left < rate * self.SOON:
            return 0
        self._best = rate
        self._since, self._before = now + self.SETTLE, None
        return min(workers, self._most - workers)
