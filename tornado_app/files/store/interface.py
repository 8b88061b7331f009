"""Interface of a file store: names, ranges, offsets and digests, never paths, so that an object store can implement it.

Calls block: make them in a worker thread. One store serves many threads; one `StagedData` serves one thread at a time.
A store refuses with a `ProblemError`. A full disk is NO_SPACE: what was there before stays, and `offset` counts it.

**Durability.** Three promises, each stronger than the one before:

1. Bytes that `offset` counts survive the end of this process, also by SIGKILL.
2. Bytes that were there when `sync` returned survive a power cut, too.
3. A publication or deletion that returned survives a power cut.

A store that keeps everything in its own process has `is_persistent` False and promises none of them.

**Digests.** A store keeps the digests of a file that it is given with the publication, or later (`KeepsDigests`). A
digest that becomes known later never changes the entity tag of the file.

**Optional powers** are protocols of their own, found by `isinstance`: `HasDescriptor` and `KeepsCrc32` of a reader;
`Truncates`, `ReplacesBytes`, `ReadsStagedData`, `JoinsParts`, `GrowsInView` and `KeepsBlockDigests` of staged bytes;
`ListsFolders`, `KeepsDigests`, `MarksDigests`, `OpensAtOnce` and `HasDescription` of a store.
`tornado_app.files.store.powers` says how callers go on without them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from holdfast import digests as block_digests
from tornado_app import problems

Piece = bytes | memoryview

_TAG = 32  # hex digits of the block digest in an entity tag: 128 bits


@dataclass(frozen=True, slots=True)
class FileDigests:
    """Digests of one content; None while not known. `sha256` is hex.

    `blocks` are the digests of all blocks, one after another, as `holdfast.digests` defines them; b"" of an empty file.
    """

    sha256: str | None = None
    blocks: bytes | None = None

    @property
    def block_digest(self) -> str | None:
        """Return the block digest of the whole, as hex."""
        return None if self.blocks is None else block_digests.of_blocks(self.blocks).hex()


UNKNOWN = FileDigests()


@dataclass(frozen=True, slots=True)
class FileStat:
    """One version of a published file.

    `etag` is a strong entity tag without quotes: another content has another one, and it stays as it is when a digest
    becomes known later. `sha256` and `block_digest` are hex, None while not known. `unconfirmed` is the entity tag that
    the file had before its status changed, while the store reads it to find out whether it still has that content.
    """

    name: str
    size: int
    modified_ns: int
    etag: str
    sha256: str | None = None
    block_digest: str | None = None
    unconfirmed: str | None = None


def digest_tag(sha256: str | None, block_digest: str | None) -> str | None:
    """Return the entity tag of a file that is published with these digests, so that equal content has an equal one.

    None without a digest: the store then makes a tag of its own.
    """
    return block_digest[:_TAG] if block_digest is not None else sha256


@dataclass(frozen=True, slots=True)
class Precondition:
    """Condition on the file under a name, which the store checks in one step with a publication or deletion.

    `absent`: there is no file. `present`: there is one. `etags`: there is one with one of these entity tags. Without
    any of them every state is accepted.
    """

    absent: bool = False
    etags: frozenset[str] | None = None
    present: bool = False

    def check(self, name: str, current: FileStat | None) -> None:
        """Raise FILE_EXISTS or PRECONDITION_FAILED unless `current`, the file under `name`, meets the condition."""
        if self.absent and current is not None:
            raise problems.FILE_EXISTS(
                f"there is a file {name!r} already. Say overwrite=true to replace it", etag=current.etag, file_name=name
            )
        if (self.present or self.etags is not None) and current is None:
            raise problems.PRECONDITION_FAILED(f"there is no file {name!r}, though the request expects one")
        if self.etags is not None and current is not None and current.etag not in self.etags:
            raise problems.PRECONDITION_FAILED(
                f"{name!r} has changed: its ETag is now {current.etag}", etag=current.etag
            )


ANYTHING = Precondition()
ABSENT = Precondition(absent=True)


@dataclass(frozen=True, slots=True)
class SmallFile:
    """File to publish whose bytes, one block at most, are all in memory."""

    name: str
    data: bytes | bytearray | memoryview
    digests: FileDigests = UNKNOWN
    expect: Precondition = ANYTHING


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """File that was published; `replaces` says whether there was one under its name."""

    stat: FileStat
    replaces: bool


class FileReader(Protocol):
    """One version of a file, open for reading: it reads the same bytes whatever happens to the name."""

    @property
    def stat(self) -> FileStat:
        """Return the version as it was when it was opened."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Read at most `count` bytes from `offset`; fewer only at the end. Safe in several threads at once."""
        ...

    def changed(self) -> bool:
        """Return whether this very version was written to since it was opened, so that reads may mix old and new."""
        ...

    def close(self) -> None:
        """Release the version. May be called twice."""
        ...


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
        """Keep the CRC-32 of this version, also for the next server; a failure to do so is not raised."""
        ...


class StagedData(Protocol):
    """Bytes staged under an id, which no name shows until they are published. `info` is stored beside them.

    Callers promise to append in order, one thread at a time, and to call nothing but `discard` and `close` once the
    bytes are published.
    """

    @property
    def id(self) -> str: ...

    @property
    def info(self) -> bytes:
        """Return what the service stores beside the bytes."""
        ...

    @property
    def offset(self) -> int:
        """Return how many bytes are stored; see Durability above."""
        ...

    @property
    def modified(self) -> float:
        """Return when bytes were last written, in seconds since the epoch."""
        ...

    @property
    def published(self) -> FileStat | None:
        """Return the file that these bytes became, None before."""
        ...

    def set_info(self, info: bytes) -> None:
        """Replace `info` in one step."""
        ...

    def write(self, pieces: Sequence[Piece]) -> None:
        """Append every piece. Raises NO_SPACE; `offset` then counts what was written.

        The pieces may be reused once it returns. Any size is accepted; see `FileStore.part_size`.
        """
        ...

    def begin(self) -> None:
        """Begin a transaction: until `commit`, a crash and `rollback` take the bytes back to this offset."""
        ...

    def commit(self) -> None:
        """End the transaction and keep its bytes."""
        ...

    def rollback(self) -> None:
        """End the transaction and take its bytes back; a power cut does not bring them back."""
        ...

    def sync(self) -> None:
        """Return once the bytes survive a power cut."""
        ...

    def publish(self, name: str, digests: FileDigests = UNKNOWN, expect: Precondition = ANYTHING) -> FileStat:
        """Make these bytes the file `name` in one step, durably; readers see the old file or the new one, whole.

        `digests` are those of the bytes, as far as they are known; `digest_tag` of them becomes the entity tag.
        Raises FILE_EXISTS, PRECONDITION_FAILED or BAD_NAME and changes nothing.
        """
        ...

    def discard(self) -> None:
        """Remove bytes and `info`; a file that they became stays. Does nothing when they are gone already."""
        ...

    def close(self) -> None:
        """Release handles until the bytes are used again. May be called twice."""
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


class FileStore(Protocol):
    """Published files and staged bytes."""

    @property
    def part_size(self) -> int:
        """Return the fewest bytes that are worth a `write` of their own, such as an object store's part size; 1 if any.

        Smaller writes work, but cost about as much as one of this size.
        """
        ...

    @property
    def is_persistent(self) -> bool:
        """Return whether files and staged bytes outlive this process; see Durability above."""
        ...

    def start(self) -> None:
        """Remove what a crash left half made. Called once, before anything is created."""
        ...

    def close(self) -> None:
        """Release handles. May be called twice."""
        ...

    def stat(self, name: str) -> FileStat:
        """Return the file's version. Raises NO_SUCH_FILE, also for a name that no file can have."""
        ...

    def open(self, name: str) -> FileReader:
        """Open the file's version. Raises NO_SUCH_FILE, also for a name that no file can have."""
        ...

    def listing(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[FileStat]:
        """Return files whose names start with `prefix` and come after `after`, in the order of their UTF-8 bytes."""
        ...

    def delete(self, name: str, expect: Precondition = ANYTHING) -> None:
        """Delete a file. Raises BAD_NAME, NO_SUCH_FILE, PRECONDITION_FAILED."""
        ...

    def check_target(self, name: str, *, removing: bool = False) -> FileStat | None:
        """Return the file that `name` would replace, None for none. Raises BAD_NAME when no file can be put there.

        `removing`: return what a deletion would remove, also by a name that can't be given any more.
        """
        ...

    def create(self, id: str, info: bytes) -> StagedData:
        """Create empty staged bytes, in one step. Raises CONFLICT when the id is taken."""
        ...

    def load(self, id: str) -> StagedData:
        """Open staged bytes that an earlier request or process left, without an open transaction's.

        Raises NO_SUCH_UPLOAD.
        """
        ...

    def staged_ids(self) -> list[str]:
        """Return the ids of all staged bytes, published or not, until they are discarded."""
        ...

    def noted_time(self) -> float | None:
        """Return the time that `note_time` stored last, also by an earlier process; None when it never did."""
        ...

    def note_time(self, now: float) -> None:
        """Store the time, in seconds since the epoch, for the next server. Raises `OSError`, NO_SPACE."""
        ...

    def free_space(self) -> int | None:
        """Return how many bytes can still be written; None when it is not known."""
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

        Those that are None stay what they were. None when the version was changed or removed meanwhile: nothing is
        recorded then.
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
        """Open the file of a mark as `open_for_digest` does.

        None when it is not there any more or has its digest: the mark is then removed.
        """
        ...

    def open_for_digest(self, name: str) -> FileReader:
        """Open a file so that `record_digests` can tell its version from what is written later, however soon.

        May wait a moment, where times are coarse. Raises NO_SUCH_FILE; UNAVAILABLE while it is written to all the time.
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
class HasDescription(Protocol):
    """Optional power of a `FileStore`: other processes can open it, such as those that work runs in."""

    def description(self) -> StoreDescription:
        """Return the value to hand to the other process."""
        ...
