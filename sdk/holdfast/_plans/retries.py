"""Retry policy: which failures are retried, how often, and how long to wait before."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from holdfast._plans.effects import Sleep
from holdfast.errors import APIError, ConnectFailed, HoldfastError, TransportError


@dataclass(frozen=True, slots=True)
class Retries:
    """Retry policy.

    `attempts` is the number of retries without progress; each byte or response received resets the count. Waits have
    full jitter: a random time up to `base * 2**n` seconds, at most `cap`, and at least the server's `Retry-After`. If
    that is longer than `longest`, the error is raised at once.
    """

    attempts: int = 6
    base: float = 0.2
    cap: float = 20.0
    longest: float = 120.0

    @classmethod
    def of(cls, value: int | Retries | None, default: Retries) -> Retries:
        """Return the policy for a `retries` argument: a number of attempts, a policy, or None for `default`."""
        if value is None:
            return default
        return value if isinstance(value, Retries) else cls(attempts=value)


# Transfers and event streams survive a restart of the server: they fail after 2 or 3 minutes without a byte.
PERSISTENT = Retries(attempts=100, cap=3.0)
NOT_CARRIED_OUT = frozenset({408, 423, 429, 503})  # any request can be sent again
PERMANENT = frozenset({501, 505, 507})  # statuses of 5xx for which a retry is of no use


def may_repeat(error: HoldfastError, repeatable: bool) -> bool:
    """Return whether a retry is safe and can help."""
    if isinstance(error, ConnectFailed):
        return True
    if isinstance(error, TransportError):
        return repeatable
    if isinstance(error, APIError):
        transient = error.status >= 500 and error.status not in PERMANENT
        return error.status in NOT_CARRIED_OUT or (transient and repeatable)
    return False


class Backoff:
    """Counts attempts without progress and computes the wait before the next one."""

    def __init__(self, retries: Retries, jitter: Callable[[], float] = random.random) -> None:
        self._retries = retries
        self._jitter = jitter
        self.failures = 0

    def reset(self) -> None:
        """Reset the count after progress."""
        self.failures = 0

    def after(self, error: HoldfastError, repeatable: bool, *, moved: bool = False) -> Sleep:
        """Return the wait before the next attempt. Raises `error` if there is none.

        `moved`: the offset on the server is another one, so the retry begins by reading it.
        """
        hint = error.retry_after if isinstance(error, APIError) and error.retry_after is not None else 0.0
        useless = not moved and not may_repeat(error, repeatable)
        if self.failures >= self._retries.attempts or hint > self._retries.longest or useless:
            raise error
        ceiling = min(self._retries.cap, self._retries.base * 2**self.failures)
        self.failures += 1
        return Sleep(max(hint, ceiling * self._jitter()), None if moved else error)
