"""The local store: published files in a directory, staged bytes in a reserved folder of it (one file system)."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tornado_app import fault_points, problems
from tornado_app.files import names
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
from tornado_app.files.store.local import atomic_file, digest_index
from tornado_app.files.store.local.blocks import block_data
from tornado_app.files.store.local.blocks.block_data import LocalBlockData
from tornado_app.files.store.local.cached_open import CachedOpener
from tornado_app.files.store.local.digests.pending_marks import key_of
from tornado_app.files.store.local.directory import FOLDER
from tornado_app.files.store.local.listing import Listing, ListingEntry
from tornado_app.files.store.local.reader import CachedReader, LocalReader, VersionOpener
from tornado_app.files.store.local.root import Root
from tornado_app.files.store.local.small_files import SmallFiles
from tornado_app.files.store.local.staged import loading
from tornado_app.files.store.local.staged.data import LocalStagedData
from tornado_app.files.store.local.staging_folder import StagingFolder
from tornado_app.files.store.optional_powers import PendingDigest

log = logging.getLogger("holdfast.files")

_CLOCK = "clock"
_LONGEST_WAIT_S = 0.5


def _named(stat: FileStat) -> tuple[str, int, int]:
    return stat.name, stat.size, stat.modified_ns


@dataclass(frozen=True, slots=True)
class LocalStoreDescription:
    """`StoreDescription` of a local store: its directory, as an absolute path."""

    path: str
    durable: bool

    def open(self) -> LocalStore:
        """See `StoreDescription`."""
        return LocalStore(Path(self.path), durable=self.durable)


class LocalStore:
    """`FileStore` on a directory. Construct and `start` it in a thread: both touch the disk."""

    part_size = 1
    is_persistent = True

    def __init__(self, root: Path, *, durable: bool = False, marks_digests: bool = False) -> None:
        """`marks_digests`: mark files that are published without a SHA-256, see `MarksDigests`."""
        self._root = Root(root, durable=durable, marks_digests=marks_digests)
        self._cached = CachedOpener(self._root.tree.fd)
        self._names = Listing(self._root.tree.fd)
        self._staging = StagingFolder(self._root.uploads, durable=durable)
        self._small = SmallFiles(self._root, self._staging)

    def lock(self) -> None:
        """Lock the directory against other servers until it is closed. Raises `OSError` when one has it."""
        self._staging.lock()

    def start(self) -> None:
        """See `FileStore`."""
        self._small.recover()
        self._staging.sweep()

    def close(self) -> None:
        """Close every directory handle."""
        self._small.close()
        self._staging.close()
        self._root.close()

    def description(self) -> LocalStoreDescription:
        """See `HasDescription`."""
        return LocalStoreDescription(self._root.tree.real, self._root.durable)

    # -- published files

    def stat(self, name: str) -> FileStat:
        """See `FileStore`."""
        fd, status = self._root.open(name)
        try:
            return self._root.describe(name, status, fd)
        finally:
            os.close(fd)

    def open(self, name: str) -> LocalReader:
        """See `FileStore`; the reader has a descriptor."""
        fd, status = self._root.open(name)
        try:
            return self._reader(fd, name, status, aged=digest_index.has_aged(status))
        except BaseException:
            os.close(fd)
            raise

    def _reader(self, fd: int, name: str, status: os.stat_result, *, aged: bool) -> LocalReader:
        found = self._root.describe(name, status, fd)
        return LocalReader(fd, found, status, self._root.digests.crcs, has_aged=aged)

    def open_at_once(self, name: str) -> LocalReader | None:
        """See `OpensAtOnce`."""
        if names.structural_flaw(name) is not None:
            return None
        fd = self._cached.open(name)
        if fd is None:
            return None
        found = None
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                found = self._root.describe_at_once(name, status)
        finally:
            if found is None:
                os.close(fd)
        return None if found is None else CachedReader(fd, found, status)

    def opener(self) -> VersionOpener:
        """See `OpensInOrder`."""
        return VersionOpener(self._root.tree.fd)

    def stamps(self, folder: str) -> Iterator[tuple[bytes, int]]:
        """See `ListsStamps`."""
        for name, status in self._names.statuses(folder):
            yield name, hash(digest_index.version(status)) if status and stat.S_ISREG(status.st_mode) else 0

    def listing(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[FileStat]:
        """See `FileStore`. Links are followed to files, not to folders, so that no file is listed without end."""
        with closing(self._names.all(prefix, after)) as entries:  # it has folders open
            found = (self._listed(entry) for entry in entries)
            return list(islice((stat for stat in found if stat is not None), limit))

    def level(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[FileStat | str]:
        """See `ListsFolders`. Folders without a file are left out: names are all there is."""
        with closing(self._names.level(prefix, after)) as entries:
            found = (
                self._listed(entry) if isinstance(entry, ListingEntry) else self._with_files(entry, after)
                for entry in entries
            )
            return list(islice((item for item in found if item is not None), limit))

    def _listed(self, entry: ListingEntry) -> FileStat | None:
        """Return the file of an entry; None for an entry that is no file."""
        try:
            status = os.stat(entry.segment, dir_fd=entry.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None  # gone meanwhile
        if stat.S_ISREG(status.st_mode):
            return self._root.describe(entry.name, status, listed=True)
        if not stat.S_ISLNK(status.st_mode):
            return None
        try:
            return self.stat(entry.name)
        except problems.ProblemError:
            return None  # a link that leads nowhere, or to what is no file

    def _with_files(self, folder: str, after: str) -> str | None:
        with closing(self._names.holds(folder, after)) as entries:
            return folder if any(self._listed(entry) is not None for entry in entries) else None

    def delete(self, name: str, expect: Precondition = ANYTHING) -> None:
        """See `FileStore`. Folders that are empty then go, too: names are all there is."""
        with self._root.tree.parent(name) as (folder, last), self._root.lock:
            found = self._root.current(name, folder, last)
            if found is None:
                raise problems.NO_SUCH_FILE(f"there is no file {name!r}; GET /v1/files lists what there is")
            status, is_link = found
            expect.check(name, self._root.describe(name, status))
            with self._root.removal(name, folder, last, None if is_link else status):
                os.unlink(last, dir_fd=folder)
                os.fsync(folder)
        self._root.prune(name)

    def check_target(self, name: str, *, removing: bool = False) -> FileStat | None:
        """See `FileStore`."""
        (names.check_reachable if removing else names.check)(name)
        try:
            with self._root.tree.parent(name) as (folder, last):
                found = self._root.current(name, folder, last)
        except problems.ProblemError as error:
            if error.kind is problems.NO_SUCH_FILE:
                return None
            raise
        return None if found is None else self._root.describe(name, found[0])

    # -- digests

    def record_digests(self, reader: FileReader, digests: FileDigests) -> FileStat | None:
        """See `KeepsDigests`."""
        if not isinstance(reader, LocalReader):
            raise TypeError(f"{reader!r} is of another store")
        record = self._root.digests.add(reader.fileno(), reader.status, digests) if reader.has_aged else None
        if record is None:
            return None
        self._root.contents.add(record.block_digest, reader.stat.name, reader.stat.size)
        if digests.sha256 is not None and self._root.pending is not None:
            fault_points.point("digest.recorded")
            self._root.pending.remove(key_of(reader.status))
        return FileStat(*_named(reader.stat), *record)

    def block_digests(self, reader: FileReader) -> bytes | None:
        """See `KeepsDigests`."""
        if not isinstance(reader, LocalReader):
            raise TypeError(f"{reader!r} is of another store")
        known, _ = self._root.digests.get(reader.status)
        if known is None or known.block_digest is None:
            return None
        return self._root.digests.blocks(reader.status, known.block_digest)

    @property
    def pending_count(self) -> int:
        """See `MarksDigests`."""
        return 0 if self._root.pending is None else len(self._root.pending)

    def pending_digests(self, most: int, skip: Collection[str] = ()) -> list[PendingDigest]:
        """See `MarksDigests`."""
        return [] if self._root.pending is None else self._root.pending.first(most, skip)

    def open_pending(self, pending: PendingDigest) -> LocalReader | None:
        """See `MarksDigests`."""
        try:
            reader = self.open_for_digest(pending.name)
        except problems.ProblemError as error:
            if error.kind is not problems.NO_SUCH_FILE:
                raise
        else:
            if key_of(reader.status) == pending.key and reader.stat.sha256 is None:
                return reader
            reader.close()
        if self._root.pending is not None:
            self._root.pending.remove(pending.key)
        return None

    def open_for_digest(self, name: str) -> LocalReader:
        """See `KeepsDigests`. Within a tick of the file system another write may leave its times unchanged."""
        end = time.monotonic() + _LONGEST_WAIT_S
        while True:
            fd, status = self._root.open(name)
            try:
                if digest_index.has_aged(status):
                    return self._reader(fd, name, status, aged=True)
                if time.monotonic() > end:
                    raise problems.UNAVAILABLE(f"{name!r} is being written to. Try again", headers={"Retry-After": "1"})
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            time.sleep(digest_index.TICK_NS / 1e9)

    def find_content(self, block_digest: str) -> str | None:
        """See `FindsContent`."""
        name = self._root.contents.find(block_digest)
        if name is None:
            return None
        try:
            found = self.stat(name).block_digest
        except problems.ProblemError:
            found = None
        if found == block_digest:
            return name
        self._root.contents.remove(block_digest, name)
        return None

    def find_similar(self, size: int, first: bytes) -> str | None:
        """See `FindsContent`."""
        name = self._root.contents.find_size(size)
        if name is None:
            return None
        try:
            reader = self.open(name)
        except problems.ProblemError:
            self._root.contents.remove_size(size)
            return None
        try:
            blocks = self.block_digests(reader) if reader.stat.size == size else None
        finally:
            reader.close()
        return name if blocks is not None and blocks.startswith(first) else None

    # -- staged bytes

    def publish_small(self, files: Sequence[SmallFile]) -> list[PlacedFile | Exception]:
        """See `PublishesSmallFiles`."""
        return self._small.publish(files)

    def create(self, id: str, info: bytes) -> LocalStagedData:
        """See `FileStore`."""
        return loading.create(self._root, self._staging, id, info)

    def load(self, id: str) -> LocalStagedData:
        """See `FileStore`."""
        return loading.load(self._root, self._staging, id)

    def prepare_blocks(self, staged: StagedData, expected: bytes | None) -> None:
        """See `TakesBlocks`."""
        block_data.prepare(self._staging, staged.id, expected)

    def open_blocks(self, staged: StagedData, size: int) -> LocalBlockData:
        """See `TakesBlocks`."""
        return LocalBlockData(self._root, self._staging, staged.id, size)

    def staged_ids(self) -> list[str]:
        """See `FileStore`."""
        return self._staging.ids()

    def noted_time(self) -> float | None:
        """See `FileStore`."""
        with self._own_folder() as folder:
            text = atomic_file.read(folder, _CLOCK)
        try:
            return float(text) if text is not None else None
        except ValueError:
            log.warning("%s/%s holds no time and is written again", names.RESERVED, _CLOCK)
            return None

    def note_time(self, now: float) -> None:
        """See `FileStore`."""
        with self._own_folder() as folder:
            atomic_file.write(folder, _CLOCK, f"{now:.3f}\n".encode())

    @contextmanager
    def _own_folder(self) -> Iterator[int]:
        fd = os.open(names.RESERVED, FOLDER, dir_fd=self._root.tree.fd)
        try:
            yield fd
        finally:
            os.close(fd)

    def free_space(self) -> int | None:
        """Return how many bytes an unprivileged process can still write."""
        fs = os.fstatvfs(self._root.tree.fd)
        return fs.f_bavail * fs.f_frsize
