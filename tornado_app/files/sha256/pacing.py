"""Pacing of background work: it starts when no transfer has moved bytes for a while, and gives way to those that do."""

from __future__ import annotations

import asyncio
import time
from time import monotonic
from typing import Protocol

from prometheus_client import Counter

from tornado_app.files import metrics

QUIET_S = 2.0
"""Seconds without a byte moved after which background work starts."""

LATEST_S = 60.0
"""Seconds after which it starts in spite of transfers, and takes a quarter of the time."""

_SHARE = 4
_POLL_S = 0.25


class Pacing(Protocol):
    """Port that says when background work may go on."""

    async def turn(self, since: float) -> None:
        """Return when the next piece may be done of work that waits since this time, in seconds since the epoch."""
        ...


class TrafficPacing:
    """`Pacing` by the bytes that uploads and downloads of this process move.

    It reads the metrics, and only while work is waiting: transfers do nothing for it.
    """

    def __init__(self) -> None:
        self._moved = -1.0
        self._moved_at = 0.0
        self._granted_at: float | None = None
        self._rest_until = 0.0

    async def turn(self, since: float) -> None:
        """See `Pacing`. May be cancelled and called again: a rest that has begun goes on."""
        now = monotonic()
        if self._granted_at is not None:
            self._rest_until = now + min(QUIET_S, (_SHARE - 1) * (now - self._granted_at))
            self._granted_at = None
        while not (self._is_quiet() or self._is_overdue(since)):  # noqa: ASYNC110 - transfers set no event
            await asyncio.sleep(_POLL_S)
        self._granted_at = monotonic()

    def _is_overdue(self, since: float) -> bool:
        return time.time() - since >= LATEST_S and monotonic() >= self._rest_until

    def _is_quiet(self) -> bool:
        moved, now = _total(metrics.SENT) + _total(metrics.RECEIVED), monotonic()
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        return now - self._moved_at >= QUIET_S


def _total(counter: Counter) -> float:
    samples = (sample for metric in counter.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))
