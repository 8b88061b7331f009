"""The store in memory, for tests and demos: files and staged bytes end with the process.

It has no descriptors, joins no parts, lists no folders and can't be opened by another process, so whoever uses it shows
that services do without these powers.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import secrets
import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from holdfast.digests import BLOCK, SIZE
from holdfast.digests import count as count_blocks
from tornado_app import problems
from tornado_app.files import names
from tornado_app.files.store.blocks import HINTED
from tornado_app.files.store.interface import (
    ANYTHING,
    UNKNOWN,
    FileDigests,
    FileReader,
    FileStat,
    PendingDigest,
    Piece,
    PlacedFile,
    Precondition,
    SmallFile,
    StagedData,
    digest_tag,
)
from tornado_app.files.store.memory_blocks import MemoryBlockData

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


@dataclass(eq=False, slots=True)
class _Content:
    """Bytes that may grow; `writes` counts changes, so that a reader sees that there were any."""

    data: bytearray = field(default_factory=bytearray)
    modified_ns: int = field(default_factory=time.time_ns)
    writes: int = 0

    def touch(self) -> None:
        self.writes += 1
        self.modified_ns = time.time_ns()


def _described(name: str, content: _Content, digests: FileDigests, serial: str) -> FileStat:
    """Return the version of published bytes, whose entity tag is `serial` where no digest is known."""
    block_digest = digests.block_digest
    etag = digest_tag(digests.sha256, block_digest) or serial
    return FileStat(name, len(content.data), content.modified_ns, etag, digests.sha256, block_digest)


@dataclass(eq=False, slots=True)
class _File:
    """Bytes under a name; `stat` is None while they still grow."""

    content: _Content
    serial: str
    stat: FileStat | None = None
    blocks: bytes | None = None

    def describe(self, name: str) -> FileStat:
        if self.stat is not None:
            return self.stat
        size, etag = len(self.content.data), f"{self.serial}-{self.content.writes}"
        return FileStat(name, size, self.content.modified_ns, etag)


@dataclass(eq=False, slots=True)
class _Upload:
    """Staged bytes under an id. `begun` is the offset at which the open transaction began."""

    info: bytes
    serial: str
    content: _Content = field(default_factory=_Content)
    begun: int | None = None
    published: FileStat | None = None
    digests: bytearray = field(default_factory=bytearray)
    expected: bytes | None = None


class MemoryContents:
    """Everything in a memory store. A store that is made on it later finds what an earlier one left."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.files: dict[str, _File] = {}
        self.names: list[str] = []  # in order; code points sort as their UTF-8 does
        self.uploads: dict[str, _Upload] = {}
        self.noted_time: float | None = None
        self.pending: dict[str, PendingDigest] = {}  # by the serial of the upload
        self.marks_digests = False
        self._epoch = secrets.token_hex(4)
        self._serials = itertools.count(1)

    def serial(self) -> str:
        """Return what no other version has."""
        return f"{self._epoch}-{next(self._serials)}"

    def find(self, id: str) -> _Upload:
        """Return the staged bytes of an id. Raises NO_SUCH_UPLOAD."""
        upload = self.uploads.get(id)
        if upload is None:
            raise _no_such_upload(id)
        return upload

    def put(self, name: str, file: _File) -> None:
        """Let `name` show a file, in place of any other."""
        if name not in self.files:
            insort(self.names, name)
        self.files[name] = file

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


class MemoryReader:
    """`FileReader` of the memory store."""

    def __init__(self, stat: FileStat, content: _Content) -> None:
        self.stat = stat
        self.content = content
        self._writes = content.writes

    def read(self, offset: int, count: int) -> bytes:
        """See `FileReader`."""
        end = min(offset + count, self.stat.size)
        return bytes(self.content.data[offset:end]) if offset < end else b""

    def changed(self) -> bool:
        """See `FileReader`."""
        return self.content.writes != self._writes

    def close(self) -> None:
        """See `FileReader`."""


class MemoryStagedData:
    """`StagedData` with all its optional powers but `JoinsParts`, in memory."""

    def __init__(self, contents: MemoryContents, id: str, upload: _Upload) -> None:
        self.id = id
        self._contents = contents
        self._upload = upload

    @property
    def info(self) -> bytes:
        """See `StagedData`."""
        return self._upload.info

    @property
    def offset(self) -> int:
        """See `StagedData`."""
        published = self._upload.published
        return published.size if published is not None else len(self._upload.content.data)

    @property
    def modified(self) -> float:
        """See `StagedData`."""
        return self._upload.content.modified_ns / 1e9

    @property
    def published(self) -> FileStat | None:
        """See `StagedData`."""
        return self._upload.published

    def set_info(self, info: bytes) -> None:
        """See `StagedData`."""
        self._upload.info = info

    def write(self, pieces: Sequence[Piece]) -> None:
        """See `StagedData`."""
        with self._contents.lock:  # who describes the file sees other bytes only with another ETag
            try:
                for piece in pieces:
                    self._upload.content.data += piece
            except MemoryError:
                raise problems.NO_SPACE("the memory of the file store is full. Delete files, then go on") from None
            finally:
                self._upload.content.touch()

    def begin(self) -> None:
        """See `StagedData`."""
        self._upload.begun = self.offset

    def commit(self) -> None:
        """See `StagedData`."""
        self._upload.begun = None

    def rollback(self) -> None:
        """See `StagedData`."""
        with self._contents.lock:
            roll_back(self._upload)

    def truncate(self, size: int) -> None:
        """See `Truncates`."""
        if size > self.offset:
            raise ValueError(f"can't cut {self.offset} bytes to {size}")
        with self._contents.lock:
            del self._upload.content.data[size:]
            del self._upload.digests[size // BLOCK * SIZE :]
            self._upload.content.touch()

    def replace(self, offset: int, data: Piece) -> None:
        """See `ReplacesBytes`."""
        end = offset + len(data)
        if end > self.offset:
            raise ValueError(f"can't replace bytes up to {end} of {self.offset}")
        with self._contents.lock:
            first = offset // BLOCK * SIZE
            last = min(len(self._upload.digests), count_blocks(end) * SIZE)
            if first < last:
                self._upload.digests[first:last] = bytes(last - first)
            self._upload.content.data[offset:end] = data
            self._upload.content.touch()

    def read(self, offset: int, count: int) -> bytes:
        """See `ReadsStagedData`."""
        return bytes(self._upload.content.data[offset : offset + count])

    def keep_block_digests(self, first: int, digests: bytes) -> None:
        """See `KeepsBlockDigests`."""
        kept, start = self._upload.digests, first * SIZE
        kept += bytes(max(0, start - len(kept)))
        kept[start : start + len(digests)] = digests

    def kept_block_digests(self) -> bytes:
        """See `KeepsBlockDigests`."""
        return bytes(self._upload.digests)

    def sync(self) -> None:
        """Return at once: nothing here survives a power cut."""

    def publish(self, name: str, digests: FileDigests = UNKNOWN, expect: Precondition = ANYTHING) -> FileStat:
        """See `StagedData`."""
        names.check(name)
        contents, upload = self._contents, self._upload
        with contents.lock:
            if not self._shows(name):
                expect.check(name, contents.current(name))
            stat = _described(name, upload.content, digests, contents.serial())
            contents.put(name, _File(upload.content, upload.serial, stat, digests.blocks))
            if contents.marks_digests and digests.sha256 is None:
                contents.pending[upload.serial] = PendingDigest(upload.serial, name, time.time())
            upload.published, upload.begun = stat, None
            return stat

    def expose(self, name: str, expect: Precondition = ANYTHING) -> None:
        """See `GrowsInView`."""
        names.check(name)
        contents, upload = self._contents, self._upload
        with contents.lock:
            if not self._shows(name):
                expect.check(name, contents.current(name))
                contents.put(name, _File(upload.content, upload.serial))

    def withdraw(self, name: str) -> None:
        """See `GrowsInView`."""
        with self._contents.lock:
            if self._shows(name):
                self._contents.remove(name)

    def _shows(self, name: str) -> bool:
        file = self._contents.files.get(name)
        return file is not None and file.content is self._upload.content

    def discard(self) -> None:
        """See `StagedData`."""
        with self._contents.lock:
            if self._contents.uploads.get(self.id) is self._upload:
                del self._contents.uploads[self.id]

    def close(self) -> None:
        """See `StagedData`."""


def roll_back(upload: _Upload) -> None:
    """Take back the bytes of an open transaction, if there is one. The caller holds the lock of the contents."""
    if upload.begun is not None:
        del upload.content.data[upload.begun :]
        del upload.digests[upload.begun // BLOCK * SIZE :]
        upload.begun = None
        upload.content.touch()


class MemoryStore:
    """`FileStore` in the memory of this process."""

    part_size = 1
    is_persistent = False

    def __init__(self, contents: MemoryContents | None = None, *, marks_digests: bool = False) -> None:
        """`marks_digests`: mark files that are published without a SHA-256, see `MarksDigests`."""
        self.contents = contents or MemoryContents()
        self.contents.marks_digests = marks_digests

    def start(self) -> None:
        """See `FileStore`."""

    def close(self) -> None:
        """See `FileStore`."""

    # -- published files

    def stat(self, name: str) -> FileStat:
        """See `FileStore`."""
        with self.contents.lock:
            return self._find(name).describe(name)

    def open(self, name: str) -> MemoryReader:
        """See `FileStore`."""
        with self.contents.lock:
            file = self._find(name)
            return MemoryReader(file.describe(name), file.content)

    def _find(self, name: str) -> _File:
        file = self.contents.files.get(name)
        if file is None:
            raise _no_such_file(name)
        return file

    def open_at_once(self, name: str) -> MemoryReader:
        """See `OpensAtOnce`: nothing here waits for a disk."""
        return self.open(name)

    def listing(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[FileStat]:
        """See `FileStore`."""
        with self.contents.lock:
            found: list[FileStat] = []
            every = self.contents.names
            at = bisect_left(every, prefix)
            if after >= prefix:
                at = max(at, bisect_right(every, after))
            while at < len(every) and every[at].startswith(prefix) and (limit is None or len(found) < limit):
                found.append(self.contents.files[every[at]].describe(every[at]))
                at += 1
            return found

    def delete(self, name: str, expect: Precondition = ANYTHING) -> None:
        """See `FileStore`."""
        names.check_reachable(name)
        with self.contents.lock:
            current = self.contents.current(name)
            if current is None:
                raise _no_such_file(name)
            expect.check(name, current)
            self.contents.remove(name)

    def check_target(self, name: str, *, removing: bool = False) -> FileStat | None:
        """See `FileStore`."""
        (names.check_reachable if removing else names.check)(name)
        with self.contents.lock:
            return self.contents.current(name)

    # -- digests

    def record_digests(self, reader: FileReader, digests: FileDigests) -> FileStat | None:
        """See `KeepsDigests`."""
        with self.contents.lock:
            file = self._shown_by(reader)
            if file is None or file.stat is None:
                return None
            known = file.stat
            file.blocks = file.blocks if digests.blocks is None else digests.blocks
            file.stat = dataclasses.replace(
                known,
                sha256=digests.sha256 or known.sha256,
                block_digest=digests.block_digest or known.block_digest,
            )
            if digests.sha256 is not None:
                self.contents.pending.pop(file.serial, None)
            return file.stat

    @property
    def pending_count(self) -> int:
        """See `MarksDigests`."""
        return len(self.contents.pending)

    def pending_digests(self, most: int, skip: Collection[str] = ()) -> list[PendingDigest]:
        """See `MarksDigests`."""
        with self.contents.lock:  # they stand in the order in which they were made
            return [mark for mark in self.contents.pending.values() if mark.key not in skip][:most]

    def open_pending(self, pending: PendingDigest) -> MemoryReader | None:
        """See `MarksDigests`."""
        with self.contents.lock:
            file = self.contents.files.get(pending.name)
            if file is not None and file.serial == pending.key and file.describe(pending.name).sha256 is None:
                return self.open(pending.name)
            self.contents.pending.pop(pending.key, None)
            return None

    def open_for_digest(self, name: str) -> MemoryReader:
        """See `MarksDigests`: every write is counted."""
        return self.open(name)

    def block_digests(self, reader: FileReader) -> bytes | None:
        """See `KeepsDigests`."""
        with self.contents.lock:
            file = self._shown_by(reader)
            return None if file is None else file.blocks

    def _shown_by(self, reader: FileReader) -> _File | None:
        """Return the file that a reader has open, while its name still shows it."""
        if not isinstance(reader, MemoryReader):
            raise TypeError(f"{reader!r} is of another store")
        file = self.contents.files.get(reader.stat.name)
        return file if file is not None and file.content is reader.content and not reader.changed() else None

    def find_content(self, block_digest: str) -> str | None:
        """See `FindsContent`."""
        with self.contents.lock:
            stats = (file.stat for file in self.contents.files.values() if file.stat is not None)
            return next(
                (stat.name for stat in stats if stat.block_digest == block_digest and stat.size >= 1 << 20), None
            )

    def find_similar(self, size: int, first: bytes) -> str | None:
        """See `FindsContent`."""
        with self.contents.lock:
            published = [(file.stat, file.blocks) for file in self.contents.files.values()]
        for stat, blocks in published:
            if stat is not None and stat.size == size >= HINTED and blocks is not None and blocks.startswith(first):
                return stat.name
        return None

    # -- staged bytes

    def publish_small(self, files: Sequence[SmallFile]) -> list[PlacedFile | Exception]:
        """See `PublishesSmallFiles`."""
        return [self._publish(file) for file in files]

    def _publish(self, file: SmallFile) -> PlacedFile | Exception:
        contents, digests = self.contents, file.digests
        try:
            names.check(file.name)
            with contents.lock:
                current = contents.current(file.name)
                file.expect.check(file.name, current)
                content, serial = _Content(bytearray(file.data)), contents.serial()
                stat = _described(file.name, content, digests, serial)
                contents.put(file.name, _File(content, serial, stat, digests.blocks))
                if contents.marks_digests and digests.sha256 is None:
                    contents.pending[serial] = PendingDigest(serial, file.name, time.time())
                return PlacedFile(stat, current is not None)
        except problems.ProblemError as error:
            return error

    def create(self, id: str, info: bytes) -> MemoryStagedData:
        """See `FileStore`."""
        if not _ID.fullmatch(id):
            raise _no_such_upload(id)
        with self.contents.lock:
            if id in self.contents.uploads:
                raise problems.CONFLICT(f"there is an upload {id!r} already")
            upload = self.contents.uploads[id] = _Upload(info, self.contents.serial())
        return MemoryStagedData(self.contents, id, upload)

    def load(self, id: str) -> MemoryStagedData:
        """See `FileStore`."""
        with self.contents.lock:
            upload = self.contents.find(id)
            roll_back(upload)
        return MemoryStagedData(self.contents, id, upload)

    def prepare_blocks(self, staged: StagedData, expected: bytes | None) -> None:
        """See `TakesBlocks`."""
        with self.contents.lock:
            self.contents.find(staged.id).expected = expected

    def open_blocks(self, staged: StagedData, size: int) -> MemoryBlockData:
        """See `TakesBlocks`."""
        with self.contents.lock:
            upload = self.contents.find(staged.id)
            content = upload.content
            return MemoryBlockData(
                self.contents.lock, content.data, content.touch, upload.digests, upload.expected, size
            )

    def staged_ids(self) -> list[str]:
        """See `FileStore`."""
        with self.contents.lock:
            return sorted(self.contents.uploads)

    def noted_time(self) -> float | None:
        """See `FileStore`."""
        return self.contents.noted_time

    def note_time(self, now: float) -> None:
        """See `FileStore`."""
        self.contents.noted_time = now

    def free_space(self) -> int | None:
        """Return None: how much memory is left is not known."""
        return None


def _no_such_file(name: str) -> problems.ProblemError:
    flaw = names.structural_flaw(name)
    if flaw is not None:
        return problems.NO_SUCH_FILE(f"{name[:200]!r} is not a file name here: {flaw}")
    return problems.NO_SUCH_FILE(f"there is no file {name!r}; GET /v1/files lists what there is")


def _no_such_upload(id: str) -> problems.ProblemError:
    return problems.NO_SUCH_UPLOAD(f"there is no upload {id[:128]!r}. It was cancelled, has expired or never was")
