"""How fast something goes, from what was told of it."""

from __future__ import annotations

from collections import deque

_WINDOW = 5.0  # seconds over which the rate is taken
_POINTS = 24  # of a sparkline, one a second


class Speed:
    """The rate over the last seconds, and how it went before that. None until there is enough to tell."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self.history: deque[float] = deque(maxlen=_POINTS)
        self._samples: deque[tuple[float, float]] = deque()
        self._next = 0.0

    def add(self, now: float, done: float) -> None:
        """At `now` (seconds, of any clock) so much was done."""
        samples = self._samples
        if samples and (done < samples[-1][1] or now < samples[-1][0]):  # it began again
            self.stop()
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

    def stop(self) -> None:
        """It stands still; what comes next is measured anew."""
        self._samples.clear()
        self.rate = None
