"""Reads files into the page cache before sendfile, so that the event loop, which calls it, never waits for a disk."""

from __future__ import annotations

import os

from tornado_app.files.store.interface import FileReader
from tornado_app.files.store.optional_powers import HasDescriptor
from tornado_app.files.store.page_cache import lives_in_memory

FIRST_WINDOW = 1 << 20
"""Bytes that are read ahead before any is sent: the first ones do not wait for those that follow."""


def begin(reader: FileReader, offset: int, count: int) -> bool:
    """Read the first window ahead, and return whether the file stays in memory always. Blocks."""
    if not isinstance(reader, HasDescriptor):
        return False
    bring_into_memory(reader.fileno(), offset, min(count, FIRST_WINDOW))
    return lives_in_memory(os.fstat(reader.fileno()).st_dev)


def bring_into_memory(fd: int, offset: int, count: int) -> None:
    """Read a part of a file ahead, and return when its end is there. Blocks."""
    if hasattr(os, "posix_fadvise"):
        # Twice the window: the next one comes while this one goes.
        os.posix_fadvise(fd, offset, 2 * count, os.POSIX_FADV_WILLNEED)
    os.pread(fd, 1, offset + count - 1)
