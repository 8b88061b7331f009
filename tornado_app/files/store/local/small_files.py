"""Small files that are published together: they are never staged, and they share the trips to the disk.

Each is written to a file `.new-…` beside the staged bytes. All of them are synced at the same time, from several
threads, because a file system commits together what waits together. Then each gets its name, and every folder is synced
once. A crash leaves the old file or the new one, and the next start removes what has no name yet. `.new-….names` says
meanwhile which file gets which name, so that the next start knows the digests of those that have theirs.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import msgspec

from tornado_app import fault_points, problems
from tornado_app.files import names
from tornado_app.files.store.interface import ANYTHING, FileStat, PlacedFile, SmallFile, digest_tag
from tornado_app.files.store.local import atomic_file, digest_index, directory
from tornado_app.files.store.local.digest_index import DigestRecord
from tornado_app.files.store.local.root import Root
from tornado_app.files.store.local.staging_folder import StagingFolder

GROUP = 128
"""Most files that are open at a time."""

_TEMPORARY = ".new-"
_NAMES = ".names"
_SYNC_THREADS = 8
_SLOW_SYNC_S = 0.0002  # a sync that takes longer has waited for a disk


class SmallFiles:
    """Publishes small files in groups. Safe in several threads."""

    def __init__(self, root: Root, staging: StagingFolder) -> None:
        self._root = root
        self._staging = staging
        self._threads = ThreadPoolExecutor(_SYNC_THREADS, "holdfast-sync")  # they start when they are needed

    def close(self) -> None:
        """End the threads. May be called twice."""
        self._threads.shutdown()

    def recover(self) -> None:
        """Keep the digests of files that got their names in a group which a crash has ended."""
        for entry in os.listdir(self._staging.fd):
            if entry.startswith(_TEMPORARY) and entry.endswith(_NAMES):
                for named in _decoded(atomic_file.read(self._staging.fd, entry)):
                    self._keep(named)

    def _keep(self, named: _Named) -> None:
        try:
            with self._root.tree.parent(named.name) as (folder, last):
                status = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except (problems.ProblemError, FileNotFoundError):
            return
        if (status.st_ino, status.st_size, status.st_mtime_ns) == (named.inode, named.size, named.modified_ns):
            self._root.digests.record_unconfirmed(status, named.record)

    def publish(self, files: Sequence[SmallFile]) -> list[PlacedFile | Exception]:
        """See `PublishesSmallFiles`."""
        results: list[PlacedFile | Exception] = []
        for begin in range(0, len(files), GROUP):
            results += _Group(self._root, self._staging.fd, self._threads, files[begin : begin + GROUP]).publish()
        return results


class _Named(msgspec.Struct, array_like=True):
    """Note of a file that is about to get its name."""

    name: str
    inode: int
    size: int
    modified_ns: int
    record: DigestRecord


class _Entry:
    """One file of a group. `failure` is why it is not published."""

    __slots__ = ("failure", "fd", "file", "record", "replaces", "status", "temporary")

    def __init__(self, file: SmallFile, temporary: str) -> None:
        self.file = file
        self.temporary: str | None = temporary  # None once it has its name
        self.fd = -1
        self.status: os.stat_result | None = None
        self.record: DigestRecord | None = None
        self.replaces = False
        self.failure: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Keep the first failure; a full disk is NO_SPACE."""
        if self.failure is None:
            full = isinstance(error, OSError) and directory.is_full(error)
            self.failure = directory.no_space() if full else error


class _Group:
    """Files that are synced together. For one thread."""

    def __init__(self, root: Root, staging: int, threads: ThreadPoolExecutor, files: Sequence[SmallFile]) -> None:
        self._root = root
        self._staging = staging
        self._threads = threads
        mark = _TEMPORARY + secrets.token_hex(8)
        self._names = mark + _NAMES
        self._entries = [_Entry(file, f"{mark}-{number}") for number, file in enumerate(files)]

    @property
    def _left(self) -> list[_Entry]:
        return [entry for entry in self._entries if entry.failure is None]

    def publish(self) -> list[PlacedFile | Exception]:
        """Publish all; return for each, in order, what it is now or why it is not published."""
        folders: list[tuple[int, list[_Entry]]] = []
        try:
            for entry in self._entries:
                self._attempt(self._write, entry)
            self._sync([(entry.fd, [entry]) for entry in self._left])
            fault_points.point("small.synced")
            self._note()
            by_folder: dict[str, list[_Entry]] = {}  # so that each is synced once; files of one name keep their order
            for entry in self._left:
                by_folder.setdefault(entry.file.name.rpartition("/")[0], []).append(entry)
            for entries in by_folder.values():
                self._place(entries, folders)
            fault_points.point("small.placed")
            self._sync(folders)
            fault_points.point("small.before-record")
            return [entry.failure or self._record(entry) for entry in self._entries]
        finally:
            for folder, _ in folders:
                os.close(folder)
            for entry in self._entries:
                self._release(entry)
            atomic_file.remove(self._staging, self._names)

    @staticmethod
    def _attempt(step: Callable[[_Entry], None], entry: _Entry) -> None:
        """Take a step with one file; a failure is its own, and the others go on."""
        try:
            step(entry)
        except (OSError, problems.ProblemError) as error:
            entry.fail(error)

    def _write(self, entry: _Entry) -> None:
        file = entry.file
        names.check(file.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        # 0o666 and the umask: this inode becomes the published file.
        entry.fd = os.open(entry.temporary or "", flags, 0o666, dir_fd=self._staging)
        view = memoryview(file.data)
        while view:
            view = view[os.write(entry.fd, view) :]
        entry.status = os.fstat(entry.fd)
        sha256, block_digest = file.digests.sha256, file.digests.block_digest
        etag = digest_tag(sha256, block_digest)
        entry.record = None if etag is None else DigestRecord(etag, sha256, block_digest)
        fault_points.point("small.written")

    def _sync(self, opened: list[tuple[int, list[_Entry]]]) -> None:
        """Sync descriptors; a failure is that of all entries beside it. In this thread while that takes no time."""
        if len(opened) > 1 and hasattr(os, "posix_fadvise"):
            for fd, entries in opened:
                if fd == entries[0].fd:  # a file: let the kernel begin to write all of them before one is waited for
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        rest, took = deque(opened), 0.0
        while rest and took < _SLOW_SYNC_S:
            begin = time.perf_counter()
            _sync_one(rest.popleft())
            took = time.perf_counter() - begin
        slices = [[*islice(rest, number, None, _SYNC_THREADS)] for number in range(min(_SYNC_THREADS, len(rest)))]
        for _ in self._threads.map(_sync_each, slices):
            pass

    def _note(self) -> None:
        """Write down which file is about to get which name. Nothing is answered yet: no power cut needs to leave it."""
        noted = [
            _Named(entry.file.name, entry.status.st_ino, entry.status.st_size, entry.status.st_mtime_ns, entry.record)
            for entry in self._left
            if entry.status is not None and entry.record is not None
        ]
        try:
            atomic_file.write(self._staging, self._names, msgspec.json.encode(noted))
        except OSError as error:
            for entry in self._entries:
                entry.fail(error)

    def _place(self, entries: list[_Entry], folders: list[tuple[int, list[_Entry]]]) -> None:
        """Give files of one folder their names, and add the folder, open, with those that got theirs."""
        name = entries[0].file.name
        try:
            with self._root.target(name) as (folder, _):
                placed = os.dup(folder)  # another may remove the files and their folder before it is synced
                folders.append((placed, entries))
                for entry in entries:
                    self._attempt(lambda entry: self._name(folder, entry), entry)
        except (OSError, problems.ProblemError) as error:
            for entry in entries:
                entry.fail(error)
            return
        if all(entry.failure is not None for entry in entries):
            self._root.prune(name)

    def _name(self, folder: int, entry: _Entry) -> None:
        file, last = entry.file, entry.file.name.rpartition("/")[2]
        found = self._root.current(file.name, folder, last)
        if file.expect != ANYTHING:
            file.expect.check(file.name, None if found is None else self._root.describe(file.name, found[0]))
        fault_points.point("small.before-rename")
        if entry.record is not None and entry.status is not None:
            self._root.digests.begin_publication(entry.status, entry.record)
        temporary, absent = entry.temporary or "", file.expect.absent
        replaced = None if found is None or found[1] else found[0]
        with self._root.removal(file.name, folder, last, replaced):
            self._root.give_name(self._staging, temporary, folder, file.name, absent=absent)
        entry.temporary = None
        if absent:
            atomic_file.remove(self._staging, temporary)
        entry.replaces = found is not None

    def _record(self, entry: _Entry) -> PlacedFile:
        status, record = os.fstat(entry.fd), entry.record
        if record is not None and status.st_nlink:  # else another of the group has replaced it
            self._root.digests.record(status, record)
        if entry.file.digests.sha256 is None and self._root.pending is not None:
            self._root.pending.add(status, entry.file.name)
        etag, sha256, block_digest = record or (digest_index.etag(status), None, None)
        stat = FileStat(entry.file.name, status.st_size, status.st_mtime_ns, etag, sha256, block_digest)
        return PlacedFile(stat, entry.replaces)

    def _release(self, entry: _Entry) -> None:
        if entry.fd < 0:
            return
        if entry.temporary is not None:
            atomic_file.remove(self._staging, entry.temporary)
        if entry.status is not None:
            self._root.digests.end_publication(entry.status)
        os.close(entry.fd)


def _decoded(note: bytes | None) -> list[_Named]:
    """Return the notes in a file; none if it was cut off."""
    try:
        return msgspec.json.decode(note or b"[]", type=list[_Named])
    except msgspec.MsgspecError:
        return []


def _sync_each(opened: list[tuple[int, list[_Entry]]]) -> None:
    for one in opened:
        _sync_one(one)


def _sync_one(opened: tuple[int, list[_Entry]]) -> None:
    fd, entries = opened
    try:
        os.fsync(fd)
    except OSError as error:
        for entry in entries:
            entry.fail(error)
