"""State that all ways of an upload share: the source, its digests, the resume record, and the progress."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial

from holdfast._local_files import records
from holdfast._local_files.local_digests import LocalDigests
from holdfast._local_files.records import RecordFile, ResumeRecord
from holdfast._local_files.sources import FileSource, HashWorker, LocalSource
from holdfast._transfers.job import TransferContext
from holdfast._transfers.pace import Pieces, Throttle
from holdfast.digests import ABSENT, SIZE
from holdfast.errors import APIError, LocalChanged
from holdfast.plans import Do, Plan, Retries


def problem_of(error: APIError) -> str:
    """Return the last part of the type of a problem, such as "file-exists"."""
    return error.type.rpartition("/")[2]


class UploadState:
    """The source of an upload, and how far it is. Ways of uploading read and change it."""

    def __init__(
        self,
        context: TransferContext,
        source: LocalSource,
        name: str,
        *,
        overwrite: bool,
        connections: int | None,
        throttle: Throttle,
        delta: bool,
        within: str,
        on_progress: Callable[[], None],
    ) -> None:
        self.context = context
        self.source = source
        self.name = name
        self.overwrite = overwrite
        self.may_replace = overwrite  # also where a delta turns out to be impossible, and all is sent
        self.connections = connections
        self.throttle = throttle
        self.delta = delta
        self.pieces = Pieces()
        self.lock = threading.Lock()
        self.sent = 0  # bytes of bodies
        self.ended = False
        self.file: RecordFile | None = None
        self._within = within
        self._on_progress = on_progress
        self._offsets: dict[int, int] = {}
        self.record = self.new_record()
        self.digests = LocalDigests(source, source.size or 0)
        self.earlier = b""  # digests of the blocks that earlier runs have read
        self.by_blocks = False  # the server verifies by block digests, and bodies make them
        self.is_doubtful = False  # the local file may have changed since the blocks on the server were sent
        self.sha256 = HashWorker(source.read_into)  # for servers that do not verify by block digests

    @property
    def retries(self) -> Retries:
        """Retry policy of requests."""
        return self.context.retries

    @property
    def size(self) -> int:
        """Size of the source, where it is known; else 0."""
        return self.source.size or 0

    # -- progress

    @property
    def done(self) -> int:
        """Bytes that the server has."""
        return sum(self._offsets.copy().values())

    def report(self, key: int, count: int) -> None:
        """Report how many bytes of a part, by its key, the server has."""
        self._offsets[key] = count
        self._on_progress()

    def report_all(self, count: int) -> None:
        """Report bytes that the server has, in place of all that was reported by parts."""
        self._offsets = {0: count} if count else {}
        self._on_progress()

    def count_sent(self, count: int) -> None:
        """Count bytes of a body that are given to the connection."""
        with self.lock:
            self.sent += count

    # -- the local file and its record

    def new_record(self) -> ResumeRecord:
        """Return a record of an upload that begins now."""
        source = self.source
        path = str(source.path) if isinstance(source, FileSource) else ""
        record = records.new("upload", self.context.base_url, self.name, path)
        record.size, record.overwrite, record.delta = source.size, self.overwrite, self.delta
        record.within = self._within
        if isinstance(source, FileSource):
            record.modified_ns = source.modified_ns
        return record

    def open_record(self) -> RecordFile | None:
        """Return the record file, if another process could read the source again. Blocks."""
        if self.file is None and isinstance(self.source, FileSource):
            self.file = RecordFile(self.context.records, self.record.key)
        return self.file

    def check_local(self) -> None:
        """Find out what the source is, and its size. Blocks. Raises `OSError`."""
        source = self.source.stat()
        if source is not self.source or self.digests.size != self.size:
            self._read_from(source)
        if isinstance(source, FileSource) and self.record.size is None:
            self.record = self.new_record()
        self.open_record()

    def _read_from(self, source: LocalSource) -> None:
        known = self.digests.blocks()
        if known.strip(b"\0"):
            self.earlier = known
        self.source, self.digests = source, LocalDigests(source, source.size or 0)

    def begin(self, *, restart: bool) -> ResumeRecord | None:
        """Read the record, and compare the local file with it. Return one whose uploads are to be deleted. Blocks.

        Raises:
            LocalChanged: the file has another size than when its upload began.
        """
        self.ended = False
        if isinstance(self.source, FileSource) and self.source.has_changed():
            self.source.close()
            self._read_from(FileSource(self.source.path).stat())
        self.check_local()
        self.sha256 = HashWorker(self.source.read_into)
        if self.file is None or not isinstance(self.source, FileSource):
            return None
        saved, head = self.file.take(), self.source.head_digest()
        now = (self.source.size, self.source.modified_ns, head)
        # An upload of changes replaces the published file: a plain one must not end it.
        was_delta = saved is not None and saved.delta and bool(saved.blocks) and not self.delta
        if saved is not None and not (restart or was_delta or saved.overwrite != self.overwrite):
            if saved.size == self.source.size:
                self.record, self.record.within = saved, self._within
                self.earlier = self.earlier or self.file.read_digests()
                self.is_doubtful = self.is_doubtful or (saved.size, saved.modified_ns, saved.head) != now
                return None
            if not self.delta:
                raise self.changed()
        self.forget_sent()
        self.record.head = head
        return saved

    def changed(self) -> LocalChanged:
        """Return the error for a local file that is not the one whose upload began."""
        what = self.source.path if isinstance(self.source, FileSource) else "the source"
        return LocalChanged(f"{what} has changed since its upload began. Pass restart=True to send it as it is now")

    def forget_sent(self) -> None:
        """Begin a new record: nothing is on the server."""
        self.record, self.earlier, self.is_doubtful = self.new_record(), b"", False
        self._offsets = {}

    def close(self) -> None:
        """Save what another run needs, or remove it after the end. Blocks."""
        self.sha256.stop()
        self.source.close()
        if self.file is not None:
            if self.ended:
                self.file.remove()
            elif self.file.is_held and self.file.path.exists():
                self._write_digests(self.file)
            self.file.release()

    def save(self) -> Plan[None]:
        """Write the record, and the digests of what was sent."""
        if self.file is not None:
            yield Do(partial(self._write, self.file))

    def _write(self, file: RecordFile) -> None:
        with self.lock:
            file.save(self.record)
        self._write_digests(file)

    def save_digests(self) -> Plan[None]:
        """Write the digests of what was sent, after a request."""
        if self.file is not None and self.file.is_held:
            yield Do(partial(self._write_digests, self.file))

    def _write_digests(self, file: RecordFile) -> None:
        """Write what this run and earlier ones have read; while the file may be another one, that stays as it was."""
        if not self.is_doubtful:
            blocks = bytearray(self.digests.blocks())
            for index in self.digests.unknown():
                blocks[index * SIZE : (index + 1) * SIZE] = _at(self.earlier, index) or ABSENT
            file.save_digests(blocks)

    # -- digests

    def digest(self) -> Plan[bytes]:
        """Return the digest of the local file, after hashing the blocks that were not hashed as they were sent."""
        yield from self.hash_blocks()
        return self.digests.result()

    def hash_blocks(self, first: int = 0, last: int | None = None) -> Plan[None]:
        """Hash all blocks of a range that are not known yet."""
        while not (yield Do(partial(self.digests.step, first, last))):
            pass

    def wrong_blocks(self, on_server: bytes, blocks: Iterable[int]) -> list[int]:
        """Return those of `blocks` that the server has otherwise than the local file, whose digests are known.

        Raises:
            LocalChanged: it is the local file that has changed, and this is not a delta upload.
        """
        wrong = [i for i in blocks if _at(on_server, i) not in (ABSENT, self.digests.get(i))]
        if not self.delta and any(self._has_changed(i, on_server) for i in wrong):
            raise self.changed()
        return wrong

    def _has_changed(self, index: int, on_server: bytes) -> bool:
        """Return whether a block that differs was sent rightly, from a file that was another one."""
        earlier = _at(self.earlier, index)
        if earlier in (ABSENT, b""):
            return self.is_doubtful
        return earlier != self.digests.get(index)

    def trust_local(self) -> Plan[None]:
        """Note that what the server has was compared with the local file as it is now."""
        if self.is_doubtful and isinstance(self.source, FileSource):
            self.is_doubtful = False
            self.record.modified_ns = self.source.modified_ns
            self.record.head = yield Do(self.source.head_digest)
            yield from self.save()


def _at(blocks: bytes, index: int) -> bytes:
    return blocks[index * SIZE : (index + 1) * SIZE]


def ranges_of(blocks: Iterable[int], most: int = 1 << 62) -> list[tuple[int, int]]:
    """Return block indexes, which are in order, as ranges of at most so many: the first, and the one after the last."""
    found: list[tuple[int, int]] = []
    for index in blocks:
        if found and found[-1][1] == index < found[-1][0] + most:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found
