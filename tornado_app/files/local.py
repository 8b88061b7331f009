"""The local store: published files in a directory, bytes in the making in a reserved folder of it (one file system)."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from tornado_app import problems
from tornado_app.files import digests, names, reserved
from tornado_app.files.digests import DigestNotes
from tornado_app.files.listing import Entry, Listing
from tornado_app.files.staging import LocalStaged, Staging
from tornado_app.files.store import ANYTHING, Expect, FileStat
from tornado_app.files.tree import Tree


class LocalReader:
    """A file of the local store, open for reading; it has a descriptor, so it can be sent by sendfile."""

    def __init__(self, fd: int, found: FileStat) -> None:
        self._fd = fd
        self.stat = found

    def fileno(self) -> int:
        """The open file."""
        return self._fd

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset`, and none past the size that it had when it was opened."""
        count = min(count, self.stat.size - offset)
        parts: list[bytes] = []
        while count > 0 and (part := os.pread(self._fd, count, offset)):
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def changed(self) -> bool:
        """See `FileReader`: by hand, since what the server publishes is never written to again."""
        now = os.fstat(self._fd)
        return (now.st_size, now.st_mtime_ns) != (self.stat.size, self.stat.modified_ns)

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class LocalStore:
    """`FileStore` on a directory. Construct and `start` it in a thread: both touch the disk."""

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        self.tree = Tree(root)
        try:
            uploads, notes = reserved.open_folders(self.tree.fd, durable=durable)
        except BaseException:
            self.tree.close()
            raise
        self.digests = DigestNotes(notes)
        self._names = Listing(self.tree.fd)
        # What stands under a name is checked and replaced under this lock: a decision of one server.
        self.lock = threading.Lock()
        self._staging = Staging(self, uploads, durable)

    def claim(self) -> None:
        """Be the one server of this directory, until closed. Raises `OSError` when there is another."""
        self._staging.claim()

    def start(self) -> None:
        """Clear away what a crash left half made."""
        self._staging.sweep()

    def close(self) -> None:
        """Let go of every directory handle."""
        self._staging.close()
        self.digests.close()
        self.tree.close()

    # -- published files

    def stat(self, name: str) -> FileStat:
        """See `FileStore`."""
        fd, status = self._open(name)
        os.close(fd)
        return self.describe(name, status)

    def open(self, name: str) -> LocalReader:
        """See `FileStore`; the reader has a descriptor."""
        fd, status = self._open(name)
        try:
            return LocalReader(fd, self.describe(name, status))
        except BaseException:
            os.close(fd)
            raise

    def _open(self, name: str) -> tuple[int, os.stat_result]:
        """Open a file for reading. By a name that no file can have there is none: NO_SUCH_FILE says why."""
        try:
            return self.tree.open(name)
        except problems.ProblemError as error:
            if error.kind is problems.BAD_NAME:
                raise problems.NO_SUCH_FILE(error.detail, **error.members) from None
            raise

    def listing(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[FileStat]:
        """See `FileStore`. Links are followed to files, not to folders, so that no file is listed without end."""
        found = (self._listed(entry) for entry in self._names.all(prefix, after))
        return list(islice((stat for stat in found if stat is not None), limit))

    def level(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[FileStat | str]:
        """See `FileStore`. Folders without a file are left out: names are all there is."""
        found = (
            self._listed(entry) if isinstance(entry, Entry) else self._with_files(entry, after)
            for entry in self._names.level(prefix, after)
        )
        return list(islice((stat for stat in found if stat is not None), limit))

    def _listed(self, entry: Entry) -> FileStat | None:
        """The file by a name that was found; None for what is none."""
        try:
            status = os.stat(entry.segment, dir_fd=entry.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None  # gone meanwhile
        if stat.S_ISREG(status.st_mode):
            return self.describe(entry.name, status)
        if not stat.S_ISLNK(status.st_mode):
            return None
        try:
            return self.stat(entry.name)
        except problems.ProblemError:
            return None  # a link that leads nowhere, or to what is no file

    def _with_files(self, folder: str, after: str) -> str | None:
        return folder if any(self._listed(entry) is not None for entry in self._names.holds(folder, after)) else None

    def delete(self, name: str, expect: Expect = ANYTHING) -> None:
        """See `FileStore`. Folders that are empty then go, too: names are all there is."""
        with self.tree.parent(name) as (folder, last), self.lock:
            found = self.found(name, folder, last)
            if found is None:
                raise problems.NO_SUCH_FILE(f"there is no file {name!r}; GET /v1/files lists what there is")
            status, _ = found
            expect.check(name, self.describe(name, status))
            os.unlink(last, dir_fd=folder)
            os.fsync(folder)
            self.digests.forget(status)
        self.prune(name)

    def check_target(self, name: str, *, removing: bool = False) -> FileStat | None:
        """See `FileStore`."""
        (names.check_reachable if removing else names.check)(name)
        try:
            with self.tree.parent(name) as (folder, last):
                found = self.found(name, folder, last)
        except problems.ProblemError as error:
            if error.kind is problems.NO_SUCH_FILE:
                return None
            raise
        return None if found is None else self.describe(name, found[0])

    # -- bytes in the making

    def create(self, id: str, info: bytes) -> LocalStaged:
        """See `FileStore`."""
        return self._staging.create(id, info)

    def load(self, id: str) -> LocalStaged:
        """See `FileStore`."""
        return self._staging.load(id)

    def staged(self) -> list[str]:
        """See `FileStore`."""
        return self._staging.ids()

    def free_space(self) -> int | None:
        """Bytes that an unprivileged process may still write."""
        fs = os.fstatvfs(self.tree.fd)
        return fs.f_bavail * fs.f_frsize

    # -- shared with staging

    def describe(self, name: str, status: os.stat_result) -> FileStat:
        """A file's version: its ETag is its digest when that is known, else what a change by hand changes."""
        sha256 = self.digests.get(status)
        return FileStat(name, status.st_size, status.st_mtime_ns, sha256 or digests.etag(status), sha256)

    def found(self, name: str, folder: int, last: str) -> tuple[os.stat_result, bool] | None:
        """What stands at a name that is about to be replaced or removed: its status, and whether it is a link.

        Raises BAD_NAME for a folder, or what else is no file, and for a link to such a thing or out of the directory.
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
            raise problems.BAD_NAME(f"{name!r} is {what}; name a file", field="file_name")
        return own, False

    @contextmanager
    def target(self, name: str) -> Iterator[tuple[int, str]]:
        """The folder that `name` belongs in, made if missing, and the last segment; nobody prunes it meanwhile."""
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
