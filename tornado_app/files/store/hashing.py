"""The digests of staged bytes, made as they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from holdfast import digests as block_digests
from holdfast.digests import SIZE, BlockHasher
from tornado_app.files.store import powers
from tornado_app.files.store.interface import FileDigests, Piece, StagedData
from tornado_app.files.store.optional_powers import KeepsBlockDigests, ReadsStagedData
from tornado_app.protocols.digests import BLOCK_ALGORITHM, HASHLIB

SMALL = 64 << 10
"""Bytes of the largest file whose SHA-256 is made as it arrives although nobody has asked for it."""

_READ = 1 << 20
_CATCH_UP = 8 << 20


class RunningDigest:
    """The digests of a `StagedData` so far. For one thread at a time; only `mark` may be called on the event loop.

    Bytes from before a restart are read again: all for the SHA-256, and for the block digests those whose blocks the
    store has not kept the digests of (`KeepsBlockDigests`). Where the store can't read staged bytes there is then no
    digest.
    """

    def __init__(self, staged: StagedData, *, blocks: bool, sha256: bool, small_sha256: bool = False) -> None:
        """Make block digests; the SHA-256, or that of a small file only."""
        self._staged = staged
        self._blocks = _Blocks(staged) if blocks and block_digests.AVAILABLE else None
        self._sha256 = _Sha256(None if sha256 else SMALL) if sha256 or small_sha256 else None
        self._made: tuple[_Digest, ...] = tuple(filter(None, (self._blocks, self._sha256)))
        # A store that can read gets block digests back to any point by reading less than a block.
        self._marked = tuple(filter(None, (self._sha256,))) if isinstance(staged, ReadsStagedData) else self._made

    def feed(self, offset: int, pieces: Sequence[Piece]) -> None:
        """Add bytes that were written at `offset`. What is behind reads on by a part only, so that writers go on."""
        if self._blocks is not None:
            self._blocks.open(offset)
        for digest in self._made:
            if digest.position == offset:
                digest.feed(pieces)
            else:
                size = sum(map(len, pieces))
                self._read_on(digest, min(self._staged.offset, digest.position + _CATCH_UP + size))

    def mark(self) -> None:
        """Remember this point: the bytes from here on may be cut off again."""
        for digest in self._marked:
            digest.mark()

    def cut(self, size: int) -> None:
        """Forget the bytes after `size`, which were cut off."""
        for digest in self._made:
            digest.cut(size)

    def replace(self, offset: int, data: Piece) -> None:
        """Replace bytes that were added; `offset` starts a block, and they end with a block or with the upload."""
        if self._blocks is not None:
            self._blocks.open(self._staged.offset)
        for digest in self._made:
            digest.replace(offset, data)

    def result(self) -> FileDigests:
        """Return the digests of all that is staged, as far as they are known; reads what was not added."""
        if self._blocks is not None:
            self._blocks.open(self._staged.offset)
        for digest in self._made:
            self._read_on(digest, self._staged.offset)
        blocks, sha256 = self._blocks, self._sha256
        end = self._staged.offset
        return FileDigests(
            sha256.result() if sha256 is not None and sha256.position == end else None,
            blocks.result() if blocks is not None and blocks.position == end else None,
        )

    def _read_on(self, digest: _Digest, end: int) -> None:
        if not isinstance(self._staged, ReadsStagedData) or not digest.is_made_of(self._staged.offset):
            return
        while digest.position < end:
            piece = self._staged.read(digest.position, min(_READ, end - digest.position))
            if not piece:
                raise OSError(f"the staged bytes of {self._staged.id} ended at {digest.position}, not at {end}")
            digest.feed((piece,))


@dataclass(frozen=True, slots=True)
class DigestChoice:
    """Digests that are made of uploads as they arrive, apart from those that a sender has given.

    `blocks`: block digests. `sha256`: the SHA-256 of every upload, or of small ones alone.
    """

    blocks: bool = True
    sha256: Literal["all", "small", "none"] = "small"

    @classmethod
    def wanted(cls, *, check: bool, sha256: bool) -> DigestChoice:
        """Return the digests that the settings ask for. Where BLAKE3 is missing SHA-256 takes its place."""
        blocks = check and block_digests.AVAILABLE
        if not sha256:
            return cls(blocks, "none")
        return cls(blocks, "all" if check and not blocks else "small")

    def of(self, staged: StagedData, given: Collection[str] = ()) -> RunningDigest:
        """Return the digests to be made of staged bytes; `given` names those that the sender has given."""
        return RunningDigest(
            staged,
            blocks=self.blocks or BLOCK_ALGORITHM in given,
            sha256=self.sha256 == "all" or "sha-256" in given,
            small_sha256=self.sha256 == "small",
        )


class _Digest(Protocol):
    """One digest of the bytes before `position`."""

    @property
    def position(self) -> int: ...

    def is_made_of(self, size: int) -> bool:
        """Return whether it is wanted of so many bytes."""
        ...

    def feed(self, pieces: Sequence[Piece]) -> None: ...

    def mark(self) -> None: ...

    def cut(self, size: int) -> None: ...

    def replace(self, offset: int, data: Piece) -> None: ...


class _Blocks:
    """Block digests. Those of whole blocks are kept beside the bytes, if the store can."""

    def __init__(self, staged: StagedData) -> None:
        self._staged = staged
        self._hasher: BlockHasher | None = None
        self._kept = 0  # bytes of digests
        self._mark: BlockHasher | None = None

    @property
    def position(self) -> int:
        return 0 if self._hasher is None else self._hasher.position

    def is_made_of(self, size: int) -> bool:
        return True

    def open(self, size: int) -> None:
        """Find the digests of whole blocks among the first `size` bytes; called before all but `mark` and `cut`."""
        if self._hasher is None:
            kept, whole = b"", size // block_digests.BLOCK * SIZE
            if whole and isinstance(self._staged, KeepsBlockDigests):
                kept = _known(self._staged.kept_block_digests()[:whole])
            self._hasher = BlockHasher(kept)
            self._kept = len(self._hasher.digests)

    def feed(self, pieces: Sequence[Piece]) -> None:
        if self._hasher is not None:
            self._hasher.feed(pieces)
            made = self._hasher.digests
            if len(made) > self._kept and isinstance(self._staged, KeepsBlockDigests):
                self._staged.keep_block_digests(self._kept // SIZE, bytes(made[self._kept :]))
                self._kept = len(made)

    def mark(self) -> None:
        self._mark = None if self._hasher is None else self._hasher.copy()

    def cut(self, size: int) -> None:
        if self._hasher is None or self._hasher.position <= size:
            return
        if self._mark is not None and self._mark.position == size:
            self._hasher = self._mark.copy()
        else:
            self._hasher.cut(size)
        self._kept = min(self._kept, len(self._hasher.digests))

    def replace(self, offset: int, data: Piece) -> None:
        if self._hasher is None:
            return
        view, made = memoryview(data), self._hasher.digests
        for at in range(0, len(view), block_digests.BLOCK):
            start = (offset + at) // block_digests.BLOCK * SIZE
            if start >= len(made):  # the last block, of which not all has come
                self.cut(offset + at)
                break
            made[start : start + SIZE] = block_digests.of_block(view[at : at + block_digests.BLOCK])
            if isinstance(self._staged, KeepsBlockDigests):
                self._staged.keep_block_digests(start // SIZE, bytes(made[start : start + SIZE]))

    def result(self) -> bytes | None:
        return None if self._hasher is None else self._hasher.blocks()


def _known(digests: bytes) -> bytes:
    """Return the digests before the first one that is absent."""
    for at in range(0, len(digests), SIZE):
        if digests[at : at + SIZE] == block_digests.ABSENT:
            return digests[:at]
    return digests


class _Sha256:
    """The SHA-256; given up once there are more than `most` bytes."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._sha256 = hashlib.sha256()
        self.position = 0
        self._mark: tuple[hashlib._Hash, int] | None = None

    def is_made_of(self, size: int) -> bool:
        return self._most is None or size <= self._most

    def feed(self, pieces: Sequence[Piece]) -> None:
        size = sum(map(len, pieces))
        self.position += size
        if self._most is None or self.position <= self._most:
            for piece in pieces:
                self._sha256.update(piece)

    def mark(self) -> None:
        self._mark = self._sha256.copy(), self.position

    def cut(self, size: int) -> None:
        if self.position > size:
            sha256, position = self._mark or (hashlib.sha256(), 0)
            if position > size:
                sha256, position = hashlib.sha256(), 0
            self._sha256, self.position = sha256.copy(), position

    def replace(self, offset: int, data: Piece) -> None:
        if self.position > offset:  # what comes after has to be added again
            self._sha256, self.position, self._mark = hashlib.sha256(), 0, None

    def result(self) -> str | None:
        return self._sha256.hexdigest() if self.is_made_of(self.position) else None


def digest_of(staged: StagedData, algorithm: str) -> bytes:
    """Return the digest of all that is staged, by its name in Repr-Digest or Block-Digest; reads all of it."""
    made = BlockHasher() if algorithm == BLOCK_ALGORITHM else hashlib.new(HASHLIB[algorithm])
    offset = 0
    while piece := powers.read(staged, offset, _READ):
        if isinstance(made, BlockHasher):
            made.feed((piece,))
        else:
            made.update(piece)
        offset += len(piece)
    return made.result() if isinstance(made, BlockHasher) else made.digest()
