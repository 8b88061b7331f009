"""The SHA-256 of staged bytes, made as they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tornado_app.files.store import powers
from tornado_app.files.store.interface import Piece, ReadsStagedData, StagedData
from tornado_app.protocols.digests import HASHLIB

_READ = 1 << 20
_CATCH_UP = 8 << 20


class RunningDigest:
    """The digest of a `StagedData` so far; bytes from before a restart are read again.

    Where the store can't read staged bytes there is then no digest. For one thread at a time.
    """

    def __init__(self, staged: StagedData) -> None:
        self._staged = staged
        self._sha256 = hashlib.sha256()
        self._position = 0
        self._mark: tuple[hashlib._Hash, int] | None = None

    def feed(self, offset: int, pieces: Sequence[Piece]) -> None:
        """Add bytes that were written at `offset`. When it is behind, read on by a part only, so that writers go on."""
        if self._position == offset:
            for piece in pieces:
                self._sha256.update(piece)
                self._position += len(piece)
        else:
            self._read_on(min(self._staged.offset, self._position + _CATCH_UP + sum(map(len, pieces))))

    def mark(self) -> None:
        """Remember this point: the bytes from here on may be cut off again."""
        self._mark = self._sha256.copy(), self._position

    def cut(self, size: int) -> None:
        """Forget the bytes after `size`, which were cut off."""
        if self._position > size:
            sha256, position = self._mark or (hashlib.sha256(), 0)
            if position > size:
                sha256, position = hashlib.sha256(), 0
            self._sha256, self._position = sha256.copy(), position

    def result(self) -> str | None:
        """Return the digest of all that is staged, as hex; reads what was not added. None where it can't."""
        self._read_on(self._staged.offset)
        return self._sha256.hexdigest() if self._position == self._staged.offset else None

    def _read_on(self, end: int) -> None:
        if not isinstance(self._staged, ReadsStagedData):
            return
        while self._position < end:
            piece = self._staged.read(self._position, min(_READ, end - self._position))
            if not piece:
                raise OSError(f"the staged bytes of {self._staged.id} ended at {self._position}, not at {end}")
            self._sha256.update(piece)
            self._position += len(piece)


def digest_of(staged: StagedData, algorithm: str) -> bytes:
    """Return the digest of all that is staged, by an algorithm's name in RFC 9530; reads all of it."""
    made = hashlib.new(HASHLIB[algorithm])
    offset = 0
    while piece := powers.read(staged, offset, _READ):
        made.update(piece)
        offset += len(piece)
    return made.digest()
