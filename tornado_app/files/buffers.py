"""Buffers that bodies are received into and written from: the same few again and again, and no copy in between."""

from __future__ import annotations

import threading

SIZE = 1 << 20
MOST = 16


class _Buffer(bytearray):
    """One of a pool's. When nobody gives it back, its end makes room for another."""

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
        self._lock = threading.RLock()  # a buffer can end while we hold it

    def take(self) -> bytearray | None:
        """A buffer of `SIZE` bytes, with anything in it; None when all are in use."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if self._made == MOST:
                return None
            self._made += 1
        return _Buffer(self)

    def give(self, data: bytes | memoryview) -> None:
        """Nobody needs `data` any more; if it is a piece of one of our buffers, that is free again."""
        if isinstance(data, memoryview) and isinstance(data.obj, _Buffer):
            with self._lock:
                self._free.append(data.obj)

    def ended(self) -> None:
        """A buffer is no more."""
        with self._lock:
            self._made -= 1


POOL = Buffers()
