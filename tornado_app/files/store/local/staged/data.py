"""Staged bytes of one upload, open for appending and publication."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence

import msgspec

from holdfast.digests import SIZE
from tornado_app import fault_points, problems
from tornado_app.files import names
from tornado_app.files.store import page_cache
from tornado_app.files.store.interface import (
    ANYTHING,
    UNKNOWN,
    FileDigests,
    FileStat,
    Piece,
    Precondition,
    StagedData,
    digest_tag,
)
from tornado_app.files.store.local import atomic_file, digest_index, directory
from tornado_app.files.store.local.blocks import cloning
from tornado_app.files.store.local.blocks.staged_blocks import BLOCKS, StagedBlocks
from tornado_app.files.store.local.root import Root
from tornado_app.files.store.local.staged.publication_record import PublicationRecord
from tornado_app.files.store.local.staging_folder import StagingFolder

log = logging.getLogger("holdfast.files")

_WRITEBACK = 8 << 20  # bytes after which the disk begins to write them


class LocalStagedData:
    """`StagedData` with all its optional powers, on a local disk. It holds two descriptors at most."""

    def __init__(
        self, root: Root, staging: StagingFolder, id: str, data: int, info: bytes, published: FileStat | None
    ) -> None:
        self._root = root
        self._staging = staging
        self._fd = data
        self._blocks = StagedBlocks(staging, id)
        self._begun: int | None = None
        self.id = id
        self.info = info
        self.published = published
        if published is not None:
            self.offset, self.modified = published.size, published.modified_ns / 1e9
        else:
            status = os.fstat(data)
            self.offset, self.modified = status.st_size, status.st_mtime

    @property
    def _data(self) -> int:
        if self._fd < 0:
            with self._staging.open(self.id) as folder:
                self._fd = os.open("data", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        return self._fd

    def set_info(self, info: bytes) -> None:
        """See `StagedData`."""
        with self._staging.open(self.id) as folder, directory.disk_errors_as_problems():
            atomic_file.write(folder, "info", info, durable=self._staging.durable)
        self.info = info

    def write(self, pieces: Sequence[Piece]) -> None:
        """See `StagedData`."""
        data = self._fd if self._fd >= 0 else self._data
        written, error = page_cache.write(data, pieces, self.offset)
        begin, self.offset = self.offset, self.offset + written
        begin, end = (at - at % _WRITEBACK for at in (begin, self.offset))
        if begin < end:
            page_cache.begin_writeback(data, begin, end - begin)
        if error is not None:
            raise directory.as_problem(error) from error
        fault_points.point("append.written")

    def begin(self) -> None:
        """See `StagedData`."""
        with self._staging.open(self.id) as folder, directory.disk_errors_as_problems():
            atomic_file.write(folder, "trial", str(self.offset).encode(), durable=self._staging.durable)
        self._begun = self.offset
        fault_points.point("append.begun")

    def commit(self) -> None:
        """See `StagedData`."""
        fault_points.point("append.before-commit")
        with self._staging.open(self.id) as folder:
            atomic_file.remove(folder, "trial")
            if self._staging.durable:
                os.fsync(folder)  # a mark that came back after a power cut would take back what was acknowledged
        self._begun = None  # not before: while the mark may be there, a rollback must cut and remove it

    def rollback(self) -> None:
        """See `StagedData`."""
        if self._begun is not None:
            if self._begun < self.offset:
                self.truncate(self._begun)
            self.commit()

    def truncate(self, size: int) -> None:
        """See `Truncates`."""
        if size > self.offset:
            raise ValueError(f"can't cut {self.offset} bytes to {size}")
        self._blocks.cut(size)
        fault_points.point("truncate.blocks-cut")
        os.ftruncate(self._data, size)
        self.offset = size
        if self._staging.durable:
            os.fsync(self._data)  # the size: no power cut brings back what was refused

    def replace(self, offset: int, data: Piece) -> None:
        """See `ReplacesBytes`. The digests go first, so that none is ever of bytes that were replaced."""
        if offset + len(data) > self.offset:
            raise ValueError(f"can't replace bytes up to {offset + len(data)} of {self.offset}")
        self._blocks.drop(offset, len(data))
        fault_points.point("replace.before-bytes")
        with directory.disk_errors_as_problems():
            view = memoryview(data)
            while view:
                written = os.pwrite(self._data, view, offset)
                offset += written
                view = view[written:]
        fault_points.point("replace.written")

    def read(self, offset: int, count: int) -> bytes:
        """See `ReadsStagedData`."""
        return os.pread(self._data, count, offset)

    def keep_block_digests(self, first: int, digests: bytes) -> None:
        """See `KeepsBlockDigests`. Without room on the disk the blocks are read again after a restart."""
        try:
            self._blocks.write(first, digests)
        except OSError as error:
            if not directory.is_full(error):
                raise
        fault_points.point("append.digested")

    def kept_block_digests(self) -> bytes:
        """See `KeepsBlockDigests`."""
        return self._blocks.read(self.offset)

    def sync(self) -> None:
        """See `StagedData`."""
        getattr(os, "fdatasync", os.fsync)(self._data)  # macOS has no fdatasync

    def publish(self, name: str, digests: FileDigests = UNKNOWN, expect: Precondition = ANYTHING) -> FileStat:
        """See `StagedData`. The file and its digests show together; they are recorded with the last ctime."""
        names.check(name)
        with directory.disk_errors_as_problems():
            os.fsync(self._data)
            status = os.fstat(self._data)
            etag, sha256 = digest_tag(digests.sha256, digests.block_digest), digests.sha256
            known = self._root.digests.get(status, keep=False)[0] if status.st_nlink > 1 else None
            if known is not None:  # the same file has another name, with this version and perhaps further digests
                etag, sha256 = known.etag, known.sha256 or sha256
            note = PublicationRecord(
                name,
                status.st_size,
                status.st_mtime_ns,
                etag or digest_index.etag(status),
                sha256,
                status.st_ino,
                digests.block_digest,
            )
            with self._staging.open(self.id) as own:
                if digests.blocks is not None and len(digests.blocks) > SIZE:
                    self._blocks.complete(own, digests.blocks)
                    fault_points.point("publish.blocks-complete")
                atomic_file.write(own, "published", msgspec.json.encode(note), durable=True)
                if note.record is not None:
                    self._root.digests.begin_publication(status, note.record)
                try:
                    folder = self._place(name, own, expect)
                    try:
                        fault_points.point("publish.after-rename")
                        os.fsync(folder)
                    finally:
                        os.close(folder)
                    atomic_file.remove(own, "data")
                    status = os.fstat(self._data)
                    if note.record is not None:
                        if note.block_digest is not None and len(digests.blocks or b"") > SIZE:
                            self._root.digests.take_blocks(status, own, BLOCKS)
                        fault_points.point("publish.before-record")
                        self._root.digests.record(status, note.record)
                        self._root.contents.add(note.block_digest, name, note.size)
                finally:
                    self._root.digests.end_publication(status)
                if note.sha256 is None and self._root.pending is not None:
                    self._root.pending.add(status, name)
        self.close()  # nobody writes to a published file
        self.published = note.stat(status)
        return self.published

    def _place(self, name: str, own: int, expect: Precondition) -> int:
        """Give the bytes their name and return their folder, open. A refusal removes the record."""
        try:
            with self._root.target(name) as (folder, last):
                # Another may have taken the name from bytes that had grown in view.
                grown = self._root.shows(name, self._data)
                replaced = None if grown else self._expected(name, folder, last, expect)
                fault_points.point("publish.before-rename")
                placed = os.dup(folder)  # another may remove the file and its folder before we have synced it
                try:
                    if not grown:
                        with self._root.removal(name, folder, last, replaced):
                            self._root.give_name(own, "data", folder, name, absent=expect.absent)
                except BaseException:
                    os.close(placed)
                    raise
                return placed
        except BaseException:
            atomic_file.remove(own, "published")
            raise

    def _expected(self, name: str, folder: int, last: str, expect: Precondition) -> os.stat_result | None:
        """Return the status of the file that is about to be replaced, after checking the precondition."""
        found = self._root.current(name, folder, last)
        expect.check(name, None if found is None else self._root.describe(name, found[0]))
        return None if found is None or found[1] else found[0]

    def expose(self, name: str, expect: Precondition = ANYTHING) -> None:
        """See `GrowsInView`: a second link to the same inode."""
        if self._root.shows(name, self._data):
            return
        with directory.disk_errors_as_problems(), self._staging.open(self.id) as own:
            atomic_file.remove(own, "view")
            os.link("data", "view", src_dir_fd=own, dst_dir_fd=own)
            with self._root.target(name) as (folder, last):
                replaced = self._expected(name, folder, last, expect)
                fault_points.point("expose.before-rename")
                with self._root.removal(name, folder, last, replaced):
                    os.rename("view", last, src_dir_fd=own, dst_dir_fd=folder)

    def withdraw(self, name: str) -> None:
        """See `GrowsInView`."""
        try:
            with self._root.tree.parent(name) as (folder, last), self._root.lock:
                if not self._root.shows(name, self._data):
                    return
                os.unlink(last, dir_fd=folder)
        except problems.ProblemError:
            return  # there is no such folder any more
        self._root.prune(name)

    def join(self, parts: Sequence[StagedData]) -> None:
        """See `JoinsParts`: the file system copies, by reference where it can."""
        start = self.offset
        try:
            with directory.disk_errors_as_problems():
                for part in parts:
                    if not isinstance(part, LocalStagedData):
                        raise TypeError(f"{part!r} is of another store")
                    self._copy_from(part)
                    part.close()  # there may be more of them than descriptors
                    fault_points.point("join.copied")
        except BaseException:
            self.truncate(start)
            raise

    def _copy_from(self, part: LocalStagedData) -> None:
        done = 0
        while done < part.offset:
            count = cloning.copy_some(part._data, done, self._data, self.offset, part.offset - done)
            if count == 0:
                raise OSError(errno.EIO, f"the part {part.id} ended early")
            done += count
            self.offset += count

    def discard(self) -> None:
        """See `StagedData`."""
        self.close()
        gone = f".gone-{self.id}"
        self._staging.remove(gone)
        try:
            os.rename(self.id, gone, src_dir_fd=self._staging.fd, dst_dir_fd=self._staging.fd)
        except FileNotFoundError:
            return
        fault_points.point("discard.renamed")
        try:
            self._staging.remove(gone)
        except OSError:  # it is gone for everybody; the bytes go at the next start
            log.exception("%s could not be emptied", gone)

    def close(self) -> None:
        """See `StagedData`."""
        self._blocks.close()
        data, self._fd = self._fd, -1
        if data >= 0:
            os.close(data)
