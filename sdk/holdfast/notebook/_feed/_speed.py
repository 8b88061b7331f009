"""Rate of a progress, computed from its samples, and the time since it moved."""

from __future__ import annotations

from collections import deque

_WINDOW = 5.0  # seconds over which the rate is computed
_POINTS = 24  # of a sparkline, one a second
_LEAST_PATIENCE, _MOST_PATIENCE = 5.0, 60.0


class Speed:
    """Rate over the last seconds, and the rates before. `rate` is None until there are enough samples."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self.history: deque[float] = deque(maxlen=_POINTS)
        self._samples: deque[tuple[float, float]] = deque()
        self._next = 0.0
        self.moved_at: float | None = None
        """When it moved last, by the monotonic clock of this process; None if it has not moved yet."""
        self._gap = 0.0  # usual time between two movements

    def moved(self, now: float) -> None:
        """Record that it moved at `now`, by the monotonic clock."""
        if self.moved_at is not None:
            gap = now - self.moved_at
            self._gap = gap if not self._gap else 0.7 * self._gap + 0.3 * gap
        self.moved_at = now

    @property
    def patience(self) -> float:
        """Seconds without movement after which the rate is out of date: some of the usual steps."""
        return min(_MOST_PATIENCE, max(_LEAST_PATIENCE, 3 * self._gap))

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
