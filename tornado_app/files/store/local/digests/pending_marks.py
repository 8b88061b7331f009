"""Marks of published files whose SHA-256 is still to be made: `.holdfast/sha256-pending/<inode>` holds the name of one.

A mark is written once the file has its name and its record, and removed when the digest is recorded. It is a hint: one
whose file was replaced, renamed or removed is removed when its turn comes. A power cut may lose marks; such a file gets
its digest when somebody asks for it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection
from itertools import islice

from tornado_app.files.store.local import atomic_file
from tornado_app.files.store.optional_powers import PendingDigest

log = logging.getLogger("holdfast.files")

NEVER_MARKED = 64 << 10
"""Files of at most so many bytes are hashed when they are asked for, which costs less than a mark."""


class PendingMarks:
    """The marks in an open folder, which it closes."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._keys = {name for name in os.listdir(folder) if not name.startswith(".")}

    def __len__(self) -> int:
        return len(self._keys)

    def close(self) -> None:
        """Close the folder. May be called twice."""
        folder, self._folder = self._folder, -1
        if folder >= 0:
            os.close(folder)

    def add(self, status: os.stat_result, name: str) -> None:
        """Mark a file that was published under `name`. Without room on the disk it is not marked."""
        if status.st_size <= NEVER_MARKED:
            return
        key = key_of(status)
        try:
            atomic_file.write(self._folder, key, name.encode())
        except OSError as error:
            log.warning("%r can't be marked for its SHA-256, which is made when it is asked for: %s", name, error)
            return
        with self._lock:
            self._keys.add(key)

    def remove(self, key: str) -> None:
        """Remove a mark, if there is one."""
        with self._lock:
            if key not in self._keys:
                return
            self._keys.discard(key)
        atomic_file.remove(self._folder, key)

    def first(self, most: int, skip: Collection[str]) -> list[PendingDigest]:
        """Return at most `most` marks, the oldest of them first, without those whose keys are in `skip`."""
        with self._lock:
            keys = [*islice((key for key in self._keys if key not in skip), most)]
        found = [mark for key in keys if (mark := self._read(key)) is not None]
        return sorted(found, key=lambda mark: mark.since)

    def _read(self, key: str) -> PendingDigest | None:
        try:
            since = os.stat(key, dir_fd=self._folder, follow_symlinks=False).st_mtime
            name = (atomic_file.read(self._folder, key) or b"").decode()
        except (OSError, UnicodeDecodeError):
            name = ""
        if not name:
            self.remove(key)
            return None
        return PendingDigest(key, name, since)


def key_of(status: os.stat_result) -> str:
    """Return the key under which a file is marked."""
    return f"{status.st_ino:x}"
