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

**Optional powers** are protocols of their own, in `optional_powers` and `blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

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
    `stamp`, where it is not 0, is a number that tells the version from others, see `HasStamp`.
    """

    name: str
    size: int
    modified_ns: int
    etag: str
    sha256: str | None = None
    block_digest: str | None = None
    unconfirmed: str | None = None
    stamp: int = field(default=0, compare=False, repr=False)


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
