"""The open files directory: its handle, the lock on its names, and what stands under a name.

Published files and staged bytes both stand on it; it knows neither.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tornado_app import problems
from tornado_app.files.store.interface import FileStat
from tornado_app.files.store.local import digest_index, reserved_folder
from tornado_app.files.store.local.digest_index import DigestIndex, DigestRecord
from tornado_app.files.store.local.digests.content_index import LEAST, ContentIndex
from tornado_app.files.store.local.digests.pending_marks import PendingMarks
from tornado_app.files.store.local.directory import DirectoryTree

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)

LISTED_AT_ONCE = 64 << 10
"""Most bytes of one file that are read to confirm its digest for a listing."""


class Root:
    """The files directory, opened once: names resolve below it, and change under its lock.

    `uploads` is a descriptor of the folder of staged bytes; whoever takes it closes it. `pending`: the marks of files
    without a SHA-256; None where none are made.
    """

    def __init__(self, path: Path, *, durable: bool = False, marks_digests: bool = False) -> None:
        self.durable = durable
        self.tree = DirectoryTree(path)
        try:
            self.uploads, digests = reserved_folder.open_folders(self.tree.fd, durable=durable)
            self.contents = ContentIndex(
                reserved_folder.open_folder(self.tree.fd, reserved_folder.CONTENTS, durable=False)
            )
        except BaseException:
            self.tree.close()
            raise
        self.digests = DigestIndex(digests)
        self.pending: PendingMarks | None = None
        if marks_digests:
            self.pending = PendingMarks(
                reserved_folder.open_folder(self.tree.fd, reserved_folder.PENDING, durable=durable)
            )
        # What stands under a name is checked and replaced under this lock: a decision of one server.
        self.lock = threading.Lock()

    def close(self) -> None:
        """Close the directory's handles."""
        self.digests.close()
        if self.pending is not None:
            self.pending.close()
        self.contents.close()
        self.tree.close()

    def open(self, name: str) -> tuple[int, os.stat_result]:
        """Open a file for reading. Raises NO_SUCH_FILE, which says why, also for a name that no file can have."""
        try:
            return self.tree.open(name)
        except problems.ProblemError as error:
            if error.kind is problems.BAD_NAME:
                raise problems.NO_SUCH_FILE(error.detail, **error.members) from None
            raise

    def describe(self, name: str, status: os.stat_result, fd: int | None = None, *, listed: bool = False) -> FileStat:
        """Return a file's version: its ETag is the recorded one, else made of inode, size and times.

        `fd` is the file, if it is open. `listed`: it is one of many, so only a little is read to confirm a digest.
        """
        stamp = digest_index.stamp(status) if listed else 0
        record, before = self.digests.get(status, keep=not listed)
        unconfirmed = None
        if before is not None:
            at_once = LISTED_AT_ONCE if listed else digest_index.AT_ONCE
            record = self._confirmed(name, status, before, fd, at_once)
            unconfirmed = before.etag if record is None and status.st_size > at_once else None
        return _stat(name, status, record, unconfirmed, stamp)

    def describe_at_once(self, name: str, status: os.stat_result) -> FileStat | None:
        """Return what `describe` does if its record is in memory, or that it has none; else None. Never blocks."""
        try:
            return _stat(name, status, self.digests.remembered(status))
        except KeyError:
            return None

    def _confirmed(
        self, name: str, status: os.stat_result, record: DigestRecord, fd: int | None, at_once: int
    ) -> DigestRecord | None:
        if fd is not None:
            return self.digests.confirm(fd, status, record, at_once=at_once)
        try:
            opened, now = self.tree.open(name)
        except problems.ProblemError:
            return None
        try:
            same = digest_index.version(now) == digest_index.version(status)
            return self.digests.confirm(opened, status, record, at_once=at_once) if same else None
        finally:
            os.close(opened)

    def current(self, name: str, folder: int, last: str) -> tuple[os.stat_result, bool] | None:
        """Return the status of the file that is about to be replaced or removed, and whether the name is a link.

        Raises BAD_NAME for a folder or a special file, and for a link to one of these or out of the directory.
        """
        try:
            own = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(own.st_mode):
            try:
                fd, status = self.tree.open(name)
            except problems.ProblemError as error:
                if error.kind is not problems.NO_SUCH_FILE:
                    raise
                return own, True  # it leads nowhere; replacing or removing it touches the link alone
            os.close(fd)
            return status, True
        if not stat.S_ISREG(own.st_mode):
            what = "a folder" if stat.S_ISDIR(own.st_mode) else "neither a file nor a folder"
            raise problems.BAD_NAME(f"{name!r} is {what}. Name a file", field="file_name")
        return own, False

    def shows(self, name: str, data: int) -> bool:
        """Return whether `name` is a second link to the open file `data`."""
        own = os.fstat(data)
        if own.st_nlink < 2:
            return False
        try:
            with self.tree.parent(name) as (folder, last):
                there = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except (problems.ProblemError, FileNotFoundError):
            return False
        return os.path.samestat(own, there)

    def give_name(self, own: int, source: str, folder: int, name: str, *, absent: bool) -> None:
        """Let `name`, in its open folder, show the file `source` of the folder `own`. Raises FILE_EXISTS if `absent`.

        The file may keep its old name, too.
        """
        last = name.rpartition("/")[2]
        if absent:
            try:
                # A link fails if the name was taken meanwhile, even by hand; a rename would replace it.
                os.link(source, last, src_dir_fd=own, dst_dir_fd=folder, follow_symlinks=False)
                return
            except FileExistsError:
                raise problems.FILE_EXISTS(f"there is a file {name!r} already", file_name=name) from None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
        os.rename(source, last, src_dir_fd=own, dst_dir_fd=folder)

    @contextmanager
    def removal(self, name: str, folder: int, last: str, status: os.stat_result | None) -> Iterator[None]:
        """Keep records right while a name is taken away from a file, under the lock; None for a link, or no file.

        Those of a file go with its last name. If it has another one, its ctime changes, and they are written again.
        """
        if status is None:
            yield
            return
        record, _ = self.digests.get(status, keep=False)
        if record is None or status.st_nlink < 2:
            yield
            if record is not None and record.block_digest is not None and status.st_size >= LEAST:
                self.contents.remove(record.block_digest, name)
            self.digests.forget(status)
            return
        fd = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        self.digests.begin_publication(status, record)
        try:
            yield
            if record.block_digest is not None:
                self.contents.remove(record.block_digest, name)
            self.digests.record(os.fstat(fd), record)
        finally:
            self.digests.end_publication(status)
            os.close(fd)

    @contextmanager
    def target(self, name: str) -> Iterator[tuple[int, str]]:
        """Hold the folder that `name` belongs in, made if missing, and the last segment; the lock is held meanwhile."""
        try:
            with self.lock, self.tree.parent(name, create=True) as place:
                yield place
        except BaseException:
            self.prune(name)  # folders that were made for it, and nothing came into
            raise

    def prune(self, name: str) -> None:
        """Remove the folders on the way to `name` that are empty."""
        while name := name.rpartition("/")[0]:
            try:
                with self.tree.parent(name) as (folder, last), self.lock:
                    os.rmdir(last, dir_fd=folder)
            except (OSError, problems.ProblemError):
                return


def _stat(
    name: str, status: os.stat_result, record: DigestRecord | None, unconfirmed: str | None = None, stamp: int = 0
) -> FileStat:
    if record is None:
        record = DigestRecord(digest_index.etag(status), None, None)
    return FileStat(name, status.st_size, status.st_mtime_ns, *record, unconfirmed, stamp)
