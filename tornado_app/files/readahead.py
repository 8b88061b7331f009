"""Brings files into memory ahead of sendfile, so that the loop, which calls it, never waits for a disk."""

from __future__ import annotations

import os
from functools import lru_cache

from tornado_app.files.store.interface import FileReader, HasDescriptor

FIRST_WINDOW = 1 << 20
"""How much is read ahead before anything is sent: the first bytes should not wait for those that follow."""


def begin(reader: FileReader, offset: int, count: int) -> bool:
    """Read the first window ahead; whether all of the file is in memory for good. Blocks."""
    if not isinstance(reader, HasDescriptor):
        return False
    bring_into_memory(reader.fileno(), offset, min(count, FIRST_WINDOW))
    return lives_in_memory(os.fstat(reader.fileno()).st_dev)


def in_memory(fd: int, offset: int, count: int) -> bool:
    """Whether a part of a file can be read without waiting; False where there is no telling. Never blocks."""
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
    """Whether a device is a file system without a disk, which `in_memory` can't see. Blocks the first time."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for mount in mounts:
                fields, _, kind = mount.partition(" - ")
                if fields.split()[2] == wanted:
                    return kind.split()[0] in ("tmpfs", "ramfs")
    except OSError:
        pass  # no Linux: there is no telling
    return False
