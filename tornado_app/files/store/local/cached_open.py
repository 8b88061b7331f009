"""Opens files without waiting for a disk: by openat2 with RESOLVE_CACHED (Linux 5.12), which fails where it would wait.

Only on file systems of which it is known that the opening itself does not wait either, unlike that of a file of a
network file system.
"""

from __future__ import annotations

import ctypes
import os
import sys

from tornado_app.files.store import page_cache

_OPENAT2 = 437  # on every architecture but Alpha
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08 | 0x20  # NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH, CACHED
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCAL = ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "ramfs", "tmpfs", "xfs")


class _OpenHow(ctypes.Structure):
    """`struct open_how` (openat2(2))."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class CachedOpener:
    """Opens regular files below an open folder, if all that it takes is in memory."""

    def __init__(self, folder: int) -> None:
        """Blocks."""
        self._folder = folder
        self._how = ctypes.byref(_OpenHow(_FLAGS, 0, _RESOLVE))
        self._size = ctypes.sizeof(_OpenHow)
        self._call = None
        if sys.platform == "linux" and page_cache.file_system(os.fstat(folder).st_dev) in _LOCAL:
            # PyDLL keeps the GIL: nothing here waits, and to get the GIL back may take long.
            self._call = ctypes.PyDLL(None).syscall

    def open(self, name: str) -> int | None:
        """Return a descriptor; None when that would wait, and for every other failure. A link is not followed."""
        if self._call is None:
            return None
        fd: int = self._call(_OPENAT2, self._folder, name.encode("utf-8", "surrogateescape"), self._how, self._size)
        return None if fd < 0 else fd
