"""Digests of the blocks of a local source, made as its bytes are sent or read ahead by several threads. Blocks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from holdfast import digests
from holdfast._local_files.sources import LocalSource
from holdfast.digests import ABSENT, BLOCK, SIZE, BlockHasher
from holdfast.errors import LocalChanged

THREADS = min(4, os.cpu_count() or 1)
STEP = 256  # blocks that are hashed by one call, so that a pause waits for a moment only
READ = 256 << 10  # bytes that are read and hashed together, so that they fit into the cache of the processor


class LocalDigests:
    """Digests of the blocks of a source of known size. Each block is hashed once. Thread-safe."""

    def __init__(self, source: LocalSource, size: int) -> None:
        self.size = size
        self.count = digests.count(size)
        self._source = source
        self._list = bytearray(self.count * SIZE)
        self._next = 0  # before it are no unknown blocks
        self._lock = threading.Lock()

    def get(self, index: int) -> bytes | None:
        """Return the digest of a block; None if it is not known."""
        found = bytes(self._list[index * SIZE : (index + 1) * SIZE])
        return None if found == ABSENT else found

    def set(self, index: int, digest: bytes) -> None:
        """Note the digest of a block."""
        with self._lock:
            self._list[index * SIZE : (index + 1) * SIZE] = digest

    def forget(self, index: int) -> None:
        """Forget the digest of a block, which is to be hashed again."""
        with self._lock:
            self._list[index * SIZE : (index + 1) * SIZE] = ABSENT
            self._next = min(self._next, index)

    def end_of(self, index: int) -> int:
        """Return where a block ends in the source."""
        return min(self.size, (index + 1) * BLOCK)

    def blocks(self) -> bytes:
        """Return all digests, one after another, with zeros for those that are not known."""
        return bytes(self._list)

    def unknown(self, first: int = 0, last: int | None = None) -> Iterator[int]:
        """Iterate over the blocks from `first` up to, not including, `last` whose digests are not known."""
        return (i for i in range(first, self.count if last is None else last) if self.get(i) is None)

    def step(self, first: int = 0, last: int | None = None) -> bool:
        """Hash some of the blocks that are not known. Return whether all of them are known now.

        Raises:
            LocalChanged: the source is shorter than it was.
        """
        last = self.count if last is None else last
        start = max(first, self._next)
        wanted = [*islice(self.unknown(start, last), STEP)]
        if wanted:
            self._hash_all(wanted)
        if start == self._next:
            self._next = last if len(wanted) < STEP else wanted[-1] + 1
        return len(wanted) < STEP

    def _hash_all(self, wanted: list[int]) -> None:
        threads = min(THREADS, len(wanted))
        if threads == 1:
            self._hash(wanted)
            return
        left = iter(wanted)  # shared: a thread whose core is busy with other things takes fewer
        with ThreadPoolExecutor(threads, "holdfast-digest") as pool:
            for _ in pool.map(self._hash, [left] * threads):
                pass

    def _hash(self, wanted: Iterable[int]) -> None:
        buffer = memoryview(bytearray(READ))
        for index in wanted:
            if self.get(index) is None:  # not sent meanwhile
                self.set(index, self._digest_of(index * BLOCK, self.end_of(index), buffer))

    def _digest_of(self, at: int, end: int, buffer: memoryview) -> bytes:
        hasher = BlockHasher()
        while at < end:
            count = self._source.read_into(at, buffer[: end - at])
            if not count:
                raise LocalChanged(f"the source ended {end - at} bytes early. Upload it again")
            hasher.feed([buffer[:count]])
            at += count
        return hasher.blocks()

    def result(self) -> bytes:
        """Return the digest of the whole file. All blocks have to be known."""
        return digests.of_blocks(self._list)


class PassingBlocks:
    """Hashes the blocks of one body as its bytes pass, those that are not known yet. For one thread."""

    def __init__(self, local: LocalDigests) -> None:
        self._local = local
        self._hasher: BlockHasher | None = None
        self._at = 0

    def feed(self, at: int, piece: bytes | memoryview) -> None:
        """Add bytes of the source from `at` on, which do not go past the end of a block."""
        index, within = divmod(at, BLOCK)
        if self._local.get(index) is not None:
            return
        end = at + len(piece)
        if not within:
            if end == self._local.end_of(index):
                self._local.set(index, digests.of_block(piece))
                return
            self._hasher = BlockHasher()
        elif self._hasher is None or self._at != at:
            return  # its start was not seen: it is hashed at the end
        self._hasher.feed([piece])
        self._at = end
        if end == self._local.end_of(index):
            self._local.set(index, self._hasher.blocks())
            self._hasher = None
