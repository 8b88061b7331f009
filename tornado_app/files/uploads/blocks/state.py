"""The blocks of one upload, as the event loop knows them: which are there, which are coming, which are missing."""

from __future__ import annotations

import re

from holdfast.digests import ABSENT, BLOCK, SIZE, count

_MISSING, _COMING, _THERE = range(3)
_RUN_TO_SEND = re.compile(rb"\x00+")
_RUN_NOT_THERE = re.compile(rb"[\x00\x01]+")

Runs = list[tuple[int, int]]
"""Runs of blocks: the first one, and the one after the last."""


class BlockMap:
    """State of every block of `size` bytes. `stored` is how many bytes are there."""

    def __init__(self, size: int, digests: bytes = b"") -> None:
        """`digests` has zeros for each block that is missing, and may end early."""
        self.size = size
        self.count = count(size)
        self.reset(digests)

    def reset(self, digests: bytes) -> None:
        """Take the blocks that have a digest as there, and no others."""
        self.stored = 0
        self._states = bytearray(self.count)
        for index in range(min(self.count, len(digests) // SIZE)):
            if digests[index * SIZE : (index + 1) * SIZE] != ABSENT:
                self.add(index)

    def length(self, index: int) -> int:
        """Return the bytes of a block."""
        return min(BLOCK, self.size - index * BLOCK)

    def add(self, index: int) -> None:
        """Count a block as there."""
        if self._states[index] != _THERE:
            self._states[index] = _THERE
            self.stored += self.length(index)

    def remove(self, index: int) -> None:
        """Count a block as missing."""
        if self._states[index] == _THERE:
            self.stored -= self.length(index)
        self._states[index] = _MISSING

    def announce(self, runs: Runs) -> None:
        """Count the missing blocks of these runs as coming: nobody has to send them."""
        for first, end in runs:
            for index in range(first, end):
                if self._states[index] == _MISSING:
                    self._states[index] = _COMING

    def forget_coming(self) -> None:
        """Count what was coming, and has not come, as missing."""
        self._states = self._states.replace(bytes([_COMING]), bytes([_MISSING]))

    @property
    def is_complete(self) -> bool:
        """Return whether every block is there."""
        return self.stored == self.size

    def to_send(self) -> Runs:
        """Return the runs of blocks that are neither there nor coming."""
        return [match.span() for match in _RUN_TO_SEND.finditer(self._states)]

    def not_there(self) -> Runs:
        """Return the runs of blocks that are not there."""
        return [match.span() for match in _RUN_NOT_THERE.finditer(self._states)]
