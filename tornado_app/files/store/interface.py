"""The seam to where files live: names, ranges, offsets and digests, never paths. An object store can stand here.

Everything here blocks: call it in a worker thread. One store serves many threads; one `StagedData` serves one thread at
a time. What a store refuses it raises as a `ProblemError`; a full disk is NO_SPACE, after which what was there is still
there and `offset` tells how much that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tornado_app import problems

Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class FileStat:
    """One version of a published file. `etag` is strong and without quotes: another content has another one.

    `claimed` is a digest that it had before its status changed, and that is being confirmed; `etag` is not made of it.
    """

    name: str
    size: int
    modified_ns: int
    etag: str
    sha256: str | None
    claimed: str | None = None


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must stand under a name for a publication or a deletion to go ahead; it is checked together with it.

    `absent`: nothing. `present`: any file. `etags`: a file with one of these entity tags. None of them: no matter what.
    """

    absent: bool = False
    etags: frozenset[str] | None = None
    present: bool = False

    def check(self, name: str, current: FileStat | None) -> None:
        """Raise FILE_EXISTS or PRECONDITION_FAILED unless `current`, which stands under `name`, is what is expected."""
        if self.absent and current is not None:
            raise problems.FILE_EXISTS(
                f"there is a file {name!r} already; say overwrite=true to replace it", etag=current.etag, file_name=name
            )
        if (self.present or self.etags is not None) and current is None:
            raise problems.PRECONDITION_FAILED(f"there is no file {name!r}, though the request expects one")
        if self.etags is not None and current is not None and current.etag not in self.etags:
            raise problems.PRECONDITION_FAILED(
                f"{name!r} has changed: its ETag is now {current.etag}", etag=current.etag
            )


ANYTHING = Precondition()
ABSENT = Precondition(absent=True)


class FileReader(Protocol):
    """One version of a file, open for reading: whatever happens to its name, these are its bytes."""

    @property
    def stat(self) -> FileStat:
        """As it was when it was opened."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset`; fewer only at the end. Safe from several threads at once."""
        ...

    def changed(self) -> bool:
        """Whether somebody has written to this very version since it was opened, so that reads may mix old and new."""
        ...

    def close(self) -> None:
        """Let go. May be called twice."""
        ...


@runtime_checkable
class HasDescriptor(Protocol):
    """Optional power of a `FileReader`: a descriptor of a regular file, for zero-copy sending."""

    def fileno(self) -> int:
        """Belongs to the reader, which closes it."""
        ...


class StagedData(Protocol):
    """Bytes in the making under an id, invisible under any name. They and `info` survive a crash at any moment."""

    @property
    def id(self) -> str: ...

    @property
    def info(self) -> bytes:
        """What the service keeps beside the bytes."""
        ...

    @property
    def offset(self) -> int:
        """Bytes that are there; all of them survive SIGKILL, and a power cut after `sync`."""
        ...

    @property
    def modified(self) -> float:
        """When bytes last came, in seconds since the epoch."""
        ...

    @property
    def published(self) -> FileStat | None:
        """What these bytes became; from then on nothing but `discard` is allowed."""
        ...

    def set_info(self, info: bytes) -> None:
        """Replace `info` in one step."""
        ...

    def write(self, pieces: Sequence[Piece]) -> None:
        """Append every piece. Raises NO_SPACE; `offset` then counts what was written."""
        ...

    def guard(self) -> None:
        """From here on bytes are on trial: unless `settle` follows, a crash takes them back to this offset."""
        ...

    def settle(self) -> None:
        """What came since `guard` stays."""
        ...

    def truncate(self, size: int) -> None:
        """Cut back to `size`. Raises `ValueError` when there is less."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset`; fewer only at the end."""
        ...

    def sync(self) -> None:
        """Return when a power cut can't take the bytes any more."""
        ...

    def publish(self, name: str, sha256: str | None, expect: Precondition = ANYTHING) -> FileStat:
        """Make these bytes the file `name` in one step, durably; readers see the old file or the new one, whole.

        `sha256` (hex) is the digest of the bytes when it is known; it becomes the file's ETag.
        Raises FILE_EXISTS, PRECONDITION_FAILED or BAD_NAME and changes nothing.
        """
        ...

    def discard(self) -> None:
        """Forget bytes and `info`; what was published stays. Nothing happens when they are gone already."""
        ...

    def close(self) -> None:
        """Let go of handles, until the bytes are needed again."""
        ...


@runtime_checkable
class Joins(Protocol):
    """Optional power of a `StagedData`: take over other staged bytes without reading them through the server."""

    def join(self, parts: Sequence[StagedData]) -> None:
        """Append the bytes of all parts, in order. Raises NO_SPACE and leaves nothing appended."""
        ...


@runtime_checkable
class GrowsInView(Protocol):
    """Optional power of a `StagedData`: show the bytes under a name while they still come."""

    def expose(self, name: str, expect: Precondition = ANYTHING) -> None:
        """Show what is there, and what comes, as `name`; once is enough. Raises as `publish` does."""
        ...

    def withdraw(self, name: str) -> None:
        """Take `name` away if it still shows these bytes."""
        ...


class FileStore(Protocol):
    """Published files, and bytes in the making."""

    def start(self) -> None:
        """Make ready, and clear away what a crash left half made."""
        ...

    def close(self) -> None:
        """Let go of handles."""
        ...

    def stat(self, name: str) -> FileStat:
        """Raises NO_SUCH_FILE, also for a name that no file can have."""
        ...

    def open(self, name: str) -> FileReader:
        """Raises NO_SUCH_FILE, also for a name that no file can have."""
        ...

    def listing(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[FileStat]:
        """Files whose names start with `prefix` and come after `after`, in the order of their UTF-8 bytes."""
        ...

    def level(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[FileStat | str]:
        """As `listing`, to the first slash after `prefix`: files, and once each folder that holds more, with a slash.

        A folder comes after `after` while a name in it does, unless `after` is the folder itself.
        """
        ...

    def delete(self, name: str, expect: Precondition = ANYTHING) -> None:
        """Raises BAD_NAME, NO_SUCH_FILE, PRECONDITION_FAILED."""
        ...

    def check_target(self, name: str, *, removing: bool = False) -> FileStat | None:
        """Return the file that `name` would replace, None for nothing. Raises BAD_NAME when no file can be put there.

        `removing`: what a deletion would remove, also by a name that can't be given any more."""
        ...

    def create(self, id: str, info: bytes) -> StagedData:
        """Empty staged bytes, in one step. Raises CONFLICT when the id is taken."""
        ...

    def load(self, id: str) -> StagedData:
        """Staged bytes of an earlier time. Raises NO_SUCH_UPLOAD."""
        ...

    def staged(self) -> list[str]:
        """Ids of everything in the making or kept after it was published."""
        ...

    def seen(self) -> float | None:
        """The time that `see` noted last; None when it never did."""
        ...

    def see(self, now: float) -> None:
        """Note how late it is, for the next server. Raises `OSError`, NO_SPACE."""
        ...

    def free_space(self) -> int | None:
        """Bytes that could still be written; None when there is no telling."""
        ...


class StoreDescription(Protocol):
    """Small value that can be pickled, from which another process opens the same store."""

    def open(self) -> FileStore:
        """Open the store for published files and staged bytes; it is not `start`ed. Blocks."""
        ...


@runtime_checkable
class HasDescription(Protocol):
    """Optional power of a `FileStore`: other processes can open it, such as those that work runs in."""

    def description(self) -> StoreDescription:
        """Return what to hand to the other process."""
        ...
