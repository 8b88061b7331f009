"""Staged bytes that are written by blocks. Beside `data` in `uploads/<id>/`:

| file | says |
| --- | --- |
| `blocks` | 32 bytes for each block: its digest, written after its bytes; zeros while it is missing |
| `expected` | the digests that the blocks should have, if they were known at the creation |
| `boot` | the boot of the machine in which they were written; after another they are verified by reading |
| `adopted` | size and mtime of a published file that `data` is, under another name |
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from holdfast import digests as block_digests
from holdfast.digests import ABSENT, BLOCK, SIZE
from tornado_app import fault_points, problems
from tornado_app.files.store import page_cache
from tornado_app.files.store.interface import FileReader, Piece
from tornado_app.files.store.local import atomic_file, directory
from tornado_app.files.store.local.blocks import cloning
from tornado_app.files.store.local.blocks.boot import BOOT, BOOT_FILE
from tornado_app.files.store.local.root import Root
from tornado_app.files.store.local.staging_folder import StagingFolder
from tornado_app.files.store.optional_powers import HasDescriptor

_LOCKS = 64
_AT_ONCE = _LOCKS  # blocks that one copy has locked: neighbours, so each has another lock
_LINK = ".linked"
_OWN = ".own"


def prepare(staging: StagingFolder, id: str, expected: bytes | None) -> None:
    """Write what stands beside `data` before the first block. Raises NO_SUCH_UPLOAD, NO_SPACE."""
    with directory.disk_errors_as_problems(), staging.open(id) as folder:
        if expected is not None:
            atomic_file.write(folder, "expected", expected, durable=staging.durable)
        fault_points.point("blocks.prepared")
        atomic_file.write(folder, BOOT_FILE, BOOT, durable=staging.durable)


class LocalBlockData:
    """`BlockData` on a local disk. It holds two descriptors: of the bytes, and of the digests."""

    def __init__(self, root: Root, staging: StagingFolder, id: str, size: int) -> None:
        self._root, self._staging, self._id, self._size = root, staging, id, size
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._data = self._list = -1
        self._is_adopted = False  # `data` is, or was, a published file, too: nothing is written into it
        try:
            with directory.disk_errors_as_problems(), staging.open(id) as folder:
                self._data = os.open("data", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                options = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._list = os.open("blocks", options, 0o600, dir_fd=folder)
                self.expected = atomic_file.read(folder, "expected")
                length = block_digests.count(size) * SIZE
                self._digests = bytearray(_read(self._list, length).ljust(length, b"\0"))
                self._trust(folder)
                if ABSENT in self._each():
                    self._detach()
        except BaseException:
            self.close()
            raise

    # -- what is there

    @property
    def digests(self) -> bytes:
        """See `BlockData`."""
        return bytes(self._digests)

    def _trust(self, folder: int) -> None:
        """Verify by reading what may not be what it was: after another boot, or in a file that is published, too."""
        status = os.fstat(self._data)
        adopted = atomic_file.read(folder, "adopted")
        self._is_adopted = adopted is not None or status.st_nlink > 1
        is_same = adopted is None or adopted == _version(status)
        if is_same and atomic_file.read(folder, BOOT_FILE) == BOOT:
            return
        wanted = self._digests if is_same or self.expected is None else bytearray(self.expected)
        for index in range(len(wanted) // SIZE):
            digest = wanted[index * SIZE : (index + 1) * SIZE]
            if digest != ABSENT:
                found = block_digests.of_block(os.pread(self._data, self._length(index), index * BLOCK))
                self._note(index, digest if found == digest else ABSENT)
        if not is_same:
            _note_adoption(folder, status if status.st_nlink > 1 else None)
        atomic_file.write(folder, BOOT_FILE, BOOT, durable=self._staging.durable)

    def _each(self) -> Iterator[bytes]:
        return (bytes(self._digest(index)) for index in range(len(self._digests) // SIZE))

    def _detach(self) -> None:
        """Put an empty file in the place of `data` that is a published file, too: its blocks are missing then.

        Whoever reads the published file must never see what is sent here. The blocks are forgotten before the file
        changes, so that a crash in between does not trust them.
        """
        if not self._is_adopted:
            return
        self._note(0, bytes(len(self._digests)))
        with self._staging.open(self._id) as own:
            atomic_file.remove(own, _OWN)
            options = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fresh = os.open(_OWN, options, 0o666, dir_fd=own)
            try:
                os.rename(_OWN, "data", src_dir_fd=own, dst_dir_fd=own)
            except BaseException:
                os.close(fresh)
                raise
            os.close(self._data)
            self._data, self._is_adopted = fresh, False
            atomic_file.remove(own, "adopted")

    def _length(self, index: int) -> int:
        return min(BLOCK, self._size - index * BLOCK)

    def _digest(self, index: int) -> bytearray:
        return self._digests[index * SIZE : (index + 1) * SIZE]

    def _note(self, index: int, digests: bytes | bytearray) -> None:
        os.pwrite(self._list, digests, index * SIZE)
        self._digests[index * SIZE : index * SIZE + len(digests)] = digests

    @contextmanager
    def _locked(self, index: int, count: int = 1) -> Iterator[None]:
        """Lock neighbouring blocks, always in the same order."""
        with ExitStack() as held:
            for number in sorted({other % _LOCKS for other in range(index, index + min(count, _LOCKS))}):
                held.enter_context(self._locks[number])
            yield

    # -- changes

    def write(self, index: int, pieces: Sequence[Piece], digest: bytes) -> bool:
        """See `BlockData`."""
        if self._is_adopted and self._digest(index) != digest:
            with self._locked(0, _LOCKS), directory.disk_errors_as_problems():
                self._detach()
        with self._locked(index), directory.disk_errors_as_problems():
            if self._digest(index) == digest:
                return False
            if self._digest(index) != ABSENT:
                self._note(index, ABSENT)  # not the digest of what will be there for a while
            _write(self._data, pieces, index * BLOCK)
            page_cache.begin_writeback(self._data, index * BLOCK, BLOCK)
            fault_points.point("blocks.written")
            self._note(index, digest)
            fault_points.point("blocks.noted")
        return True

    def drop(self, index: int) -> None:
        """See `BlockData`."""
        with self._locked(index):
            self._note(index, ABSENT)

    def copy(self, source: FileReader, start: int, index: int, digests: bytes) -> bool:
        """See `BlockData`."""
        for first in range(0, len(digests) // SIZE, _AT_ONCE):
            part = digests[first * SIZE : (first + _AT_ONCE) * SIZE]
            with self._locked(index + first, len(part) // SIZE), directory.disk_errors_as_problems():
                for at, count in self._missing(index + first, len(part) // SIZE):
                    self._copy(source, start + at - index, at, count)
                fault_points.point("blocks.copied")
                if source.changed():
                    return False
                for at, count in self._missing(index + first, len(part) // SIZE):
                    begin = (at - index - first) * SIZE
                    self._note(at, part[begin : begin + count * SIZE])
        return True

    def _missing(self, index: int, count: int) -> list[tuple[int, int]]:
        """Return the runs of missing blocks among `count`, as first block and count."""
        runs: list[tuple[int, int]] = []
        for at in range(index, index + count):
            if self._digest(at) == ABSENT:
                if runs and sum(runs[-1]) == at:
                    runs[-1] = runs[-1][0], runs[-1][1] + 1
                else:
                    runs.append((at, 1))
        return runs

    def _copy(self, source: FileReader, start: int, index: int, count: int) -> None:
        size = min(count * BLOCK, self._size - index * BLOCK)
        if isinstance(source, HasDescriptor):
            cloning.copy_range(source.fileno(), start * BLOCK, self._data, index * BLOCK, size)
            page_cache.begin_writeback(self._data, index * BLOCK, size)
            return
        for at in range(0, size, BLOCK):
            _write(self._data, [source.read(start * BLOCK + at, min(BLOCK, size - at))], index * BLOCK + at)

    def adopt(self, source: FileReader) -> bool:
        """See `BlockData`. The file system shares the bytes if it can, else `data` becomes a link to the file."""
        if self.expected is None or not isinstance(source, HasDescriptor) or source.stat.size != self._size:
            return False
        is_adopted = False
        with self._locked(0, _LOCKS), directory.disk_errors_as_problems():
            try:
                if cloning.clone(source.fileno(), self._data) or self._link(source.stat.name, source.fileno()):
                    fault_points.point("blocks.adopted")
                    is_adopted = not source.changed()
                    if is_adopted:
                        self._note(0, self.expected)
            except BaseException:
                self._detach()
                raise
            if not is_adopted:
                self._detach()
        return is_adopted

    def _link(self, name: str, descriptor: int) -> bool:
        """Make `data` a link to a published file; returns False if its name no longer shows it, or it can't be.

        A link changes the ctime of the file, whose digests are therefore recorded again.
        """
        status = os.fstat(descriptor)
        index = self._root.digests
        known, _ = index.get(status)
        if known is None:
            return False
        index.begin_publication(status, known)
        try:
            with self._staging.open(self._id) as own:
                _note_adoption(own, status)
                if not self._place_link(name, status, own):
                    return False
                linked = os.open("data", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=own)
            os.close(self._data)
            self._data, self._is_adopted = linked, True
            index.record(os.fstat(linked), known)
        finally:
            index.end_publication(status)
        return True

    def _place_link(self, name: str, status: os.stat_result, own: int) -> bool:
        try:
            with self._root.tree.parent(name) as (folder, last), self._root.lock:
                os.link(last, _LINK, src_dir_fd=folder, dst_dir_fd=own, follow_symlinks=False)
        except (problems.ProblemError, OSError):  # the name is gone, or the file system has no links
            return False
        try:
            if not os.path.samestat(os.stat(_LINK, dir_fd=own, follow_symlinks=False), status):
                return False
            fault_points.point("blocks.linked")
            os.rename(_LINK, "data", src_dir_fd=own, dst_dir_fd=own)
            if self._staging.durable:
                os.fsync(own)
            return True
        finally:
            atomic_file.remove(own, _LINK)  # a rename of a file to itself leaves both names

    def sync(self) -> None:
        """See `BlockData`."""
        for fd in (self._data, self._list):
            getattr(os, "fdatasync", os.fsync)(fd)  # macOS has no fdatasync

    def close(self) -> None:
        """See `BlockData`."""
        data, self._data = self._data, -1
        listed, self._list = self._list, -1
        for fd in (data, listed):
            if fd >= 0:
                os.close(fd)


def _note_adoption(folder: int, status: os.stat_result | None) -> None:
    if status is None:
        atomic_file.remove(folder, "adopted")
    else:
        atomic_file.write(folder, "adopted", _version(status))


def _version(status: os.stat_result) -> bytes:
    return f"{status.st_size} {status.st_mtime_ns}\n".encode()


def _read(fd: int, size: int) -> bytes:
    parts = []
    offset = 0
    while offset < size and (part := os.pread(fd, size - offset, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _write(fd: int, pieces: Sequence[Piece], offset: int) -> None:
    """Write every piece, from `offset` on."""
    _, error = page_cache.write(fd, pieces, offset)
    if error is not None:
        raise error
