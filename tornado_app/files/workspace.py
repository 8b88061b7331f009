"""The files as work gets them: synchronous, in worker threads and in child processes."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

import msgspec

from holdfast.work import WorkError
from tornado_app import problems
from tornado_app.files import names
from tornado_app.files.store import powers
from tornado_app.files.store.hashing import RunningDigest, digest_of
from tornado_app.files.store.interface import FileReader, FileStore, StagedData
from tornado_app.files.store.optional_powers import HasDescription, StoreDescription

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PREFIX = "work-"
PIECE = 1 << 20
_CHECK_EVERY = 8 << 20  # bytes that are written between checks of the free space, or less where little is left


class _Info(msgspec.Struct):
    """Record that is stored beside bytes that work stages."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class WorkspaceDescription:
    """Description of a workspace, which can be pickled; a child process opens a workspace of its own from it."""

    store: StoreDescription
    owner: str = ""
    reserve: int = 0


def open_workspace(description: WorkspaceDescription) -> Workspace:
    """Open the store that is described, in this process, and return the workspace on it. Blocks."""
    return Workspace(description.store.open(), description.owner, description.reserve)


class Workspace:
    """`holdfast.work.FilesForWork` on a file store; safe in several threads.

    What is staged belongs to `owner`, letters and digits that stand for one process.
    """

    def __init__(self, store: FileStore, owner: str = "", reserve: int = 0) -> None:
        """`reserve` bytes of the store's space stay free."""
        self._store = store
        self._owner = owner
        self._reserve = reserve

    def of(self, owner: str) -> Workspace:
        """Return the same files for another owner."""
        return Workspace(self._store, owner, self._reserve)

    def description(self) -> WorkspaceDescription:
        """Return the description that a child process opens. Raises BAD_PARAMETERS when no other process can."""
        if not isinstance(self._store, HasDescription):
            raise problems.BAD_PARAMETERS(
                "place 'process' can't be used with --store memory, because other processes can't read those files; "
                "use place 'thread', or start the server with --store local",
                field="place",
            )
        return WorkspaceDescription(self._store.description(), self._owner, self._reserve)

    def __reduce__(self) -> tuple[Callable[[WorkspaceDescription], Workspace], tuple[WorkspaceDescription]]:
        """Pickle the description alone: a child process opens the store for itself."""
        return open_workspace, (self.description(),)

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the names of the modules that a child process needs to open it."""
        if not isinstance(self._store, HasDescription):
            return (__name__,)
        return __name__, type(self._store.description()).__module__

    def list(self, prefix: str = "") -> list[str]:
        """See `FilesForWork`."""
        return [found.name for found in self._store.listing(prefix)]

    def size(self, name: str) -> int:
        """See `FilesForWork`."""
        try:
            return self._store.stat(name).size
        except problems.ProblemError as error:
            raise FileNotFoundError(error.detail) from error

    def open(self, name: str) -> IO[bytes]:
        """See `FilesForWork`."""
        try:
            reader = self._store.open(name)
        except problems.ProblemError as error:
            raise FileNotFoundError(error.detail) from error
        return cast(IO[bytes], io.BufferedReader(_RawFile(reader), PIECE))

    def stage(self, name: str, key: str) -> WorkFile:
        """See `FilesForWork`."""
        names.check(name)
        id = f"{PREFIX}{self._owner}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"
        try:
            staged = self._store.load(id)
        except problems.ProblemError as error:
            if error.kind is not problems.NO_SUCH_UPLOAD:
                raise
            staged = self._store.create(id, msgspec.json.encode(_Info(key, name)))
        return WorkFile(self._store, name, staged, self._reserve)

    def owners(self) -> set[str]:
        """Return the owners who have staged something."""
        return {owner for id in self._store.staged_ids() if (owner := _owner(id))}

    def drop(self, owners: Collection[str]) -> None:
        """Discard the staged bytes of these owners; what was published stays."""
        for id in self._store.staged_ids():
            if _owner(id) in owners:
                try:
                    self._store.load(id).discard()
                except problems.ProblemError as error:
                    if error.kind is not problems.NO_SUCH_UPLOAD:  # it is gone already
                        raise


def _owner(id: str) -> str:
    """Return the owner in the id of staged bytes; "" for an upload."""
    return id.removeprefix(PREFIX).partition("-")[0] if id.startswith(PREFIX) else ""


class WorkFile:
    """`holdfast.work.StagedFile`.

    After `publish` it stands where it stood, so that work that died between publishing and its last checkpoint goes on
    as if nothing had happened: publishing again is answered with the same digest.
    """

    def __init__(self, store: FileStore, name: str, staged: StagedData, reserve: int = 0) -> None:
        self._store = store
        self._reserve = reserve
        self._unchecked = 0  # bytes that may be written before the next check
        self._name = name
        self._staged = staged
        self._digest = _digest(staged)

    def __del__(self) -> None:
        # Work that is stopped may drop it without closing it, as any file object.
        self._staged.close()

    def tell(self) -> int:
        """See `StagedFile`."""
        return self._staged.offset

    def truncate(self, size: int) -> None:
        """See `StagedFile`. Raises `ValueError` when there is less."""
        if size == self.tell():
            return
        self._unpublish(size)
        if size == 0 and not powers.can_truncate(self._staged, 0):
            self._staged.discard()
            self._staged = self._store.create(self._staged.id, self._staged.info)
            self._digest = _digest(self._staged)
        powers.truncate(self._staged, size)
        self._digest.cut(size)

    def reserve(self, size: int) -> None:
        """See `StagedFile`."""
        free = self._store.free_space()
        if free is not None and free < size + self._reserve:
            raise WorkError(
                f"{self._name} needs {size} bytes more, and {free} are free, of which {self._reserve} stay so "
                "(--reserve-space). Make room, then resume"
            )
        self._unchecked = _CHECK_EVERY if free is None else min(_CHECK_EVERY, (free - size - self._reserve) // 2)

    def write(self, data: bytes) -> int:
        """See `StagedFile`."""
        self._unchecked -= len(data)
        if self._unchecked < 0:
            self.reserve(len(data))
        self._unpublish(self.tell())
        offset = self.tell()
        self._staged.write([data])
        self._digest.feed(offset, [data])
        return len(data)

    def sha256(self) -> str:
        """See `StagedFile`."""
        if self._staged.published is not None:
            return self._staged.published.sha256 or ""
        sha256 = self._digest.result().sha256
        return digest_of(self._staged, "sha-256").hex() if sha256 is None else sha256  # it says why it can't be read

    def publish(self) -> str:
        """See `StagedFile`."""
        if self._staged.published is not None:
            return self._staged.published.sha256 or ""
        return self._staged.publish(self._name, self._digest.result()).sha256 or ""

    def discard(self) -> None:
        """See `StagedFile`."""
        self._staged.discard()

    def _unpublish(self, size: int) -> None:
        """Stage the first `size` bytes of the published file again, to append to them."""
        published = self._staged.published
        if published is None:
            return
        if size > published.size:
            raise ValueError(f"can't cut {published.size} bytes to {size}")
        reader = self._store.open(published.name) if size else None
        try:
            if reader is not None and published.etag not in (reader.stat.etag, reader.stat.unconfirmed):
                raise ValueError(f"{published.name!r} has been replaced since it was published: start anew")
            self._staged.discard()
            self._staged = self._store.create(self._staged.id, self._staged.info)
            self._digest = _digest(self._staged)
            while reader is not None and self._staged.offset < size:
                self._staged.write([reader.read(self._staged.offset, min(PIECE, size - self._staged.offset))])
        finally:
            if reader is not None:
                reader.close()


def _digest(staged: StagedData) -> RunningDigest:
    return RunningDigest(staged, blocks=True, sha256=True)


class _RawFile(io.RawIOBase):
    """A `FileReader` as a file object, for `io.BufferedReader`."""

    def __init__(self, reader: FileReader) -> None:
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._reader.read(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._reader.stat.size}[whence]
        if base + offset < 0:
            raise OSError(22, "can't seek before the start")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            self._reader.close()
        super().close()
