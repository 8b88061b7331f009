"""Memory of request bodies: buffers for those that are passed on, and a common limit for those that are kept whole."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from tornado_app import problems

SIZE = 1 << 20
MOST = 16

COLLECTED_BY_ALL = 256 << 20
"""Bytes of all bodies together that are kept whole: four of the largest, or some thousand small files."""


class MemoryBudget:
    """Memory that requests share. Lives on the event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def take(self, count: int) -> None:
        """Count bytes that are about to be kept, until `give`. Raises UNAVAILABLE where they are too many."""
        if self.used + count > self.most:
            raise problems.UNAVAILABLE(
                "other requests fill the memory that this server has for bodies. Send it again in a moment",
                headers={"Retry-After": "1"},
            )
        self.used += count

    def give(self, count: int) -> None:
        """Count bytes no longer."""
        self.used -= count


class _Buffer(bytearray):
    """A buffer of a pool. When it is deleted without being given back, the pool may make another."""

    def __init__(self, pool: Buffers) -> None:
        super().__init__(SIZE)
        self._pool = pool

    def __del__(self) -> None:
        self._pool.ended()


class Buffers:
    """A pool of at most `MOST` buffers."""

    def __init__(self) -> None:
        self._free: list[_Buffer] = []
        self._made = 0
        self._lock = threading.RLock()  # a buffer can be deleted while we hold it

    def take(self) -> bytearray | None:
        """Return a buffer of `SIZE` bytes with arbitrary content; None when all are in use."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if self._made == MOST:
                return None
            self._made += 1
        return _Buffer(self)

    def give(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Free the buffers of which these are pieces; nobody may use the pieces afterwards."""
        with self._lock:
            for data in pieces:
                if isinstance(data, memoryview) and isinstance(data.obj, _Buffer):
                    self._free.append(data.obj)

    def ended(self) -> None:
        """Count a buffer that was deleted."""
        with self._lock:
            self._made -= 1


POOL = Buffers()
COLLECTED = MemoryBudget(COLLECTED_BY_ALL)
