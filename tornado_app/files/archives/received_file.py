"""A file that a worker thread receives inside another request: nobody else knows its upload, and it is not resumed."""

from __future__ import annotations

import logging

from holdfast import digests as block_digests
from tornado_app import problems
from tornado_app.files.store.interface import FileDigests, FileStat, Piece, Precondition, StagedData

log = logging.getLogger("holdfast.files")


class ReceivedFile:
    """Bytes that are staged until they are whole; with `blocks` their block digests are made as they come. Blocks."""

    def __init__(self, staged: StagedData, name: str, expect: Precondition, *, blocks: bool) -> None:
        self._staged = staged
        self._name = name
        self._expect = expect
        self._hasher = block_digests.BlockHasher() if blocks else None

    def write(self, data: Piece) -> None:
        """Append bytes. Raises NO_SPACE."""
        self._staged.write([data])
        if self._hasher is not None:
            self._hasher.feed([data])

    def publish(self) -> FileStat:
        """Make it a file, and remove what was staged. Raises as `StagedData.publish`; nothing is kept then."""
        try:
            blocks = None if self._hasher is None else self._hasher.blocks()
            return self._staged.publish(self._name, FileDigests(blocks=blocks), self._expect)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what was staged."""
        try:
            self._staged.discard()
        except (problems.ProblemError, OSError):  # the next server removes it
            log.exception("what is left of upload %s could not be removed", self._staged.id)
