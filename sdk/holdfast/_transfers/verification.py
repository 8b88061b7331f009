"""Verification of local files by block digests: of a download as its bytes are written, of a target that is there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from holdfast import calls, digests, plans, wire
from holdfast._local_files.local_digests import LocalDigests, PassingBlocks
from holdfast._local_files.part_file import PartFile, PartSource
from holdfast._local_files.records import RecordFile
from holdfast._local_files.sources import FileSource, sha256_of
from holdfast._transfers.segments import Range, merged
from holdfast.digests import ABSENT, BLOCK, SIZE
from holdfast.errors import APIError, NotFound
from holdfast.plans import Do, Plan, Retries, request

TRIES = 3  # how often wrong blocks are fetched again


class BlockCheck:
    """Digests of the blocks of a part file: made as bytes are written, saved beside its record, compared at the end.

    A block that was written in pieces by several workers or runs is read back, mostly from the page cache. Thread-safe.
    """

    def __init__(self, part: PartFile, size: int) -> None:
        self.size = size
        self._digests = LocalDigests(PartSource(part, size), size)
        self._saved = bytes(digests.count(size) * SIZE)

    def restore(self, saved: bytes, done: Sequence[Range]) -> None:
        """Take over saved digests, those of the blocks that are within ranges that are done."""
        for begin, end in done:
            last = digests.count(end) if end == self.size else end // BLOCK
            for index in range(-(-begin // BLOCK), last):
                digest = saved[index * SIZE : (index + 1) * SIZE]
                if len(digest) == SIZE and digest != ABSENT:
                    self._digests.set(index, digest)
        self._saved = self._digests.blocks()

    def save(self, file: RecordFile) -> None:
        """Write the digests that have changed since the last call. For one thread at a time."""
        blocks = self._digests.blocks()
        changed = [(index, index + 1) for index in digests.wrong_blocks(blocks, self._saved)]
        for first, last in merged(changed):
            file.save_digests(blocks[first * SIZE : last * SIZE], first * SIZE)
        self._saved = blocks

    def passing(self) -> PassingBlocks:
        """Return the hasher for the bytes of one worker."""
        return PassingBlocks(self._digests)

    def compare(self, name: str, etag: str, digest: str, retries: Retries) -> Plan[list[int] | None]:
        """Return the blocks that are wrong, none if the file has the digest; None if the server does not say which.

        Raises:
            PreconditionFailed: the file on the server is another version.
        """
        while not (yield Do(self._digests.step)):
            pass
        if self._digests.result().hex() == digest:
            return []
        if self._digests.count == 1:
            return [0]
        try:
            theirs: wire.BlockDigests = yield from request(calls.file_digests(name, etag=etag), retries)
        except NotFound:
            return None
        except APIError as error:
            if error.status not in (405, 501):
                raise
            return None
        if theirs.size != self.size or digests.of_blocks(theirs.blocks).hex() != digest:
            return None
        return digests.wrong_blocks(self._digests.blocks(), theirs.blocks)

    def forget(self, blocks: Sequence[int]) -> list[Range]:
        """Forget blocks that are to be fetched again, and return the ranges of the file that the others make up."""
        for index in blocks:
            self._digests.forget(index)
        ends = [(index * BLOCK, min(self.size, (index + 1) * BLOCK)) for index in sorted(blocks)]
        starts = [0, *(end for _, end in ends)]
        return [
            (begin, end)
            for begin, end in zip(starts, [*(begin for begin, _ in ends), self.size], strict=True)
            if begin < end
        ]


def feed(passing: PassingBlocks, at: int, data: bytes | memoryview) -> None:
    """Hash bytes of any length that were written at `at`."""
    view = memoryview(data)
    while view:
        count = BLOCK - at % BLOCK
        passing.feed(at, view[:count])
        view, at = view[count:], at + count


def is_same(path: Path, name: str, file: calls.FileHead | wire.FileInfo, retries: Retries) -> Plan[bool]:
    """Return whether a local file of the same size has the content of a file of the server; False if none can say."""
    if file.block_digest is not None and digests.AVAILABLE:
        return (yield from _block_digest(path)) == file.block_digest
    sha256 = file.sha256
    if sha256 is None and file.block_digest is not None:  # this side can't compute block digests
        info = yield from plans.info(name, retries, sha256=True)
        sha256 = info.sha256 if info.etag == file.etag else None
    return sha256 is not None and (yield Do(partial(sha256_of, path))) == sha256


def _block_digest(path: Path) -> Plan[str]:
    source: FileSource = yield Do(FileSource(path).stat)
    local = LocalDigests(source, source.size or 0)

    def steps() -> Plan[str]:
        while not (yield Do(local.step)):
            pass
        return local.result().hex()

    return (yield from plans.ensured(steps(), source.close))
