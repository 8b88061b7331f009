"""Clocks that nobody can set, by which it is told how long something has waited or lain idle."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

FASTEST = 60.0
"""By how much faster than real time what passed while no server ran is made up for."""


steady: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Return seconds that nobody can set, and that go on while the machine sleeps, where it can tell."""


class AgeClock:
    """A clock that no leap of the wall's moves while the server lives.

    What passed since an earlier server last `seen` it is only known from the wall: it is owed, made up for gradually,
    and forgotten once the wall does not say so any more. So a wall clock that is weeks ahead for the first minute makes
    nothing older than an hour.
    """

    def __init__(self, seen: float | None) -> None:
        wall = time.time()
        self._now = wall if seen is None else seen
        self._owed = max(0.0, wall - self._now)
        self._looked = steady()

    def now(self) -> float:
        """Seconds since about the epoch; never less than before."""
        look = steady()
        passed, self._looked = max(0.0, look - self._looked), look
        self._now += passed
        if self._owed:
            made_up = min(self._owed, max(0.0, time.time() - self._now), passed * (FASTEST - 1))
            self._now += made_up
            self._owed = min(self._owed - made_up, max(0.0, time.time() - self._now))
        return self._now

    def since(self, wall: float) -> float:
        """Return the moment of this clock for a time of the wall clock, also from an earlier server."""
        now = self.now()
        return now - max(0.0, min(time.time(), now) - wall)

    def on_the_wall(self, moment: float) -> float:
        """Return the time of the wall clock at a moment of this clock, unless somebody sets the wall clock."""
        return moment + (time.time() - (self.now() + self._owed))
