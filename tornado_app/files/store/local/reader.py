"""Published files of the local store, open for reading."""

from __future__ import annotations

import os
from typing import cast

from tornado_app.files.store import page_cache
from tornado_app.files.store.interface import FileStat
from tornado_app.files.store.local import digest_index
from tornado_app.files.store.local.digests.crc32_records import Crc32Records
from tornado_app.files.store.local.directory import FolderOpener


class LocalReader:
    """A file of the local store, open for reading; it has a descriptor, so it can be sent by sendfile."""

    def __init__(
        self,
        fd: int,
        found: FileStat,
        status: os.stat_result,
        crcs: Crc32Records | None = None,
        *,
        has_aged: bool = False,
    ) -> None:
        """`has_aged`: every later write changes the times of the file, see `digest_index.has_aged`."""
        self._fd = fd
        self.has_aged = has_aged
        self._crcs = crcs
        self._status = status
        self.stat = found

    def fileno(self) -> int:
        """See `HasDescriptor`."""
        return self._fd

    @property
    def status(self) -> os.stat_result:
        """Return the status of the file when it was opened."""
        return self._status

    def read(self, offset: int, count: int) -> bytes:
        """See `FileReader`. No bytes past the size that it had when it was opened."""
        count = min(count, self.stat.size - offset)
        parts: list[bytes] = []
        while count > 0 and (part := os.pread(self._fd, count, offset)):
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def kept_crc32(self) -> int | None:
        """See `KeepsCrc32`."""
        return None if self._crcs is None else self._crcs.get(self._status)

    def keep_crc32(self, crc: int) -> None:
        """See `KeepsCrc32`."""
        if self._crcs is not None and self.has_aged:
            self._crcs.keep(self._status, crc)

    def changed(self) -> bool:
        """See `FileReader`."""
        return _changed(os.fstat(self._fd), self._status)

    @property
    def stamp(self) -> int | None:
        """See `HasStamp`. Within a tick of the file system another write may leave its times unchanged."""
        return hash(digest_index.version(self._status)) if self.has_aged else None

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class CachedReader(LocalReader):
    """A file of the local store that was opened at once."""

    def read(self, offset: int, count: int) -> bytes:
        """See `OpensAtOnce`."""
        return bytes(page_cache.read_from_memory(self._fd, offset, min(count, self.stat.size - offset)))


class VersionOpener:
    """`OrderedOpener` of the local store."""

    def __init__(self, root: int) -> None:
        """`root` is an open folder, which stays open."""
        self._files = FolderOpener(root)

    def open(self, name: str, stamp: int) -> tuple[int, os.stat_result] | None:
        """See `OrderedOpener`."""
        found = self._files.open(name)
        if found is not None and hash(digest_index.version(found[1])) != stamp:
            os.close(found[0])
            return None
        return found

    def changed(self, fd: int, state: object) -> bool:
        """See `OrderedOpener`."""
        return _changed(os.fstat(fd), cast(os.stat_result, state))

    def close(self) -> None:
        """See `OrderedOpener`."""
        self._files.close()


def _changed(now: os.stat_result, before: os.stat_result) -> bool:
    """Return whether an open file was written to. Only edits by hand do: the server never writes to a published file.

    A new mode, owner or link explains a new ctime: the server itself removes links when it replaces a file.
    """
    if digest_index.version(now) == digest_index.version(before):
        return False
    return _content(now) != _content(before) or _nature(now) == _nature(before)


def _content(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _nature(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_nlink
