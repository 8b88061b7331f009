"""Times that processes wait for: retries and deadlines. No clock of the wall is asked while the server lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from holdfast.wire import ENDED, State
from tornado_app.clocks import steady
from tornado_app.processes.journal.queries import ProcessRecord

_CHECK_AGAIN = 60.0  # seconds; the loop's timers stand still while the machine sleeps
_LATE = 0.01


class Timers:
    """Calls `on_retry` (id, attempt) and `on_deadline` (id) when their times have come. Lives on the loop.

    The journal has them as times of day, for people and for the next server, which believes no wait to be longer than
    it was when it began.
    """

    def __init__(
        self, on_retry: Callable[[str, int], None], on_deadline: Callable[[str], None], longest_retry: float
    ) -> None:
        self._on_retry = on_retry
        self._on_deadline = on_deadline
        self._longest_retry = longest_retry
        self._loop = asyncio.get_running_loop()
        self._deadlines: dict[str, asyncio.TimerHandle] = {}  # of what has not ended
        self._passed: set[str] = set()

    def __len__(self) -> int:
        """Return the number of deadlines that are kept."""
        return len(self._deadlines) + len(self._passed)

    def has_passed(self, id: str) -> bool:
        """Return whether the deadline of that process has passed."""
        return id in self._passed

    def set(self, row: ProcessRecord) -> None:
        """Wait for the retry and the deadline of this row. One that has ended waits for nothing."""
        if row.retry_at is not None and row.state is State.QUEUED:
            left = min(self._longest_retry, max(0.0, row.retry_at - time.time()))
            self._wait_for_retry(row.id, row.attempt, steady() + left)
        if row.state in ENDED:
            self._passed.discard(row.id)
            if (timer := self._deadlines.pop(row.id, None)) is not None:
                timer.cancel()
        elif row.deadline is not None and row.id not in self._deadlines and row.id not in self._passed:
            left = min(row.deadline - row.created, max(0.0, row.deadline - time.time()))
            self._wait_for_deadline(row.id, steady() + left)

    def _wait_for_retry(self, id: str, attempt: int, due: float) -> None:
        left = due - steady()
        if left <= 0:
            self._on_retry(id, attempt)
        else:
            self._loop.call_later(min(_CHECK_AGAIN, left) + _LATE, self._wait_for_retry, id, attempt, due)

    def _wait_for_deadline(self, id: str, due: float) -> None:
        left = due - steady()
        if left <= 0:
            self._deadlines.pop(id, None)
            self._passed.add(id)
            self._on_deadline(id)
        else:
            later = min(_CHECK_AGAIN, left) + _LATE
            self._deadlines[id] = self._loop.call_later(later, self._wait_for_deadline, id, due)
