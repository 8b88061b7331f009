"""Reads from the page cache, which never wait for a disk, and writes into it, at small cost."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache

_MOST = 64  # pieces of one system call

WRITTEN = 64 << 10
"""Bytes that one system call writes at most.

For a larger write ext4 (Linux 6.18) allocates larger folios, and the kernel compacts memory to find them: 1 GiB in
steps of 1 MiB costs 0.4 to 1.1 s of processor time, in steps of 64 KiB 0.2 s. On tmpfs they cost the same.
"""


_WRITE = 2  # SYNC_FILE_RANGE_WRITE


def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    call = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_SYNC_FILE_RANGE = _sync_file_range()


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


def write(fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> tuple[int, OSError | None]:
    """Write all pieces from `offset` on; return how many bytes were written, and the error that has ended it."""
    begin = offset
    try:
        for step in _steps(pieces):
            while step:
                written = os.pwritev(fd, step, offset)
                offset += written
                while step and written >= len(step[0]):
                    written -= len(step.pop(0))
                if written:  # the disk had room for a part
                    step[0] = memoryview(step[0])[written:]
    except OSError as error:
        return offset - begin, error
    return offset - begin, None


def begin_writeback(fd: int, offset: int, count: int) -> None:
    """Let the disk begin to write a part of a file, which nobody waits for: the sync at the end then takes less long.

    Does nothing where the system has no such call.
    """
    if _SYNC_FILE_RANGE is not None:
        _SYNC_FILE_RANGE(fd, offset, count, _WRITE)


def _steps(pieces: Sequence[bytes | memoryview]) -> list[list[bytes | memoryview]]:
    """Cut pieces, and join them, to what one system call writes."""
    steps: list[list[bytes | memoryview]] = [[]]
    room = WRITTEN
    for piece in pieces:
        size, at = len(piece), 0
        while at < size:
            count = min(room, size - at)
            steps[-1].append(piece if count == size else memoryview(piece)[at : at + count])
            at, room = at + count, room - count
            if not room or len(steps[-1]) == _MOST:
                steps.append([])
                room = WRITTEN
    return steps


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
