"""The journal's own time, by which it is told how long ago something ended."""

from __future__ import annotations

import time

from sqlalchemy import Connection, delete, func, insert, select

from tornado_app.clocks import steady
from tornado_app.processes.journal.schema import clock, events

_FASTEST = 60.0
_SAVE_EVERY = 600.0


class JournalClock:
    """A clock that is never ahead of the wall's, and that a leap of it moves by no more than sixty times real time.

    So a clock that is weeks ahead for a minute makes nothing older than an hour; one that stays there, as after weeks
    in which no server ran, is believed within hours. It is kept in the journal. Belongs to the journal's writer.
    """

    def __init__(self) -> None:
        self._seen: float | None = None
        self._looked = 0.0
        self._saved: float | None = None

    def now(self, connection: Connection) -> float:
        """Seconds since the epoch; writes them down now and then."""
        wall, look = time.time(), steady()
        if self._seen is None:
            self._saved = connection.execute(select(clock.c.seen)).scalar()
            newest = self._saved if self._saved is not None else connection.execute(_NEWEST).scalar()
            self._seen = wall if newest is None else newest
        else:
            self._seen = max(self._seen, min(wall, self._seen + (look - self._looked) * _FASTEST))
        self._looked = look
        if self._saved is None or self._seen - self._saved >= _SAVE_EVERY:
            connection.execute(delete(clock))
            connection.execute(insert(clock).values(seen=self._seen))
            self._saved = self._seen
        return min(wall, self._seen)


_NEWEST = select(func.max(events.c.time))
