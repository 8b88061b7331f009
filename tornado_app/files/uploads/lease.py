"""Who may write to an upload: one request at a time, the newest first, and no two that end each other without progress.

Lives on the event loop. A request that wants an upload asks its holder to let go. The first time that is at once. When
it hits a holder whose bytes were still coming, a second client may be at work, which will be back: whoever asks next
waits, longer each time, so that each gets something done. A holder that is silent is never waited for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tornado_app import problems

if TYPE_CHECKING:
    from tornado_app.files.uploads.writer import Writer

SILENT_S = 1.0
"""After which a holder that sends nothing is taken for stalled."""

FIRST_S = 1.0
MOST_S = 30.0
"""How long a holder may go on when others were interrupted before: doubled each time."""

CALM_S = 2 * MOST_S
"""After which interruptions are forgotten."""

RETRY_S = 1


def locked(detail: str = "a newer request for this upload took over") -> problems.ProblemError:
    """Another request writes; the same may be asked again."""
    return problems.LOCKED(f"{detail}; ask again where the upload stands", headers={"Retry-After": str(RETRY_S)})


class Lease:
    """The right to write to one upload."""

    def __init__(self) -> None:
        self.writer: Writer | None = None
        self._ticket = 0
        self._patience = 0.0
        self._interrupted = -math.inf

    async def wait(self, is_lost: Callable[[], bool]) -> None:
        """Return when nobody writes, for a caller that takes the lease at once. Raises LOCKED when a newer one came."""
        self._ticket = ticket = self._ticket + 1
        while self.writer is not None:
            await self._released(self.writer, lambda: ticket != self._ticket or is_lost())
            if ticket != self._ticket:
                raise locked()
            if is_lost():
                raise locked("the client has gone")

    async def clear(self) -> None:
        """Return when nobody writes; whoever does is interrupted at once, and nobody has to have come first."""
        while (writer := self.writer) is not None:
            writer.request_release()
            await writer.released()

    async def settled(self, is_lost: Callable[[], bool]) -> None:
        """Return when the one who writes now does so no more, and before the next one's bytes are there."""
        writer = self.writer
        if writer is not None:
            await self._released(writer, is_lost)

    async def _released(self, writer: Writer, gives_up: Callable[[], bool]) -> None:
        while self.writer is writer and not gives_up():
            left = 0.0 if writer.release_requested or writer.ended else self._left(writer)
            if left > 0:
                await writer.released(min(left, SILENT_S))
            else:
                self._interrupt(writer)
                await writer.released()

    def _left(self, writer: Writer) -> float:
        """How long a holder may still go on."""
        now = time.monotonic()
        if now - self._interrupted > CALM_S:
            self._patience = 0.0
        left = writer.began + self._patience - now
        return left if writer.is_full else min(left, writer.moved + SILENT_S - now)

    def _interrupt(self, writer: Writer) -> None:
        now = time.monotonic()
        is_moving = writer.is_full or now - writer.moved < SILENT_S
        if is_moving and not (writer.release_requested or writer.ended or writer.is_internal):
            self._patience = min(MOST_S, max(FIRST_S, 2 * self._patience))
            self._interrupted = now
        writer.request_release()
