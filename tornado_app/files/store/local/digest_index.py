"""Digests of published files: SHA-256 by inode, valid while inode, size, mtime and ctime stay the same.

The ctime can't be set by hand, so every edit changes it, but chmod, a rename or another link change it, too. A digest
whose file has another ctime is unconfirmed: the file is read again, and the digest counts if the file still has it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from tornado_app.files.store.local import atomic_file

log = logging.getLogger("holdfast.files")

AT_ONCE = 64 << 20
"""Most bytes that `confirm` reads at once; larger files are read in the background."""
_PIECE = 1 << 20
_CACHED = 65536
_WAITING = 64  # files that wait to be read in the background; a further one is tried again at the next request

Version = tuple[int, int, int, int]  # inode, size, mtime and ctime in ns


def version(status: os.stat_result) -> Version:
    """Return what changes with every change of a file."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def etag(status: os.stat_result) -> str:
    """Return the entity tag of a file whose digest is not known; every change by hand changes it."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"


class DigestIndex:
    """Digests by file: one small record each, named by inode, in an open folder, which it closes."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._cache: OrderedDict[Version, str | None] = OrderedDict()
        self._publishing: dict[int, tuple[int, int, str]] = {}
        self._waiting: set[Version] = set()
        self._reader: ThreadPoolExecutor | None = None
        self._closed = False
        self._lock = threading.Lock()

    def get(self, status: os.stat_result, *, keep: bool = True) -> tuple[str | None, str | None]:
        """Return the digest of this version as hex, if it is known, and else the unconfirmed one, if there is one.

        `keep`: remember that there is none.
        """
        key = version(status)
        with self._lock:
            if key in self._cache:
                return self._cache[key], None
            held = self._publishing.get(status.st_ino)
        if held is not None and held[:2] == (status.st_size, status.st_mtime_ns):
            return held[2], None
        sha256, ctime = _parse(atomic_file.read(self._folder, f"{status.st_ino:x}"), key)
        if sha256 is not None and ctime != status.st_ctime_ns:
            return None, sha256
        if sha256 is not None or keep:
            self._remember(key, sha256)
        return sha256, None

    def begin_publication(self, status: os.stat_result, sha256: str) -> None:
        """Hold the digest of a file that is being given its name, which changes its ctime, until it has it."""
        with self._lock:
            self._publishing[status.st_ino] = status.st_size, status.st_mtime_ns, sha256

    def end_publication(self, status: os.stat_result) -> None:
        """Stop holding it: the file has its name and its digest, or will not have them."""
        with self._lock:
            self._publishing.pop(status.st_ino, None)

    def record(self, status: os.stat_result, sha256: str) -> None:
        """Record the digest of a file that won't change any more. Without room on the disk it is kept in memory."""
        ino, size, mtime, ctime = key = version(status)
        self._remember(key, sha256)
        self._write(ino, f"{size} {mtime} {ctime} {sha256}\n")

    def record_unconfirmed(self, status: os.stat_result, sha256: str) -> None:
        """Record a digest that a file had earlier, unless there is a record; `confirm` checks it when it is needed."""
        if self.get(status, keep=False) == (None, None):
            self._write(status.st_ino, f"{status.st_size} {status.st_mtime_ns} 0 {sha256}\n")

    def confirm(self, fd: int, status: os.stat_result, sha256: str, *, at_once: int = AT_ONCE) -> str | None:
        """Read an open file again and return the digest if the file still has it.

        None when it has not, or while it is not known: more than `at_once` bytes are read in the background.
        """
        if status.st_size <= at_once:
            return self.verify(fd, status, sha256)
        key = version(status)
        with self._lock:
            if self._closed or key in self._waiting or len(self._waiting) >= _WAITING:
                return None
            self._waiting.add(key)
            if self._reader is None:
                self._reader = ThreadPoolExecutor(1, "holdfast-digests")
            self._reader.submit(self._check_later, os.dup(fd), status, sha256)
        return None

    def forget(self, status: os.stat_result) -> None:
        """Remove the record of a file that is removed: its inode may be used for another file."""
        if status.st_nlink <= 1:
            self._drop(status)

    def close(self) -> None:
        """Close the folder, after the file that is being read."""
        with self._lock:
            self._closed = True
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.shutdown()
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _check_later(self, fd: int, status: os.stat_result, sha256: str) -> None:
        try:
            self.verify(fd, status, sha256)
        except OSError as error:
            log.warning("a file of %d bytes can't be read to confirm its digest: %s", status.st_size, error)
        finally:
            os.close(fd)
            with self._lock:
                self._waiting.discard(version(status))

    def verify(self, fd: int, status: os.stat_result, sha256: str) -> str | None:
        """Read an open file; return `sha256` and record it if the file has it, else None, and forget it. Blocks."""
        found, offset = hashlib.sha256(), 0
        while piece := os.pread(fd, _PIECE, offset):
            if self._closed:
                return None
            found.update(piece)
            offset += len(piece)
        if version(os.fstat(fd)) != version(status):
            return None  # changed meanwhile: the next request confirms it
        if found.hexdigest() != sha256:
            self._drop(status)
            return None
        self.record(status, sha256)
        return sha256

    def _drop(self, status: os.stat_result) -> None:
        with self._lock:
            self._cache.pop(version(status), None)
        atomic_file.remove(self._folder, f"{status.st_ino:x}")

    def _write(self, ino: int, note: str) -> None:
        try:
            atomic_file.write(self._folder, f"{ino:x}", note.encode())
        except OSError as error:
            log.warning("the digest of a file can't be recorded: %s", error)

    def _remember(self, key: Version, sha256: str | None) -> None:
        with self._lock:
            self._cache[key] = sha256
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)


def _parse(note: bytes | None, key: Version) -> tuple[str | None, int]:
    """Return the digest in a record of this inode, size and mtime, and its ctime: 0 in one of an earlier version."""
    fields = (note or b"").decode("ascii", "replace").split()
    if len(fields) == 3:
        fields.insert(2, "0")
    if len(fields) != 4 or fields[:2] != [str(key[1]), str(key[2])] or len(fields[3]) != 64:
        return None, 0
    return fields[3], int(fields[2]) if fields[2].isdecimal() else 0
