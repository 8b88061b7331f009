"""Digests of the blocks of staged bytes on a local disk: `blocks` beside `data`, 32 bytes a block at index * 32.

They are written after the bytes, without fsync, and cut before the bytes are. So they are right after the end of the
process; a power cut may have lost bytes that they are of. `boot` names the boot of the machine that they were written
in, and those of another boot count for nothing.
"""

from __future__ import annotations

import os

from holdfast.digests import ABSENT, BLOCK, SIZE, count
from tornado_app.files.store.local import atomic_file
from tornado_app.files.store.local.blocks.boot import BOOT
from tornado_app.files.store.local.staging_folder import StagingFolder

BLOCKS = "blocks"
_BOOT = "boot"

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class StagedBlocks:
    """`blocks` of one upload, open from the first digest that is written until `close`."""

    def __init__(self, staging: StagingFolder, id: str) -> None:
        self._staging = staging
        self._id = id
        self._fd = -1

    def read(self, size: int) -> bytes:
        """Return the digests of the whole blocks among the first `size` bytes."""
        with self._staging.open(self._id) as folder:
            if atomic_file.read(folder, _BOOT) != BOOT:
                return b""
            return (atomic_file.read(folder, BLOCKS) or b"")[: size // BLOCK * SIZE]

    def write(self, first: int, digests: bytes) -> None:
        """Write the digests of the blocks from the index `first`. Raises `OSError`."""
        if self._fd < 0:
            with self._staging.open(self._id) as folder:
                if atomic_file.read(folder, _BOOT) != BOOT:
                    atomic_file.remove(folder, BLOCKS)
                    atomic_file.write(folder, _BOOT, BOOT)
                self._fd = os.open(BLOCKS, _FLAGS, 0o600, dir_fd=folder)
        os.pwrite(self._fd, digests, first * SIZE)

    def drop(self, offset: int, size: int) -> None:
        """Forget the digests of the blocks that have these bytes."""
        with self._staging.open(self._id) as folder:
            there = len(atomic_file.read(folder, BLOCKS) or b"") // SIZE
        first, end = offset // BLOCK, min(there, count(offset + size))
        if first < end:
            self.write(first, ABSENT * (end - first))

    def cut(self, size: int) -> None:
        """Forget the blocks that are not wholly among the first `size` bytes; called before these bytes are cut off."""
        if self._fd >= 0:
            _cut(self._fd, size)
            return
        with self._staging.open(self._id) as folder:
            cut_in(folder, size)

    def complete(self, folder: int, digests: bytes) -> None:
        """Make these the content of `blocks`, of which most is there already; `folder` is the upload's, open."""
        self.close()
        there = atomic_file.read(folder, BLOCKS) or b""
        if not digests.startswith(there):
            atomic_file.write(folder, BLOCKS, digests)
        elif there != digests:
            fd = os.open(BLOCKS, _FLAGS, 0o600, dir_fd=folder)
            try:
                os.pwrite(fd, digests[len(there) :], len(there))
            finally:
                os.close(fd)

    def close(self) -> None:
        """Close the file. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def cut_in(folder: int, size: int) -> None:
    """Forget the blocks that are not wholly among the first `size` bytes, in the open folder of an upload."""
    try:
        fd = os.open(BLOCKS, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return
    try:
        _cut(fd, size)
    finally:
        os.close(fd)


def _cut(fd: int, size: int) -> None:
    end = size // BLOCK * SIZE
    if os.fstat(fd).st_size > end:
        os.ftruncate(fd, end)
