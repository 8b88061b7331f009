"""Contents of a memory store: bytes, the names that show them, and uploads. Stores and staged bytes share one lock."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from bisect import bisect_left, insort
from dataclasses import dataclass, field

from holdfast.digests import BLOCK, SIZE
from tornado_app import problems
from tornado_app.files import names
from tornado_app.files.store.interface import (
    FileDigests,
    FileStat,
    digest_tag,
)
from tornado_app.files.store.optional_powers import PendingDigest


@dataclass(eq=False, slots=True)
class MemoryContent:
    """Bytes that may grow; `writes` counts changes, so that a reader sees that there were any."""

    data: bytearray = field(default_factory=bytearray)
    modified_ns: int = field(default_factory=time.time_ns)
    writes: int = 0

    def touch(self) -> None:
        """Count a change."""
        self.writes += 1
        self.modified_ns = time.time_ns()


@dataclass(eq=False, slots=True)
class MemoryFile:
    """Bytes under a name; `stat` is None while they still grow."""

    content: MemoryContent
    serial: str
    stat: FileStat | None = None
    blocks: bytes | None = None

    def describe(self, name: str) -> FileStat:
        """Return the version that `name` shows now."""
        if self.stat is not None:
            return self.stat
        size, etag = len(self.content.data), f"{self.serial}-{self.content.writes}"
        return FileStat(name, size, self.content.modified_ns, etag)


@dataclass(eq=False, slots=True)
class MemoryUpload:
    """Staged bytes under an id. `begun` is the offset at which the open transaction began."""

    info: bytes
    serial: str
    content: MemoryContent = field(default_factory=MemoryContent)
    begun: int | None = None
    published: FileStat | None = None
    digests: bytearray = field(default_factory=bytearray)
    expected: bytes | None = None

    def roll_back(self) -> None:
        """Take back the bytes of an open transaction, if there is one. The caller holds the lock of the contents."""
        if self.begun is not None:
            del self.content.data[self.begun :]
            del self.digests[self.begun // BLOCK * SIZE :]
            self.begun = None
            self.content.touch()


class MemoryContents:
    """Everything in a memory store. A store that is made on it later finds what an earlier one left."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.files: dict[str, MemoryFile] = {}
        self.names: list[str] = []  # in order; code points sort as their UTF-8 does
        self.uploads: dict[str, MemoryUpload] = {}
        self.noted_time: float | None = None
        self.pending: dict[str, PendingDigest] = {}  # by the serial of the upload
        self.marks_digests = False
        self._epoch = secrets.token_hex(4)
        self._serials = itertools.count(1)

    def serial(self) -> str:
        """Return what no other version has."""
        return f"{self._epoch}-{next(self._serials)}"

    def find(self, id: str) -> MemoryUpload:
        """Return the staged bytes of an id. Raises NO_SUCH_UPLOAD."""
        upload = self.uploads.get(id)
        if upload is None:
            raise no_such_upload(id)
        return upload

    def put(self, name: str, file: MemoryFile) -> None:
        """Let `name` show a file, in place of any other."""
        if name not in self.files:
            insort(self.names, name)
        self.files[name] = file

    def publish(self, name: str, content: MemoryContent, serial: str, digests: FileDigests) -> FileStat:
        """Let `name` show bytes that do not grow any more. The caller holds the lock.

        `serial` marks them where they have no SHA-256; the entity tag is one of its own where no digest is known.
        """
        block_digest = digests.block_digest
        etag = digest_tag(digests.sha256, block_digest) or self.serial()
        stat = FileStat(name, len(content.data), content.modified_ns, etag, digests.sha256, block_digest)
        self.put(name, MemoryFile(content, serial, stat, digests.blocks))
        if self.marks_digests and digests.sha256 is None:
            self.pending[serial] = PendingDigest(serial, name, time.time())
        return stat

    def remove(self, name: str) -> None:
        """Take a name away."""
        del self.files[name]
        del self.names[bisect_left(self.names, name)]

    def current(self, name: str) -> FileStat | None:
        """Return the file under a name. Raises BAD_NAME when the name is a folder, or goes through a file."""
        folder = name + "/"
        at = bisect_left(self.names, folder)
        if at < len(self.names) and self.names[at].startswith(folder):
            raise problems.BAD_NAME(f"{name!r} is a folder. Name a file", field="file_name")
        above = name
        while above := above.rpartition("/")[0]:
            if above in self.files:
                raise problems.BAD_NAME(f"{name!r} goes through a file as if it were a folder", field="file_name")
        file = self.files.get(name)
        return None if file is None else file.describe(name)


def no_such_file(name: str) -> problems.ProblemError:
    """Return the refusal for a name without a file."""
    flaw = names.structural_flaw(name)
    if flaw is not None:
        return problems.NO_SUCH_FILE(f"{name[:200]!r} is not a file name here: {flaw}")
    return problems.NO_SUCH_FILE(f"there is no file {name!r}; GET /v1/files lists what there is")


def no_such_upload(id: str) -> problems.ProblemError:
    """Return the refusal for an id without an upload."""
    return problems.NO_SUCH_UPLOAD(f"there is no upload {id[:128]!r}. It was cancelled, has expired or never was")
