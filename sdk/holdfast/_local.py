"""The local end of a transfer: what is read for an upload, and where a download lands. All of it blocks."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO

from holdfast.errors import LocalChanged

PIECE = 1 << 20


class LocalFile:
    """A file that goes up. It is noticed when it changes on the way."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        status = self.path.stat()
        self.size = status.st_size
        self._identity = (status.st_size, status.st_mtime_ns)

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`; fewer only at the end. Raises `LocalChanged`."""
        if self._file is None:
            self._file = self.path.open("rb")
        status = os.fstat(self._file.fileno())
        if (status.st_size, status.st_mtime_ns) != self._identity:
            raise LocalChanged(f"{self.path} has changed since its upload began; start it again with restart=True")
        return os.pread(self._file.fileno(), size, offset)

    def sha256(self) -> str:
        """The digest of the whole, as hex."""
        digest = hashlib.sha256()
        offset = 0
        while piece := self.read(offset, PIECE):
            digest.update(piece)
            offset += len(piece)
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


class PartFile:
    """A file that comes down, beside its target as `NAME.part` until it is whole."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.etag: str | None = None  # of the version whose bytes are in it

    def start(self) -> None:
        """Begin with an empty one. Raises `OSError`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset`; all of it is written when this returns."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def publish(self) -> Path:
        """Give it its name, durably, in one step."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        return self.target

    def discard(self) -> None:
        """Remove what there is of it."""
        self.path.unlink(missing_ok=True)
