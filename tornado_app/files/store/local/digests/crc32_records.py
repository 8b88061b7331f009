"""CRC-32 of large files, which zip archives need: `<inode>.crc32` beside the digests, "size mtime ctime crc" in a line.

It counts for exactly the version that was read. It is a checksum of the archive's format, and no digest of the file.
"""

from __future__ import annotations

import logging
import os

from tornado_app.files.store.local import atomic_file

log = logging.getLogger("holdfast.files")

SUFFIX = ".crc32"


class Crc32Records:
    """Records in an open folder, which it does not close."""

    def __init__(self, folder: int) -> None:
        self._folder = folder

    def get(self, status: os.stat_result) -> int | None:
        """Return the CRC-32 of this version, None if it was not kept."""
        fields = (atomic_file.read(self._folder, _name(status)) or b"").split()
        known = len(fields) == 4 and fields[:3] == _version(status) and fields[3].isdigit() and len(fields[3]) < 11
        return int(fields[3]) if known else None

    def keep(self, status: os.stat_result, crc: int) -> None:
        """Keep the CRC-32 of this version. Without room on the disk it is computed again."""
        try:
            atomic_file.write(self._folder, _name(status), b" ".join([*_version(status), b"%d\n" % crc]))
        except OSError as error:
            log.warning("the CRC-32 of a file can't be recorded: %s", error)


def _name(status: os.stat_result) -> str:
    return f"{status.st_ino:x}{SUFFIX}"


def _version(status: os.stat_result) -> list[bytes]:
    return [b"%d" % field for field in (status.st_size, status.st_mtime_ns, status.st_ctime_ns)]
