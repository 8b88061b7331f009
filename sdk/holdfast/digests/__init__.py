"""Block digests: BLAKE3 of each MiB of a file, and of the list of them. Both sides compute them; no I/O.

**Definition.** A file is cut into blocks of 1 MiB (1,048,576 bytes); the last one is as long as what is left, and an
empty file has none. The *digest of a block* is its BLAKE3 hash (32 bytes, https://github.com/BLAKE3-team/BLAKE3-specs).
The *digest of the file* is the BLAKE3 hash of the digests of its blocks, one after another in order. Header fields
write it as RFC 9530 does, under the name `blake3-1m`; JSON writes it as 64 hexadecimal digits. In a shell:

    split -b 1M --filter='b3sum --raw' FILE | b3sum

Blocks can be computed in any order, by several threads, and are never read again after a pause or a crash. Where
`blake3` is not installed `AVAILABLE` is False, and SHA-256 takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

try:
    from blake3 import blake3
except ImportError:  # no wheel for this platform: transfers are verified by SHA-256
    AVAILABLE = False
else:
    AVAILABLE = True

BLOCK = 1 << 20
"""Bytes of a block."""

SIZE = 32
"""Bytes of a digest."""

ALGORITHM = "blake3-1m"
"""Name of the digest of a file in header fields."""

ABSENT = bytes(SIZE)
"""In a list of digests: the block is not known. No content has this digest, as far as anybody knows."""


def of_block(data: bytes | bytearray | memoryview) -> bytes:
    """Return the digest of one block."""
    return blake3(data).digest()


def of_blocks(digests: bytes | bytearray) -> bytes:
    """Return the digest of the file whose blocks have these digests, one after another."""
    return blake3(digests).digest()


def of_file(data: bytes | bytearray | memoryview) -> bytes:
    """Return the digest of a whole file in memory."""
    view = memoryview(data).cast("B")
    return of_blocks(b"".join(of_block(view[at : at + BLOCK]) for at in range(0, len(view), BLOCK)))


def of_proof(nonce: bytes, blocks: Iterable[bytes | bytearray | memoryview]) -> bytes:
    """Return the proof that one has the content of blocks, and not only their digests.

    It is the keyed BLAKE3 hash of the blocks, one after another, whose key is the `nonce` (32 random bytes) of whoever
    asks for the proof.
    """
    hasher = blake3(key=nonce)
    for block in blocks:
        hasher.update(block)
    return hasher.digest()


def count(size: int) -> int:
    """Return how many blocks a file of `size` bytes has."""
    return -(-size // BLOCK)


class BlockHasher:
    """Digests of bytes that arrive in order: `position` is where the next one belongs. For one thread at a time."""

    __slots__ = ("_block", "_filled", "digests", "position")

    def __init__(self, digests: bytes | bytearray = b"") -> None:
        """`digests` are those of the blocks before; the bytes after these are to be fed."""
        self.digests = bytearray(digests)
        self.position = len(self.digests) // SIZE * BLOCK
        self._block = blake3()
        self._filled = 0

    def feed(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """Add bytes at `position`."""
        for piece in pieces:
            view, at, size = memoryview(piece), 0, len(piece)
            while at < size:
                part = view[at : at + BLOCK - self._filled]
                self._block.update(part)
                at += len(part)
                self._filled += len(part)
                if self._filled == BLOCK:
                    self.digests += self._block.digest()
                    self._block.reset()
                    self._filled = 0
            self.position += size

    def cut(self, size: int) -> int:
        """Forget the bytes after `size`. Return where to feed on: `size`, or the start of the block that it is in."""
        if size < self.position:
            del self.digests[size // BLOCK * SIZE :]
            self._block.reset()
            self._filled, self.position = 0, len(self.digests) // SIZE * BLOCK
        return self.position

    def copy(self) -> BlockHasher:
        """Return one that goes on from here by itself."""
        other = BlockHasher(self.digests)
        other.position, other._block, other._filled = self.position, self._block.copy(), self._filled
        return other

    def blocks(self) -> bytes:
        """Return the digests of all blocks so far; the last one may be incomplete."""
        return bytes(self.digests) + (self._block.digest() if self._filled else b"")

    def result(self) -> bytes:
        """Return the digest of all bytes so far, as a file."""
        return of_blocks(self.blocks())


def wrong_blocks(digests: bytes, expected: bytes) -> list[int]:
    """Return the indexes of the blocks whose digests differ, or that only one of the lists has."""
    longest = max(len(digests), len(expected))
    return [at // SIZE for at in range(0, longest, SIZE) if digests[at : at + SIZE] != expected[at : at + SIZE]]
