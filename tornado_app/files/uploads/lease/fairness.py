"""Fairness between requests: the time that a holder may go on once another request asks for its lease.

The first time the holder is interrupted at once. When that hits a holder whose bytes were still arriving, a second
client may be at work, and will be back: the next request waits, and longer each time, so that each of the two gets
something done. A holder that is silent is never waited for.
"""

from __future__ import annotations

import math
import time

from tornado_app.files.uploads.lease.interface import Lease

SILENT_S = 1.0
"""Seconds without a byte after which a holder counts as stalled."""

FIRST_S = 1.0
MOST_S = 30.0
"""Seconds that a holder may go on after an interruption: doubled with each one."""

CALM_S = 2 * MOST_S
"""Seconds after which interruptions are forgotten."""


class Fairness:
    """The history of interruptions of one upload's leases."""

    __slots__ = ("_grace", "_interrupted_at")

    def __init__(self) -> None:
        self._grace = 0.0
        self._interrupted_at = -math.inf

    @property
    def is_calm(self) -> bool:
        """Return whether there is no interruption that still counts."""
        return not self._grace or time.monotonic() - self._interrupted_at > CALM_S

    def remaining(self, lease: Lease) -> float:
        """Return the seconds that the holder may still go on; zero or less once it may be interrupted."""
        if lease.release_requested:
            return 0.0
        now = time.monotonic()
        if now - self._interrupted_at > CALM_S:
            self._grace = 0.0
        return min(lease.acquired_at + self._grace, lease.holder.active_at + SILENT_S) - now

    def interrupt(self, lease: Lease) -> None:
        """Ask the holder to release its lease, and remember it if the holder was at work for a client."""
        if lease.release_requested:
            return
        now = time.monotonic()
        if now - lease.holder.active_at < SILENT_S and not lease.holder.is_internal:
            self._grace = min(MOST_S, max(FIRST_S, 2 * self._grace))
            self._interrupted_at = now
        lease.request_release()
