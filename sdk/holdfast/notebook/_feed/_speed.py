"""Rate of a progress, computed from its samples."""

from __future__ import annotations

from collections import deque

_WINDOW = 5.0  # seconds over which the rate is computed
_POINTS = 24  # of a sparkline, one a second


class Speed:
    """Rate over the last seconds, and the rates before. `rate` is None until there are enough samples."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self.history: deque[float] = deque(maxlen=_POINTS)
        self._samples: deque[tuple[float, float]] = deque()
        self._next = 0.0

    def add(self, now: float, done: float) -> None:
        """Add a sample: at `now` (seconds, of any clock) this amount was done."""
        samples = self._samples
        if samples and (done < samples[-1][1] or now < samples[-1][0]):  # it started again
            self.reset()
        if not samples or now - samples[-1][0] >= 0.2:
            samples.append((now, done))
        while len(samples) > 2 and now - samples[0][0] > _WINDOW:
            samples.popleft()
        then, before = samples[0]
        if now - then >= 0.5:
            self.rate = (done - before) / (now - then)
            if now >= self._next:
                self._next = now + 1.0
                self.history.append(self.rate)

    def reset(self) -> None:
        """Drop the samples and the rate. The history stays."""
        self._samples.clear()
        self.rate = None
