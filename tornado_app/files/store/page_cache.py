"""Reads from the page cache, which never wait for a disk."""

from __future__ import annotations

import os
from functools import lru_cache


def in_memory(fd: int, offset: int, count: int) -> bool:
    """Return whether a part of a file is in the page cache; False where that can't be known. Never blocks."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    byte = bytearray(1)
    try:
        return all(os.preadv(fd, [byte], place, os.RWF_NOWAIT) == 1 for place in (offset, offset + count - 1))
    except OSError:
        return False


def read_from_memory(fd: int, offset: int, count: int) -> bytearray:
    """Return a part of a file that is in the page cache. Raises `BlockingIOError` rather than wait for a disk."""
    data = bytearray(count)
    try:
        found = os.preadv(fd, [data], offset, os.RWF_NOWAIT)
    except AttributeError:  # not Linux
        raise BlockingIOError from None
    except OSError:
        if not lives_in_memory(os.fstat(fd).st_dev):
            raise BlockingIOError from None
        found = os.preadv(fd, [data], offset)
    if found < count:
        raise BlockingIOError
    return data


def lives_in_memory(device: int) -> bool:
    """Return whether a device is a file system in memory, of which `in_memory` knows nothing. Blocks the first time."""
    return file_system(device) in ("tmpfs", "ramfs")


@lru_cache(maxsize=64)
def file_system(device: int) -> str:
    """Return the kind of file system of a device, such as ext4; "" if it is not known. Blocks the first time."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for mount in mounts:
                fields, _, kind = mount.partition(" - ")
                if fields.split()[2] == wanted:
                    return kind.split()[0]
    except OSError:
        pass  # not Linux: it can't be known
    return ""
