"""Memory store itself: published files, their digests, and the uploads that it creates and loads."""

from __future__ import annotations

import dataclasses
import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence

from tornado_app import problems
from tornado_app.files import names
from tornado_app.files.store.blocks import HINTED
from tornado_app.files.store.interface import (
    ANYTHING,
    FileDigests,
    FileReader,
    FileStat,
    PlacedFile,
    Precondition,
    SmallFile,
    StagedData,
)
from tornado_app.files.store.memory.blocks import MemoryBlockData
from tornado_app.files.store.memory.contents import (
    MemoryContent,
    MemoryContents,
    MemoryFile,
    MemoryUpload,
    no_such_file,
    no_such_upload,
)
from tornado_app.files.store.memory.staged import MemoryStagedData
from tornado_app.files.store.optional_powers import PendingDigest

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class MemoryReader:
    """`FileReader` of the memory store."""

    def __init__(self, stat: FileStat, content: MemoryContent) -> None:
        self.stat = stat
        self.content = content
        self._writes = content.writes

    def read(self, offset: int, count: int) -> bytes:
        """See `FileReader`."""
        end = min(offset + count, self.stat.size)
        return bytes(self.content.data[offset:end]) if offset < end else b""

    def changed(self) -> bool:
        """See `FileReader`."""
        return self.content.writes != self._writes

    def close(self) -> None:
        """See `FileReader`."""


class MemoryStore:
    """`FileStore` in the memory of this process."""

    part_size = 1
    is_persistent = False

    def __init__(self, contents: MemoryContents | None = None, *, marks_digests: bool = False) -> None:
        """`marks_digests`: mark files that are published without a SHA-256, see `MarksDigests`."""
        self.contents = contents or MemoryContents()
        self.contents.marks_digests = marks_digests

    def start(self) -> None:
        """See `FileStore`."""

    def close(self) -> None:
        """See `FileStore`."""

    # -- published files

    def stat(self, name: str) -> FileStat:
        """See `FileStore`."""
        with self.contents.lock:
            return self._find(name).describe(name)

    def open(self, name: str) -> MemoryReader:
        """See `FileStore`."""
        with self.contents.lock:
            file = self._find(name)
            return MemoryReader(file.describe(name), file.content)

    def _find(self, name: str) -> MemoryFile:
        file = self.contents.files.get(name)
        if file is None:
            raise no_such_file(name)
        return file

    def open_at_once(self, name: str) -> MemoryReader:
        """See `OpensAtOnce`: nothing here waits for a disk."""
        return self.open(name)

    def listing(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[FileStat]:
        """See `FileStore`."""
        with self.contents.lock:
            found: list[FileStat] = []
            every = self.contents.names
            at = bisect_left(every, prefix)
            if after >= prefix:
                at = max(at, bisect_right(every, after))
            while at < len(every) and every[at].startswith(prefix) and (limit is None or len(found) < limit):
                found.append(self.contents.files[every[at]].describe(every[at]))
                at += 1
            return found

    def delete(self, name: str, expect: Precondition = ANYTHING) -> None:
        """See `FileStore`."""
        names.check_reachable(name)
        with self.contents.lock:
            current = self.contents.current(name)
            if current is None:
                raise no_such_file(name)
            expect.check(name, current)
            self.contents.remove(name)

    def check_target(self, name: str, *, removing: bool = False) -> FileStat | None:
        """See `FileStore`."""
        (names.check_reachable if removing else names.check)(name)
        with self.contents.lock:
            return self.contents.current(name)

    # -- digests

    def record_digests(self, reader: FileReader, digests: FileDigests) -> FileStat | None:
        """See `KeepsDigests`."""
        with self.contents.lock:
            file = self._shown_by(reader)
            if file is None or file.stat is None:
                return None
            known = file.stat
            file.blocks = file.blocks if digests.blocks is None else digests.blocks
            file.stat = dataclasses.replace(
                known,
                sha256=digests.sha256 or known.sha256,
                block_digest=digests.block_digest or known.block_digest,
            )
            if digests.sha256 is not None:
                self.contents.pending.pop(file.serial, None)
            return file.stat

    @property
    def pending_count(self) -> int:
        """See `MarksDigests`."""
        return len(self.contents.pending)

    def pending_digests(self, most: int, skip: Collection[str] = ()) -> list[PendingDigest]:
        """See `MarksDigests`."""
        with self.contents.lock:  # they stand in the order in which they were made
            return [mark for mark in self.contents.pending.values() if mark.key not in skip][:most]

    def open_pending(self, pending: PendingDigest) -> MemoryReader | None:
        """See `MarksDigests`."""
        with self.contents.lock:
            file = self.contents.files.get(pending.name)
            if file is not None and file.serial == pending.key and file.describe(pending.name).sha256 is None:
                return self.open(pending.name)
            self.contents.pending.pop(pending.key, None)
            return None

    def open_for_digest(self, name: str) -> MemoryReader:
        """See `KeepsDigests`: every write is counted."""
        return self.open(name)

    def block_digests(self, reader: FileReader) -> bytes | None:
        """See `KeepsDigests`."""
        with self.contents.lock:
            file = self._shown_by(reader)
            return None if file is None else file.blocks

    def _shown_by(self, reader: FileReader) -> MemoryFile | None:
        """Return the file that a reader has open, while its name still shows it."""
        if not isinstance(reader, MemoryReader):
            raise TypeError(f"{reader!r} is of another store")
        file = self.contents.files.get(reader.stat.name)
        return file if file is not None and file.content is reader.content and not reader.changed() else None

    def find_content(self, block_digest: str) -> str | None:
        """See `FindsContent`."""
        with self.contents.lock:
            stats = (file.stat for file in self.contents.files.values() if file.stat is not None)
            return next(
                (stat.name for stat in stats if stat.block_digest == block_digest and stat.size >= 1 << 20), None
            )

    def find_similar(self, size: int, first: bytes) -> str | None:
        """See `FindsContent`."""
        with self.contents.lock:
            published = [(file.stat, file.blocks) for file in self.contents.files.values()]
        for stat, blocks in published:
            if stat is not None and stat.size == size >= HINTED and blocks is not None and blocks.startswith(first):
                return stat.name
        return None

    # -- staged bytes

    def publish_small(self, files: Sequence[SmallFile]) -> list[PlacedFile | Exception]:
        """See `PublishesSmallFiles`."""
        return [self._publish(file) for file in files]

    def _publish(self, file: SmallFile) -> PlacedFile | Exception:
        contents = self.contents
        try:
            names.check(file.name)
            with contents.lock:
                current = contents.current(file.name)
                file.expect.check(file.name, current)
                content = MemoryContent(bytearray(file.data))
                stat = contents.publish(file.name, content, contents.serial(), file.digests)
                return PlacedFile(stat, current is not None)
        except problems.ProblemError as error:
            return error

    def create(self, id: str, info: bytes) -> MemoryStagedData:
        """See `FileStore`."""
        if not _ID.fullmatch(id):
            raise no_such_upload(id)
        with self.contents.lock:
            if id in self.contents.uploads:
                raise problems.CONFLICT(f"there is an upload {id!r} already")
            upload = self.contents.uploads[id] = MemoryUpload(info, self.contents.serial())
        return MemoryStagedData(self.contents, id, upload)

    def load(self, id: str) -> MemoryStagedData:
        """See `FileStore`."""
        with self.contents.lock:
            upload = self.contents.find(id)
            upload.roll_back()
        return MemoryStagedData(self.contents, id, upload)

    def prepare_blocks(self, staged: StagedData, expected: bytes | None) -> None:
        """See `TakesBlocks`."""
        with self.contents.lock:
            self.contents.find(staged.id).expected = expected

    def open_blocks(self, staged: StagedData, size: int) -> MemoryBlockData:
        """See `TakesBlocks`."""
        with self.contents.lock:
            upload = self.contents.find(staged.id)
            content = upload.content
            return MemoryBlockData(
                self.contents.lock, content.data, content.touch, upload.digests, upload.expected, size
            )

    def staged_ids(self) -> list[str]:
        """See `FileStore`."""
        with self.contents.lock:
            return sorted(self.contents.uploads)

    def noted_time(self) -> float | None:
        """See `FileStore`."""
        return self.contents.noted_time

    def note_time(self, now: float) -> None:
        """See `FileStore`."""
        self.contents.noted_time = now

    def free_space(self) -> int | None:
        """Return None: how much memory is left is not known."""
        return None
