"""A file that goes up: in one stream or several, from wherever the server says that it stands, checked at the end."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from functools import partial

from holdfast import calls, plans, wire
from holdfast._local_files import records
from holdfast._local_files.records import PartUpload, RecordFile, ResumeRecord
from holdfast._local_files.sources import FileSource, HashWorker, LocalSource
from holdfast._transfers.job import TransferContext, TransferJob
from holdfast._transfers.pace import MOST_AT_ONCE, Growth, Pieces, Throttle
from holdfast.errors import (
    APIError,
    BadRequest,
    DigestMismatch,
    FileExists,
    Gone,
    LocalChanged,
    NotFound,
    OffsetMismatch,
    PreconditionFailed,
    TooLarge,
    TransportError,
)
from holdfast.plans import Backoff, Do, Plan, Retries, Together, ensured, forget, request

SMALL = 256 << 10  # bytes that go in one request
LEAST = 8 << 20  # bytes; a shorter part is not worth an upload of its own
PARTS = 64  # how many parts a big file has where parallel ones may pay
FAR = 0.005  # seconds of round trip from which on they may: nearer, one connection fills the line
PIECE = 1 << 20
WINDOW = 8 << 20  # bytes kept of what comes only once


class UploadBody:
    """The bytes of one request. Counts what it hands out, and keeps to the rate limit."""

    def __init__(self, job: UploadJob, part: PartUpload, offset: int, length: int) -> None:
        self.length = length
        self._job = job
        self._part = part
        self._offset = offset

    def pieces(self) -> Iterator[bytes]:
        """From the start; reads block, and so do waits."""
        job, at, end = self._job, self._offset, self._offset + self.length
        while at < end:
            piece = job.source.read(self._part.begin + at, job.throttle.piece(min(PIECE, end - at)))
            if not piece:
                raise LocalChanged(f"the source ended {end - at} bytes early")
            yield piece
            at += len(piece)
            job.sent(self._part, at)
            if wait := job.throttle.delay(len(piece)):
                time.sleep(wait)


def drop(parts: Iterable[PartUpload], retries: Retries) -> Plan[None]:
    """Forget uploads on the server."""
    for part in parts:
        if part.id:
            try:
                yield from forget(calls.delete_upload(part.id), retries)
            except NotFound:
                pass


def checked_name(name: str) -> str:
    """A name that can be sent. Raises `ValueError`."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name!r} is not UTF-8, as names on a server are; choose another name there") from None
    return name


class UploadJob(TransferJob[wire.FileInfo]):
    """A source into `/v1/uploads` by tus 1.0.0, with concatenation where parts go in parallel."""

    kind = "upload"

    def __init__(
        self,
        around: TransferContext,
        source: LocalSource,
        name: str,
        *,
        overwrite: bool = False,
        restart: bool = False,
        segments: int | None = None,
        limit: float | None = None,
        within: str = "",
    ) -> None:
        self.name = checked_name(name)
        self.source = source
        self.throttle = Throttle(limit)
        self._around = around
        self._overwrite = overwrite
        self._restart = restart
        self._wanted = segments
        self._within = within
        self._record = self._new_record()
        self._file: RecordFile | None = None
        self._stale: list[PartUpload] = []
        self._offsets: dict[int, int] = {}
        self._pieces = Pieces()
        self._follower = HashWorker(source.read_into)
        self._streamed, self._confirmed = hashlib.sha256(), 0  # of what comes only once
        self._lock = threading.Lock()
        self._ended = False

    @property
    def done(self) -> int:
        return sum(self._offsets.copy().values())

    @property
    def total(self) -> int | None:
        return self.source.size

    def at(self, part: PartUpload, offset: int) -> None:
        """So much of a part is on its way."""
        self._offsets[part.begin] = offset
        self.moved()

    def sent(self, part: PartUpload, offset: int) -> None:
        """The same of what can be read again: its digest is taken while it goes, and not after the answer."""
        self.at(part, offset)
        self._follower.advance(self._frontier())

    # -- the local end

    def look(self) -> None:
        """As promised. Raises `OSError`."""
        self.source = self.source.look()
        if isinstance(self.source, FileSource) and self._record.size is None:
            self._record = self._new_record()
        self._take_file()

    def _take_file(self) -> RecordFile | None:
        """Where the record is, of a source that another process can read again."""
        if self._file is None and isinstance(self.source, FileSource):
            self._file = RecordFile(self._around.records, self._record.key)
        return self._file

    def begin(self) -> None:
        self._ended = False
        self.look()
        self._follower = HashWorker(self.source.read_into)
        if self._file is None or not isinstance(self.source, FileSource):
            return
        kept, head = self._file.take(), self.source.head_digest()
        if kept is None:
            self._record.head = head
            return
        if self._restart or kept.overwrite != self._overwrite:
            self._stale, self._record = kept.parts, self._new_record()
            self._record.head = head
        elif (kept.size, kept.modified_ns, kept.head) != (self.source.size, self.source.modified_ns, head):
            raise LocalChanged(f"{kept.path} has changed since its upload began; restart=True sends it as it is now")
        else:
            self._record = kept
            kept.within = self._within
        self._restart = False

    def _new_record(self) -> ResumeRecord:
        source = self.source
        path = str(source.path) if isinstance(source, FileSource) else ""
        record = records.new("upload", self._around.base_url, self.name, path)
        record.size, record.overwrite, record.within = source.size, self._overwrite, self._within
        if isinstance(source, FileSource):
            record.modified_ns = source.modified_ns
        return record

    def settle(self) -> None:
        self._follower.stop()
        self.source.close()
        if self._file is not None:
            if self._ended:
                self._file.remove()
            self._file.release()

    def is_recorded(self) -> bool:
        return self._file is not None and self._file.path.exists()

    def discard(self) -> Plan[None]:
        try:
            yield Do(self.look)
        except OSError:  # the local file is gone, and what there is of it on the server is to go as well
            pass
        file: RecordFile | None = yield Do(self._take_file)
        yield from (self._give_up(None) if file is None else ensured(self._give_up(file), file.release))

    def _give_up(self, file: RecordFile | None) -> Plan[None]:
        # A run that was stopped before it began has not read what an earlier process left.
        kept: ResumeRecord | None = (yield Do(file.take)) if file is not None else None
        parts = [*self._stale, *self._record.parts, *(kept.parts if kept is not None else ())]
        yield from drop({part.id: part for part in parts}.values(), self._around.retries)
        self._record, self._stale, self._offsets = self._new_record(), [], {}
        if file is not None:
            yield Do(file.remove)

    def _save(self) -> Plan[None]:
        if self._file is not None:
            yield Do(partial(self._write, self._file))

    def _write(self, file: RecordFile) -> None:
        with self._lock:
            file.save(self._record)

    # -- the plan

    def run(self) -> Plan[wire.FileInfo]:
        yield from drop(self._stale, self._around.retries)
        self._stale = []
        size = self.source.size
        small = size is not None and size <= SMALL and not self._record.parts and self._wanted is None
        file = (yield from self._put(size)) if small and size is not None else None
        return file if file is not None else (yield from self._resumable())

    def _put(self, size: int) -> Plan[wire.FileInfo | None]:
        """One request does for what is small; None when something on the way takes not even that."""
        data: bytes = yield Do(partial(self.source.read, 0, size))
        try:
            file = yield from plans.put(self.name, data, None, not self._overwrite, self._around.retries)
        except TooLarge:
            return None
        except PreconditionFailed as error:
            exists = FileExists(error.status, "The file exists", f"{self.name!r} exists; overwrite=True replaces it")
            return (yield from self._same_or(exists))
        self._offsets, self._ended = {0: size}, True
        return file

    def _resumable(self) -> Plan[wire.FileInfo]:
        try:
            if self.source.size is None:
                sha256 = yield from self._stream()
            else:
                sha256 = yield from self._send_all(self.source.size)
        except (FileExists, BadRequest) as error:  # BadRequest: the parts are gone, perhaps because they were joined
            return (yield from self._same_or(error))
        file = yield from plans.info(self.name, self._around.retries)
        if file.sha256 is not None and file.sha256 != sha256:
            raise DigestMismatch(
                f"the server has published {self.name!r} with SHA-256 {file.sha256}, and {sha256} was sent"
            )
        self._ended = True
        return file

    def _same_or(self, error: APIError) -> Plan[wire.FileInfo]:
        """The file if this very content is published: done already, or the answer to it was lost. Else raises."""
        if self.source.size is None:
            raise error
        try:
            file = yield from plans.info(self.name, self._around.retries)
        except NotFound:
            raise error from None
        if file.size != self.source.size or file.sha256 != (yield Do(partial(self._follower.finish, file.size))):
            raise error
        self._offsets = {0: file.size}
        yield from drop(self._record.parts, self._around.retries)
        self._ended = True
        return file

    def _send_all(self, size: int) -> Plan[str]:
        if not self._record.parts:
            self._record.parts = yield from self._divide(size)
        parts = self._record.parts
        if len(parts) == 1:
            yield from self._send(parts[0])
        else:
            yield from self._send_parts(parts, size)
        sha256: str = yield Do(partial(self._follower.finish, size))
        if len(parts) > 1:
            yield from self._join(parts, sha256)
        return sha256

    def _divide(self, size: int) -> Plan[list[PartUpload]]:
        """Into how many parts the file goes."""
        count = 1
        if self._wanted is not None:
            count = max(1, min(self._wanted, size // 1024))
        elif size >= 2 * LEAST:
            yield from request(calls.upload_options(), self._around.retries)  # connects
            start = time.monotonic()
            yield from request(calls.upload_options(), self._around.retries)
            if time.monotonic() - start > FAR:
                count = min(PARTS, size // LEAST)
        ends = [size * (index + 1) // count for index in range(count)]
        return [PartUpload(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _send_parts(self, parts: list[PartUpload], size: int) -> Plan[None]:
        waiting = iter(parts)
        growth = Growth(self._wanted or MOST_AT_ONCE, at_once=self._wanted is not None)
        workers = 1

        def worker() -> Plan[None]:
            while True:
                with self._lock:
                    part = next(waiting, None)
                if part is None:
                    return
                yield from self._send(part)

        def more() -> list[Plan[None]]:
            nonlocal workers
            add = growth.more(workers, self.done, size - self.done)
            workers += add
            return [worker() for _ in range(add)]

        yield Together([worker(), *more()], more)

    def _send(self, part: PartUpload) -> Plan[None]:
        """Everything of one part; after any error the server's offset decides where to go on."""
        backoff = Backoff(self._around.retries)
        offset = yield from self._where(part)
        told = True  # how far it stands, not that all of it was taken
        while (left := part.end - part.begin - offset) > 0:
            before, count = offset, min(left, self._pieces.size)
            start = time.monotonic()
            try:
                head: calls.UploadHead = yield calls.append(part.id, offset, UploadBody(self, part, offset, count))
                offset, told = head.offset, False
                self._pieces.sent(count, time.monotonic() - start)
            except TooLarge:
                if not self._pieces.too_large(count):
                    raise
                offset, told = (yield from self._where(part)), True
            except (TransportError, APIError) as error:
                yield backoff.after(error, repeatable=True, moved=isinstance(error, (OffsetMismatch, NotFound, Gone)))
                offset, told = (yield from self._where(part)), True
                self._pieces.broken(offset - before)
            if offset > before:
                backoff.gained()
            self.sent(part, offset)
        if told and len(self._record.parts) == 1 and offset > 0:  # a refusal to publish it was lost, if there was one
            yield from request(calls.append(part.id, offset, b""), self._around.retries)

    def _frontier(self) -> int:
        """How much has gone from the start without a gap."""
        at = 0
        for part in self._record.parts:
            at = part.begin + self._offsets.get(part.begin, 0)
            if at < part.end:
                break
        return at

    def _where(self, part: PartUpload) -> Plan[int]:
        """Where a part stands on the server; one that is not there is created."""
        if part.id:
            try:
                head: calls.UploadHead = yield from request(calls.upload_head(part.id), self._around.retries)
                self.at(part, head.offset)
                return head.offset
            except (NotFound, Gone):  # cancelled or expired
                part.id = ""
        alone = len(self._record.parts) == 1
        call = calls.create_upload(
            length=part.end - part.begin, metadata=self._metadata() if alone else None, partial=not alone
        )
        head = yield from request(call, self._around.retries)
        part.id = head.id
        yield from self._save()
        self.at(part, head.offset)
        return head.offset

    def _metadata(self, sha256: str | None = None) -> str:
        return calls.tus_metadata(filename=self.name, overwrite="true" if self._overwrite else None, sha256=sha256)

    def _join(self, parts: list[PartUpload], sha256: str) -> Plan[None]:
        """Make one file of the parts; the server checks the digest before it publishes it."""
        call = calls.create_upload(parts=[f"/v1/uploads/{part.id}" for part in parts], metadata=self._metadata(sha256))
        yield from request(call, self._around.retries)
        yield from drop(parts, self._around.retries)

    # -- what comes only once

    def _stream(self) -> Plan[str]:
        backoff = Backoff(self._around.retries)
        offset = yield from self._where_the_stream_is()
        part = self._record.parts[0]
        while True:
            size = self.throttle.piece(min(WINDOW, self._pieces.size))
            data: bytes = yield Do(partial(self.source.read, offset, size))
            last = len(data) < size
            length = offset + len(data) if last else None
            before = offset
            try:
                head: calls.UploadHead = yield calls.append(part.id, offset, data, length=length)
                offset, told = head.offset, False
            except (TransportError, APIError) as error:
                if isinstance(error, (NotFound, Gone)):
                    raise
                if not (isinstance(error, TooLarge) and self._pieces.too_large(len(data))):
                    yield backoff.after(error, repeatable=True, moved=isinstance(error, OffsetMismatch))
                head = yield from request(calls.upload_head(part.id), self._around.retries)
                offset, told = head.offset, True
                last = last and head.length == offset
            yield Do(partial(self._confirm, offset, data))
            self.at(part, offset)
            if offset > before:
                backoff.gained()
            if last and offset == length:
                if told and offset > 0:  # a refusal to publish it was lost, if there was one
                    yield from request(calls.append(part.id, offset, b""), self._around.retries)
                return self._streamed.hexdigest()
            if wait := self.throttle.delay(offset - before):
                yield plans.Sleep(wait)

    def _where_the_stream_is(self) -> Plan[int]:
        """A run that goes on with another one finds what the server has got since still in the window."""
        if not self._record.parts:
            head = yield from request(calls.create_upload(metadata=self._metadata()), self._around.retries)
            self._record.parts = [PartUpload(0, 0, head.id)]
            return head.offset
        head = yield from request(calls.upload_head(self._record.parts[0].id), self._around.retries)
        count = max(0, head.offset - self._confirmed)
        yield Do(lambda: self._confirm(head.offset, self.source.read(self._confirmed, count)))
        return head.offset

    def _confirm(self, offset: int, data: bytes) -> None:
        """The server has everything before `offset`; `data` begins where it was known to stand."""
        self._streamed.update(memoryview(data)[: max(0, offset - self._confirmed)])
        self._confirmed = max(offset, self._confirmed)
        self.source.forget(offset)
