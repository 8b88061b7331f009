"""Activity as Jupyter's cullers see it: uploads, downloads and processes count, not only kernels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger("holdfast.jupyter")

REPORT_S = 60.0


class Activity:
    """Reports activity while requests are open or processes run, at most once in `interval` seconds."""

    def __init__(
        self, report: Callable[[], None], has_work: Callable[[], Awaitable[bool]], interval: float = REPORT_S
    ) -> None:
        self._report = report
        self._has_work = has_work
        self._interval = interval
        self._open: set[object] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def open_requests(self) -> int:
        """Return how many requests are in flight."""
        return len(self._open)

    def begin(self, request: object) -> None:
        """Note a request that has come."""
        self._open.add(request)
        self._report()

    def end(self, request: object) -> None:
        """Note the end of a request."""
        if request in self._open:
            self._open.discard(request)
            self._report()

    def start(self) -> None:
        """Report from now on, until `stop`."""
        self.keep(self._run())

    def keep(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine to its end, which nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End what was started."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                if self._open or await self._has_work():
                    self._report()
            except Exception:  # without this loop a culler would end a server in mid-upload
                log.exception("it could not be found out whether there is work")
