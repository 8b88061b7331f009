"""Reads files into the page cache before sendfile, so that the event loop, which calls it, never waits for a disk."""

from __future__ import annotations

import os
from functools import lru_cache

from tornado_app.files.store.interface import FileReader, HasDescriptor

FIRST_WINDOW = 1 << 20
"""Bytes that are read ahead before any is sent: the first ones do not wait for those that follow."""


def begin(reader: FileReader, offset: int, count: int) -> bool:
    """Read the first window ahead, and return whether the file stays in memory always. Blocks."""
    if not isinstance(reader, HasDescriptor):
        return False
    bring_into_memory(reader.fileno(), offset, min(count, FIRST_WINDOW))
    return lives_in_memory(os.fstat(reader.fileno()).st_dev)


def in_memory(fd: int, offset: int, count: int) -> bool:
    """Return whether a part of a file is in the page cache; False where that can't be known. Never blocks."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    byte = bytearray(1)
    try:
        return all(os.preadv(fd, [byte], place, os.RWF_NOWAIT) == 1 for place in (offset, offset + count - 1))
    except OSError:
        return False


def bring_into_memory(fd: int, offset: int, count: int) -> None:
    """Read a part of a file ahead, and return when its end is there. Blocks."""
    if hasattr(os, "posix_fadvise"):
        # Twice the window: the next one comes while this one goes.
        os.posix_fadvise(fd, offset, 2 * count, os.POSIX_FADV_WILLNEED)
    os.pread(fd, 1, offset + count - 1)


@lru_cache(maxsize=64)
def lives_in_memory(device: int) -> bool:
    """Return whether a device is a file system in memory, of which `in_memory` knows nothing. Blocks the first time."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for mount in mounts:
                fields, _, kind = mount.partition(" - ")
                if fields.split()[2] == wanted:
                    return kind.split()[0] in ("tmpfs", "ramfs")
    except OSError:
        pass  # not Linux: it can't be known
    return False
