"""Detection of a server that nobody uses, so that it can stop by itself (`--idle-stop`)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

_MOST_BETWEEN_S = 5.0


class InFlight:
    """Requests without a final response, and the time of the last one. A server that stops waits for them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests: set[object] = set()
        self._probes: set[object] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._last = clock()

    def add(self, request: object, *, is_probe: bool = False) -> None:
        """Count a request that has arrived. `is_probe`: a monitor sends it, so that it is no use of the server."""
        (self._probes if is_probe else self._requests).add(request)
        self._none.clear()

    def discard(self, request: object) -> None:
        """Forget a request that is answered or whose connection is lost."""
        if request in self._requests:
            self._requests.discard(request)
            self.touch()
        self._probes.discard(request)
        if not (self._requests or self._probes):
            self._none.set()

    def touch(self) -> None:
        """Note that the server is used now."""
        self._last = self._clock()

    def idle_for(self) -> float:
        """Return the seconds since the server was used; 0 while a request is open."""
        return 0.0 if self._requests else self._clock() - self._last

    async def drained(self, timeout: float) -> None:
        """Wait until there is no request, for at most `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._none.wait()


async def wait_idle(
    activity: InFlight,
    seconds: float,
    has_work: Callable[[], Awaitable[bool]],
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Return once there was no use and no work for `seconds`. `has_work` returns whether there is work now."""
    between, had_work = min(seconds, _MOST_BETWEEN_S), False
    while True:
        has = await has_work()
        if has or had_work:  # it may have ended just now
            activity.touch()
        had_work = has
        left = seconds - activity.idle_for()  # after the question, during which a request may have come
        if left <= 0:
            return
        await sleep(min(left, between))
