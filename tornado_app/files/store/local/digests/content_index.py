"""Names of published files by their block digest, and of big ones by their size: one small file each, with the name.

An entry is a hint: files are renamed, edited and removed by hand. Whoever uses one verifies it by the file's record.
"""

from __future__ import annotations

import logging
import os
import re

from tornado_app.files.store.blocks import HINTED
from tornado_app.files.store.local import atomic_file

log = logging.getLogger("holdfast.files")

LEAST = 1 << 20
"""Bytes of the smallest file that is worth an entry."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ContentIndex:
    """The entries, in an open folder, which it closes."""

    def __init__(self, folder: int) -> None:
        self._folder = folder

    def add(self, block_digest: str | None, name: str, size: int) -> None:
        """Note that a file has this digest, if it is known. Without room on the disk it is not found later."""
        if block_digest is None or size < LEAST:
            return
        try:
            atomic_file.write(self._folder, block_digest, os.fsencode(name))
            if size >= HINTED:
                atomic_file.write(self._folder, _size_entry(size), os.fsencode(name))
        except OSError as error:
            log.warning("the content of %r will not be found under other names: %s", name, error)

    def find(self, block_digest: str) -> str | None:
        """Return the name of a file that had this digest; None for none."""
        found = atomic_file.read(self._folder, block_digest) if _DIGEST.fullmatch(block_digest) else None
        return None if found is None else os.fsdecode(found)

    def find_size(self, size: int) -> str | None:
        """Return the name of the last file that was published with this size; None for none."""
        found = atomic_file.read(self._folder, _size_entry(size)) if size >= HINTED else None
        return None if found is None else os.fsdecode(found)

    def remove_size(self, size: int) -> None:
        """Remove the entry of a size."""
        atomic_file.remove(self._folder, _size_entry(size))

    def remove(self, block_digest: str, name: str) -> None:
        """Remove the entry of a digest if it names this file."""
        if self.find(block_digest) == name:
            atomic_file.remove(self._folder, block_digest)

    def close(self) -> None:
        """Close the folder. May be called twice."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def _size_entry(size: int) -> str:
    return f"size-{size}"
