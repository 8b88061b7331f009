"""Optional powers of a store, each a protocol of its own, found by `isinstance`.

`HasDescriptor` and `KeepsCrc32` are powers of a reader; `Truncates`, `ReplacesBytes`, `ReadsStagedData`, `JoinsParts`,
`GrowsInView` and `KeepsBlockDigests` of staged bytes; the others of the store itself. Those of uploads by blocks are in
`blocks`. `powers` says how callers go on without them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tornado_app.files.store.interface import (
    ANYTHING,
    FileDigests,
    FileReader,
    FileStat,
    FileStore,
    Piece,
    PlacedFile,
    Precondition,
    SmallFile,
    StagedData,
)


@runtime_checkable
class HasDescriptor(Protocol):
    """Optional power of a `FileReader`: a descriptor of a regular file, for zero-copy sending."""

    def fileno(self) -> int:
        """Return the descriptor; the reader closes it."""
        ...


@runtime_checkable
class KeepsCrc32(Protocol):
    """Optional power of a `FileReader`: remember the CRC-32 of this version, which takes a second a GB to compute."""

    def kept_crc32(self) -> int | None:
        """Return the CRC-32 that was kept, None if none was."""
        ...

    def keep_crc32(self, crc: int) -> None:
        """Keep the CRC-32 of this version, also for the next server; a failure to do so is not raised.

        Does nothing for a version that `KeepsDigests.record_digests` would not take.
        """
        ...


@runtime_checkable
class Truncates(Protocol):
    """Optional power of a `StagedData`: cut the bytes back to any size, outside of a transaction too."""

    def truncate(self, size: int) -> None:
        """Cut back to `size`. Raises `ValueError` when there is less."""
        ...


@runtime_checkable
class ReplacesBytes(Protocol):
    """Optional power of a `StagedData`: replace bytes that are there, outside of a transaction."""

    def replace(self, offset: int, data: Piece) -> None:
        """Replace the bytes from `offset`, which starts a block; the digests of their blocks are absent then.

        Raises `ValueError` for bytes past the end.
        """
        ...


@runtime_checkable
class ReadsStagedData(Protocol):
    """Optional power of a `StagedData`: read the bytes before they are published."""

    def read(self, offset: int, count: int) -> bytes:
        """Read at most `count` bytes from `offset`; fewer only at the end."""
        ...


@runtime_checkable
class JoinsParts(Protocol):
    """Optional power of a `StagedData`: append other staged bytes without moving them through the server."""

    def join(self, parts: Sequence[StagedData]) -> None:
        """Append the bytes of all parts, in order. Raises NO_SPACE and leaves nothing appended."""
        ...


@runtime_checkable
class GrowsInView(Protocol):
    """Optional power of a `StagedData`: show the bytes under a name while more are written."""

    def expose(self, name: str, expect: Precondition = ANYTHING) -> None:
        """Show the bytes as `name`, now and as they grow; once is enough. Raises as `publish` does."""
        ...

    def withdraw(self, name: str) -> None:
        """Remove `name` if it still shows these bytes."""
        ...


@runtime_checkable
class KeepsBlockDigests(Protocol):
    """Optional power of a `StagedData`: keep the digests of its whole blocks, so that none is read again.

    Whoever writes the bytes keeps their digests, after the bytes. What cuts bytes off takes the digests of their blocks
    away. A crash may lose digests; after one that may have lost bytes none is returned.
    """

    def keep_block_digests(self, first: int, digests: bytes) -> None:
        """Keep the digests of the blocks from the index `first`, one after another."""
        ...

    def kept_block_digests(self) -> bytes:
        """Return the digests of all blocks, `holdfast.digests.ABSENT` for those that were never kept."""
        ...


@runtime_checkable
class ListsFolders(Protocol):
    """Optional power of a `FileStore`: list one level of names, as with the delimiter `/` of an object store."""

    def level(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[FileStat | str]:
        """Return files as `listing` does, and each folder once: what follows `prefix` up to its first slash.

        A folder (its name ends with a slash) comes after `after` while a name in it does, unless `after` is the folder.
        """
        ...


@runtime_checkable
class KeepsDigests(Protocol):
    """Optional power of a `FileStore`: keep digests that become known after the publication."""

    def record_digests(self, reader: FileReader, digests: FileDigests) -> FileStat | None:
        """Record digests of the version that `reader`, of this store, has open, and return it; its `etag` stays.

        Those that are None stay what they were. None when the version was changed or removed meanwhile, or when it had
        been written to so shortly before it was opened that another write would not be seen: nothing is recorded then.
        Who wants a record opens with `open_for_digest`.
        """
        ...

    def open_for_digest(self, name: str) -> FileReader:
        """Open a file so that what is read of it can be kept: its version differs from what is written later.

        May wait a moment, where times are coarse. Raises NO_SUCH_FILE; UNAVAILABLE while it is written to all the time.
        """
        ...

    def block_digests(self, reader: FileReader) -> bytes | None:
        """Return the digests of all blocks of the version that `reader` has open; None if they are not known."""
        ...


@dataclass(frozen=True, slots=True)
class PendingDigest:
    """Mark of a file that was published without a SHA-256: when, in seconds since the epoch. `key` is the store's."""

    key: str
    name: str
    since: float


@runtime_checkable
class MarksDigests(Protocol):
    """Optional power of a `FileStore` that keeps digests: remember which files were published without a SHA-256.

    It marks them if it was told to when it was made. `record_digests` with a SHA-256 removes the mark.
    """

    @property
    def pending_count(self) -> int:
        """Return about how many files are marked, also by an earlier process; it never waits for a disk."""
        ...

    def pending_digests(self, most: int, skip: Collection[str] = ()) -> list[PendingDigest]:
        """Return at most `most` marks, the oldest of them first, without those whose keys are in `skip`."""
        ...

    def open_pending(self, pending: PendingDigest) -> FileReader | None:
        """Open the file of a mark as `KeepsDigests.open_for_digest` does.

        None when it is not there any more or has its digest: the mark is then removed.
        """
        ...


@runtime_checkable
class PublishesSmallFiles(Protocol):
    """Optional power of a `FileStore`: publish many small files together, so that they share the trips to the disk."""

    def publish_small(self, files: Sequence[SmallFile]) -> list[PlacedFile | Exception]:
        """Publish each as `StagedData.publish` does, whole or not at all; of one name, the last one stays.

        Return for each, in order, what it is now, or why it was not published: a `ProblemError`, or an `OSError`, after
        which it may be there all the same. None of them touches the others.
        """
        ...


class StoreDescription(Protocol):
    """Small value that can be pickled, from which another process opens the same store."""

    def open(self) -> FileStore:
        """Open the store for published files and staged bytes; it is not `start`ed. Blocks."""
        ...


@runtime_checkable
class OpensAtOnce(Protocol):
    """Optional power of a `FileStore`: open files on the event loop, when nothing of it waits for a disk."""

    def open_at_once(self, name: str) -> FileReader | None:
        """Open the file's version without waiting; its `read` raises `BlockingIOError` rather than wait.

        None when it would wait, or where anything is out of the ordinary: `open` then says what. May raise as `open`.
        """
        ...


@runtime_checkable
class HasStamp(Protocol):
    """Optional power of a `FileReader`: tell its version from others by one number."""

    @property
    def stamp(self) -> int | None:
        """Return a number for the version, while this process lives; None while another one could have the same."""
        ...


@runtime_checkable
class ListsStamps(Protocol):
    """Optional power of a `FileStore`: compare many versions with those that were opened before."""

    def stamps(self, folder: str) -> Iterator[tuple[bytes, int]]:
        """Iterate over the files below a folder ("" for all) in the order of `listing`: the rest of a name, its stamp.

        The stamp is 0 where anything is out of the ordinary. Names are not checked.
        """
        ...


class OrderedOpener(Protocol):
    """Opens many files by names that the store has listed, in the shortest way if they come folder by folder. Blocks.

    One thread at a time.
    """

    def open(self, name: str, stamp: int) -> tuple[int, object] | None:
        """Open the version of this stamp; return a descriptor, which the caller closes, and its state for `changed`.

        None when it is another version, or where anything is out of the ordinary: `FileStore.open` then says what.
        """
        ...

    def changed(self, fd: int, state: object) -> bool:
        """Return whether the file was written to since it was opened."""
        ...

    def close(self) -> None:
        """Release handles."""
        ...


@runtime_checkable
class OpensInOrder(Protocol):
    """Optional power of a `FileStore` whose readers are `HasDescriptor` and `HasStamp`: open many files in order."""

    def opener(self) -> OrderedOpener:
        """Return what opens them."""
        ...


@runtime_checkable
class HasDescription(Protocol):
    """Optional power of a `FileStore`: other processes can open it, such as those that work runs in."""

    def description(self) -> StoreDescription:
        """Return the value to hand to the other process."""
        ...
