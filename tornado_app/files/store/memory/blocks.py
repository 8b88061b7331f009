"""Staged bytes in memory that are written by blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from holdfast import digests as block_digests
from holdfast.digests import ABSENT, BLOCK, SIZE
from tornado_app import problems
from tornado_app.files.store.interface import FileReader, Piece


class MemoryBlockData:
    """`BlockData` of the memory store, on a byte array that it shares with the staged bytes."""

    def __init__(
        self,
        lock: threading.RLock,
        data: bytearray,
        touch: Callable[[], None],
        digests: bytearray,
        expected: bytes | None,
        size: int,
    ) -> None:
        """`touch` is called after each change of `data`; `size` is that of the whole."""
        self._lock, self._data, self._touch, self._digests, self._size = lock, data, touch, digests, size
        self.expected = expected
        digests.extend(bytes(block_digests.count(size) * SIZE - len(digests)))

    @property
    def digests(self) -> bytes:
        """See `BlockData`."""
        return bytes(self._digests)

    def write(self, index: int, pieces: Sequence[Piece], digest: bytes) -> bool:
        """See `BlockData`."""
        with self._lock:
            if self._digests[index * SIZE : (index + 1) * SIZE] == digest:
                return False
            self._put(index * BLOCK, b"".join(pieces))
            self._note(index, digest)
            return True

    def drop(self, index: int) -> None:
        """See `BlockData`."""
        with self._lock:
            self._note(index, ABSENT)

    def copy(self, source: FileReader, start: int, index: int, digests: bytes) -> bool:
        """See `BlockData`."""
        for at in range(len(digests) // SIZE):
            piece = source.read((start + at) * BLOCK, BLOCK)
            if source.changed():
                return False
            with self._lock:
                if self._digests[(index + at) * SIZE : (index + at + 1) * SIZE] == ABSENT:
                    self.write(index + at, [piece], digests[at * SIZE : (at + 1) * SIZE])
        return True

    def adopt(self, source: FileReader) -> bool:
        """See `BlockData`."""
        if self.expected is None or source.stat.size != self._size:
            return False
        content = source.read(0, self._size)
        if source.changed():
            return False
        with self._lock:
            self._put(0, content)
            self._note(0, self.expected)
        return True

    def _put(self, offset: int, content: bytes) -> None:
        try:
            self._data.extend(bytes(max(0, offset + len(content) - len(self._data))))
        except MemoryError:
            raise problems.NO_SPACE("the memory of the file store is full; delete files, then go on") from None
        self._data[offset : offset + len(content)] = content
        self._touch()

    def _note(self, index: int, digests: bytes) -> None:
        self._digests[index * SIZE : index * SIZE + len(digests)] = digests

    def sync(self) -> None:
        """Return at once: nothing here survives a power cut."""

    def close(self) -> None:
        """See `BlockData`."""
