"""What the server knows about the content of its files: SHA-256 by inode, valid while size and mtime stand."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from tornado_app.files import small

_CACHED = 65536

Version = tuple[int, int, int]  # inode, size, mtime in ns: what a change by hand changes


def version(status: os.stat_result) -> Version:
    """Which content of which file."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def etag(status: os.stat_result) -> str:
    """The entity tag of content whose digest is not known: what a change by hand changes."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


class DigestNotes:
    """One small note a digested file, in a folder that it takes over, named by inode.

    A note is written before the file is renamed into place, so whoever sees the file can see its digest.
    """

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._cache: OrderedDict[Version, str | None] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, status: os.stat_result) -> str | None:
        """The digest of this very content as hex, None when it is not known."""
        key = version(status)
        with self._lock:
            if key in self._cache:
                return self._cache[key]
        sha256 = _parse(small.read(self._folder, f"{status.st_ino:x}"), key)
        self._remember(key, sha256)
        return sha256

    def put(self, status: os.stat_result, sha256: str) -> None:
        """Note the digest of a file that won't change any more."""
        ino, size, mtime = key = version(status)
        small.write(self._folder, f"{ino:x}", f"{size} {mtime} {sha256}\n".encode())
        self._remember(key, sha256)

    def forget(self, status: os.stat_result) -> None:
        """The file is gone: its inode may come back as another one's."""
        if status.st_nlink <= 1:
            with self._lock:
                self._cache.pop(version(status), None)
            small.remove(self._folder, f"{status.st_ino:x}")

    def close(self) -> None:
        """Let go of the folder."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _remember(self, key: Version, sha256: str | None) -> None:
        with self._lock:
            self._cache[key] = sha256
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)


def _parse(note: bytes | None, key: Version) -> str | None:
    if note is None:
        return None
    size, _, rest = note.decode("ascii", "replace").partition(" ")
    mtime, _, sha256 = rest.strip().partition(" ")
    return sha256 if (size, mtime) == (str(key[1]), str(key[2])) and len(sha256) == 64 else None
