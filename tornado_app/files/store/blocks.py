"""Optional power of a store: staged bytes that are written by blocks, in any order and by several threads at once.

Blocks and their digests are those of `holdfast.digests`. A store without it takes uploads from the first byte on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tornado_app.files.store.interface import FileReader, Piece, StagedData

HINTED = 64 << 20
"""Bytes of the smallest file that `FindsContent.find_similar` finds."""


class BlockData(Protocol):
    """The staged bytes of one upload, open for blocks. Every method may be called by several threads at once.

    The digest of a block is stored after its bytes: after a crash every digest is that of the bytes which are there,
    and after a power cut those that are not are found by reading. Raises NO_SPACE; what was stored before stays.
    """

    @property
    def digests(self) -> bytes:
        """Return 32 bytes for each block: its digest, or zeros while it is missing."""
        ...

    @property
    def expected(self) -> bytes | None:
        """Return the digests that the blocks should have, as they were given when it was prepared."""
        ...

    def write(self, index: int, pieces: Sequence[Piece], digest: bytes) -> bool:
        """Write one whole block, whose digest this is. Returns False if the same block is there already."""
        ...

    def drop(self, index: int) -> None:
        """Let a block count as missing."""
        ...

    def copy(self, source: FileReader, start: int, index: int, digests: bytes) -> bool:
        """Copy the blocks with these digests from block `start` of a file to `index`, but those that are there.

        Returns False when the file has changed since it was opened: nothing counts then.
        """
        ...

    def adopt(self, source: FileReader) -> bool:
        """Take the bytes of a published file, which has the digests that are expected, without copying them.

        Returns False when that is not possible, or when the file has changed: nothing counts then.
        """
        ...

    def sync(self) -> None:
        """Return once the blocks that are there survive a power cut."""
        ...

    def close(self) -> None:
        """Release handles. May be called twice."""
        ...


@runtime_checkable
class TakesBlocks(Protocol):
    """Optional power of a `FileStore`."""

    def prepare_blocks(self, staged: StagedData, expected: bytes | None) -> None:
        """Prepare new staged bytes, of which none is written, for blocks. `expected` are their digests, if known."""
        ...

    def open_blocks(self, staged: StagedData, size: int) -> BlockData:
        """Open staged bytes for blocks; `size` is that of the whole. One `BlockData` at a time may be open."""
        ...


@runtime_checkable
class FindsContent(Protocol):
    """Optional power of a `FileStore`: find a file by its content."""

    def find_content(self, block_digest: str) -> str | None:
        """Return the name of a file that has this block digest (hex), of one MiB at least; None for none."""
        ...

    def find_similar(self, size: int, first: bytes) -> str | None:
        """Return the name of a file of this size whose first block has this digest; None for none that is known."""
        ...
