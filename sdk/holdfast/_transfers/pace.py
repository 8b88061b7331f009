"""Rate limit, size of requests and number of connections of a transfer. Pure."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

Clock = Callable[[], float]

MOST_AT_ONCE = 8


def checked_rate(rate: float | None) -> float | None:
    """Return a valid rate. Raises `ValueError`."""
    if rate is not None and not rate > 0:
        raise ValueError(f"the limit is {rate}. It must be bytes per second, more than 0, or None for no limit")
    return rate


class Throttle:
    """Limit of `rate` bytes per second for all threads that share it; None is no limit. `rate` may be changed."""

    def __init__(self, rate: float | None = None, clock: Clock = time.monotonic) -> None:
        self.rate = checked_rate(rate)
        self._clock = clock
        self._lock = threading.Lock()
        self._free = 0.0

    def delay(self, count: int) -> float:
        """Count `count` bytes; return the seconds to wait before the next ones."""
        if not self.rate:
            return 0.0
        with self._lock:
            now = self._clock()
            self._free = max(self._free, now) + count / self.rate
            return self._free - now

    def piece(self, size: int) -> int:
        """Return the number of bytes to transfer at once, at most `size`, so that waits stay short."""
        return size if not self.rate else min(size, max(1024, int(self.rate / 8)))


class Rate:
    """Bytes per second over the last few seconds. Each call of `at` takes a sample."""

    WINDOW = 5.0

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque()

    def at(self, done: int) -> float:
        """Return the rate, given the number of bytes done so far."""
        with self._lock:
            now = self._clock()
            if not self._samples or now - self._samples[-1][0] >= 0.1:
                self._samples.append((now, done))
            while len(self._samples) > 2 and now - self._samples[0][0] > self.WINDOW:
                self._samples.popleft()
            then, before = self._samples[0]
            return max(0.0, (done - before) / (now - then)) if now > then else 0.0


class Pieces:
    """Size of one request: doubled while a request takes less than `seconds`, halved if it is too large."""

    SMALLEST = 64 << 10
    FIRST = 16 << 20

    def __init__(self, seconds: float = 5.0) -> None:
        self.size = self.FIRST
        self._seconds = seconds
        self._most: int | None = None
        self._broken = 0

    def sent(self, count: int, seconds: float) -> None:
        """Note that a request with `count` bytes has succeeded."""
        self._broken = 0
        if count >= self.size and seconds < self._seconds:
            self.size = self.size * 2 if self._most is None else min(self.size * 2, self._most)

    def too_large(self, count: int) -> bool:
        """Note that a request with `count` bytes was too large (413). Return False if it can't be smaller."""
        if count <= self.SMALLEST:
            return False
        self.size = self._most = max(self.SMALLEST, count // 2)
        return True

    def broken(self, gained: int) -> None:
        """Note that a request broke. After two without any byte received, a proxy probably buffers whole requests."""
        self._broken = 0 if gained else self._broken + 1
        if self._broken >= 2:
            self.size = max(self.SMALLEST, self.size // 2)


class Growth:
    """Number of connections, found by measuring: more are added while each step makes the transfer faster.

    Args:
        most: maximum number of connections.
        at_once: open all of them without measuring, because the user has chosen the number.
    """

    RAMP_UP = 0.5  # seconds for a new connection to reach its full rate
    MEASURE = 1.0
    MIN_GAIN = 1.15  # factor of the rate
    MIN_REMAINING = 2.0  # seconds left; for less, no connection is added

    def __init__(self, most: int, *, at_once: bool, clock: Clock = time.monotonic) -> None:
        self._most = most
        self._at_once = at_once
        self._clock = clock
        self._best = 0.0
        self._is_final = most <= 1
        self._since = clock() + self.RAMP_UP
        self._before: int | None = None

    def more(self, workers: int, done: int, left: int) -> int:
        """Return how many connections to add to `workers`, given the bytes `done` and `left`."""
        if self._at_once:
            return max(0, self._most - workers)
        now = self._clock()
        if self._is_final or now < self._since:
            return 0
        if self._before is None:
            self._since, self._before = now, done
            return 0
        if now - self._since < self.MEASURE:
            return 0
        rate = (done - self._before) / (now - self._since)
        self._since, self._before = now, done
        if rate < self._best * self.MIN_GAIN or workers >= self._most:
            self._is_final = True
            return 0
        if rate <= 0 or left < rate * self.MIN_REMAINING:
            return 0
        self._best = rate
        self._since, self._before = now + self.RAMP_UP, None
        return min(workers, self._most - workers)
