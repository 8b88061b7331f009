"""Copies within a file system: by reference where it shares blocks between files, else by the kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from tornado_app.files.store import page_cache

_COPY = 1 << 30
_FICLONE, _FICLONERANGE = 0x40049409, 0x4020940D
# What kernels, file systems and sandboxes say that can't do it between these two files.
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.ENOTTY, errno.ETXTBSY)


def clone(source: int, target: int) -> bool:
    """Let `target` share all bytes of `source`, by reference. Returns False where the file system can't."""
    return _request(target, _FICLONE, source)


def copy_range(source: int, start: int, target: int, at: int, count: int) -> None:
    """Copy `count` bytes from `start` to `at` of another file. Raises `OSError` (EIO) when the source ends before."""
    if _request(target, _FICLONERANGE, struct.pack("qQQQ", source, start, count, at)):
        return
    done = 0
    while done < count:
        copied = copy_some(source, start + done, target, at + done, count - done)
        if copied == 0:
            raise OSError(errno.EIO, "the source of a copy ended early")
        done += copied


def copy_some(source: int, start: int, target: int, at: int, count: int) -> int:
    """Copy at most `count` bytes from `start` to `at` of another file; return how many."""
    if hasattr(os, "copy_file_range"):
        try:
            copied = os.copy_file_range(source, target, min(_COPY, count), start, at)
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
        else:
            if copied:  # some file systems say 0 where they can't
                return copied
    return os.pwrite(target, os.pread(source, min(page_cache.WRITTEN, count), start), at)


def _request(target: int, request: int, argument: int | bytes) -> bool:
    try:
        fcntl.ioctl(target, request, argument)
    except OSError as error:
        if error.errno not in _NO_COPY:
            raise
        return False
    return True
