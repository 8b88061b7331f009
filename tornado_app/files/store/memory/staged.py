"""Staged bytes of the memory store."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.digests import BLOCK, SIZE
from holdfast.digests import count as count_blocks
from tornado_app import problems
from tornado_app.files import names
from tornado_app.files.store.interface import (
    ANYTHING,
    UNKNOWN,
    FileDigests,
    FileStat,
    Piece,
    Precondition,
)
from tornado_app.files.store.memory.contents import (
    MemoryContents,
    MemoryFile,
    MemoryUpload,
)


class MemoryStagedData:
    """`StagedData` with all its optional powers but `JoinsParts`, in memory."""

    def __init__(self, contents: MemoryContents, id: str, upload: MemoryUpload) -> None:
        self.id = id
        self._contents = contents
        self._upload = upload

    @property
    def info(self) -> bytes:
        """See `StagedData`."""
        return self._upload.info

    @property
    def offset(self) -> int:
        """See `StagedData`."""
        published = self._upload.published
        return published.size if published is not None else len(self._upload.content.data)

    @property
    def modified(self) -> float:
        """See `StagedData`."""
        return self._upload.content.modified_ns / 1e9

    @property
    def published(self) -> FileStat | None:
        """See `StagedData`."""
        return self._upload.published

    def set_info(self, info: bytes) -> None:
        """See `StagedData`."""
        self._upload.info = info

    def write(self, pieces: Sequence[Piece]) -> None:
        """See `StagedData`."""
        with self._contents.lock:  # who describes the file sees other bytes only with another ETag
            try:
                for piece in pieces:
                    self._upload.content.data += piece
            except MemoryError:
                raise problems.NO_SPACE("the memory of the file store is full. Delete files, then go on") from None
            finally:
                self._upload.content.touch()

    def begin(self) -> None:
        """See `StagedData`."""
        self._upload.begun = self.offset

    def commit(self) -> None:
        """See `StagedData`."""
        self._upload.begun = None

    def rollback(self) -> None:
        """See `StagedData`."""
        with self._contents.lock:
            self._upload.roll_back()

    def truncate(self, size: int) -> None:
        """See `Truncates`."""
        if size > self.offset:
            raise ValueError(f"can't cut {self.offset} bytes to {size}")
        with self._contents.lock:
            del self._upload.content.data[size:]
            del self._upload.digests[size // BLOCK * SIZE :]
            self._upload.content.touch()

    def replace(self, offset: int, data: Piece) -> None:
        """See `ReplacesBytes`."""
        end = offset + len(data)
        if end > self.offset:
            raise ValueError(f"can't replace bytes up to {end} of {self.offset}")
        with self._contents.lock:
            first = offset // BLOCK * SIZE
            last = min(len(self._upload.digests), count_blocks(end) * SIZE)
            if first < last:
                self._upload.digests[first:last] = bytes(last - first)
            self._upload.content.data[offset:end] = data
            self._upload.content.touch()

    def read(self, offset: int, count: int) -> bytes:
        """See `ReadsStagedData`."""
        return bytes(self._upload.content.data[offset : offset + count])

    def keep_block_digests(self, first: int, digests: bytes) -> None:
        """See `KeepsBlockDigests`."""
        kept, start = self._upload.digests, first * SIZE
        kept += bytes(max(0, start - len(kept)))
        kept[start : start + len(digests)] = digests

    def kept_block_digests(self) -> bytes:
        """See `KeepsBlockDigests`."""
        return bytes(self._upload.digests)

    def sync(self) -> None:
        """Return at once: nothing here survives a power cut."""

    def publish(self, name: str, digests: FileDigests = UNKNOWN, expect: Precondition = ANYTHING) -> FileStat:
        """See `StagedData`."""
        names.check(name)
        contents, upload = self._contents, self._upload
        with contents.lock:
            if not self._shows(name):
                expect.check(name, contents.current(name))
            upload.published = contents.publish(name, upload.content, upload.serial, digests)
            upload.begun = None
            return upload.published

    def expose(self, name: str, expect: Precondition = ANYTHING) -> None:
        """See `GrowsInView`."""
        names.check(name)
        contents, upload = self._contents, self._upload
        with contents.lock:
            if not self._shows(name):
                expect.check(name, contents.current(name))
                contents.put(name, MemoryFile(upload.content, upload.serial))

    def withdraw(self, name: str) -> None:
        """See `GrowsInView`."""
        with self._contents.lock:
            if self._shows(name):
                self._contents.remove(name)

    def _shows(self, name: str) -> bool:
        file = self._contents.files.get(name)
        return file is not None and file.content is self._upload.content

    def discard(self) -> None:
        """See `StagedData`."""
        with self._contents.lock:
            if self._contents.uploads.get(self.id) is self._upload:
                del self._contents.uploads[self.id]

    def close(self) -> None:
        """See `StagedData`."""
