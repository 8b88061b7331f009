"""Upload of a file: by one or several connections, from the offset that the server has, verified at the end."""

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

SINGLE_REQUEST_MAX = 256 << 10  # bytes that are sent by one PUT
MIN_PART = 8 << 20  # bytes; a shorter part does not pay for an upload of its own
PARTS = 64  # maximum number of parts of a big file that is sent in parallel
PARALLEL_ROUND_TRIP = 0.005  # seconds; on a shorter round trip one connection uses the whole bandwidth
PIECE = 1 << 20
WINDOW = 8 << 20  # bytes of a stream that are saved until the server has them


class UploadBody:
    """Body of one request. Reports progress, and keeps to the rate limit."""

    def __init__(self, job: UploadJob, part: PartUpload, offset: int, length: int) -> None:
        self.length = length
        self._job = job
        self._part = part
        self._offset = offset

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the body from its start. Reads and waits block."""
        job, at, end = self._job, self._offset, self._offset + self.length
        while at < end:
            piece = job.source.read(self._part.begin + at, job.throttle.piece(min(PIECE, end - at)))
            if not piece:
                raise LocalChanged(f"the source ended {end - at} bytes early. Upload it again")
            yield piece
            at += len(piece)
            job.sent(self._part, at)
            if wait := job.throttle.delay(len(piece)):
                time.sleep(wait)


def delete_uploads(parts: Iterable[PartUpload], retries: Retries) -> Plan[None]:
    """Delete uploads on the server."""
    for part in parts:
        if part.id:
            try:
                yield from forget(calls.delete_upload(part.id), retries)
            except NotFound:
                pass


def checked_name(name: str) -> str:
    """Return a name that can be sent. Raises `ValueError`."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name!r} is not valid UTF-8. Choose another name for the server") from None
    return name


class UploadJob(TransferJob[wire.FileInfo]):
    """Upload of one source by tus 1.0.0; parts that are sent in parallel are concatenated."""

    kind = "upload"

    def __init__(
        self,
        context: TransferContext,
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
        self._context = context
        self._overwrite = overwrite
        self._restart = restart
        self._connections = segments
        self._within = within
        self._record = self._new_record()
        self._file: RecordFile | None = None
        self._stale: list[PartUpload] = []
        self._offsets: dict[int, int] = {}
        self._pieces = Pieces()
        self._hasher = HashWorker(source.read_into)
        self._streamed, self._confirmed = hashlib.sha256(), 0  # of a stream
        self._lock = threading.Lock()
        self._ended = False

    @property
    def done(self) -> int:
        return sum(self._offsets.copy().values())

    @property
    def total(self) -> int | None:
        return self.source.size

    def report(self, part: PartUpload, offset: int) -> None:
        """Report how much of a part was sent."""
        self._offsets[part.begin] = offset
        self.on_progress()

    def sent(self, part: PartUpload, offset: int) -> None:
        """Report progress of a source that can be read again, and let the hash worker read so far."""
        self.report(part, offset)
        self._hasher.advance(self._frontier())

    # -- the local file

    def check_local(self) -> None:
        """Find out what the source is, and its size. Raises `OSError`."""
        self.source = self.source.stat()
        if isinstance(self.source, FileSource) and self._record.size is None:
            self._record = self._new_record()
        self._open_record()

    def _open_record(self) -> RecordFile | None:
        """Return the record file, if another process could read the source again."""
        if self._file is None and isinstance(self.source, FileSource):
            self._file = RecordFile(self._context.records, self._record.key)
        return self._file

    def begin(self) -> None:
        self._ended = False
        self.check_local()
        self._hasher = HashWorker(self.source.read_into)
        if self._file is None or not isinstance(self.source, FileSource):
            return
        saved, head = self._file.take(), self.source.head_digest()
        if saved is None:
            self._record.head = head
            return
        if self._restart or saved.overwrite != self._overwrite:
            self._stale, self._record = saved.parts, self._new_record()
            self._record.head = head
        elif (saved.size, saved.modified_ns, saved.head) != (self.source.size, self.source.modified_ns, head):
            raise LocalChanged(
                f"{saved.path} has changed since its upload began. Pass restart=True to send it as it is now"
            )
        else:
            self._record = saved
            saved.within = self._within
        self._restart = False

    def _new_record(self) -> ResumeRecord:
        source = self.source
        path = str(source.path) if isinstance(source, FileSource) else ""
        record = records.new("upload", self._context.base_url, self.name, path)
        record.size, record.overwrite, record.within = source.size, self._overwrite, self._within
        if isinstance(source, FileSource):
            record.modified_ns = source.modified_ns
        return record

    def close(self) -> None:
        self._hasher.stop()
        self.source.close()
        if self._file is not None:
            if self._ended:
                self._file.remove()
            self._file.release()

    def is_recorded(self) -> bool:
        return self._file is not None and self._file.path.exists()

    def discard(self) -> Plan[None]:
        try:
            yield Do(self.check_local)
        except OSError:  # the local file is gone; its upload on the server is deleted all the same
            pass
        file: RecordFile | None = yield Do(self._open_record)
        yield from (self._discard_saved(None) if file is None else ensured(self._discard_saved(file), file.release))

    def _discard_saved(self, file: RecordFile | None) -> Plan[None]:
        # A run that was stopped before it began has not read the record.
        saved: ResumeRecord | None = (yield Do(file.take)) if file is not None else None
        parts = [*self._stale, *self._record.parts, *(saved.parts if saved is not None else ())]
        yield from delete_uploads({part.id: part for part in parts}.values(), self._context.retries)
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
        yield from delete_uploads(self._stale, self._context.retries)
        self._stale = []
        size = self.source.size
        small = size is not None and size <= SINGLE_REQUEST_MAX and not self._record.parts and self._connections is None
        file = (yield from self._put(size)) if small and size is not None else None
        return file if file is not None else (yield from self._resumable())

    def _put(self, size: int) -> Plan[wire.FileInfo | None]:
        """Send a small file in one request. Return None if it is too large for a proxy on the way."""
        data: bytes = yield Do(partial(self.source.read, 0, size))
        try:
            file = yield from plans.put(self.name, data, None, not self._overwrite, self._context.retries)
        except TooLarge:
            return None
        except PreconditionFailed as error:
            exists = FileExists(
                error.status, "The file exists", f"{self.name!r} exists. Pass overwrite=True to replace it"
            )
            return (yield from self._published_or_raise(exists))
        self._offsets, self._ended = {0: size}, True
        return file

    def _resumable(self) -> Plan[wire.FileInfo]:
        try:
            if self.source.size is None:
                sha256 = yield from self._stream()
            else:
                sha256 = yield from self._send_all(self.source.size)
        except (FileExists, BadRequest) as error:  # BadRequest: the parts are gone, maybe because they were joined
            return (yield from self._published_or_raise(error))
        file = yield from plans.info(self.name, self._context.retries)
        if file.sha256 is not None and file.sha256 != sha256:
            raise DigestMismatch(
                f"{self.name!r} was published with SHA-256 {file.sha256}, but {sha256} was sent. Upload it again"
            )
        self._ended = True
        return file

    def _published_or_raise(self, error: APIError) -> Plan[wire.FileInfo]:
        """Return the file if the same content is published, maybe because a response was lost. Else raise `error`."""
        if self.source.size is None:
            raise error
        try:
            file = yield from plans.info(self.name, self._context.retries)
        except NotFound:
            raise error from None
        if file.size != self.source.size or file.sha256 != (yield Do(partial(self._hasher.finish, file.size))):
            raise error
        self._offsets = {0: file.size}
        yield from delete_uploads(self._record.parts, self._context.retries)
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
        sha256: str = yield Do(partial(self._hasher.finish, size))
        if len(parts) > 1:
            yield from self._join(parts, sha256)
        return sha256

    def _divide(self, size: int) -> Plan[list[PartUpload]]:
        """Divide the file into parts."""
        count = 1
        if self._connections is not None:
            count = max(1, min(self._connections, size // 1024))
        elif size >= 2 * MIN_PART:
            yield from request(calls.upload_options(), self._context.retries)  # opens the connection
            start = time.monotonic()
            yield from request(calls.upload_options(), self._context.retries)
            if time.monotonic() - start > PARALLEL_ROUND_TRIP:
                count = min(PARTS, size // MIN_PART)
        ends = [size * (index + 1) // count for index in range(count)]
        return [PartUpload(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _send_parts(self, parts: list[PartUpload], size: int) -> Plan[None]:
        waiting = iter(parts)
        growth = Growth(self._connections or MOST_AT_ONCE, at_once=self._connections is not None)
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
        """Send one part. After any error, continue at the offset that the server has."""
        backoff = Backoff(self._context.retries)
        offset = yield from self._offset_of(part)
        asked = True  # the offset is from a HEAD, which does not say whether the last PATCH was refused
        while (left := part.end - part.begin - offset) > 0:
            before, count = offset, min(left, self._pieces.size)
            start = time.monotonic()
            try:
                head: calls.UploadHead = yield calls.append(part.id, offset, UploadBody(self, part, offset, count))
                offset, asked = head.offset, False
                self._pieces.sent(count, time.monotonic() - start)
            except TooLarge:
                if not self._pieces.too_large(count):
                    raise
                offset, asked = (yield from self._offset_of(part)), True
            except (TransportError, APIError) as error:
                yield backoff.after(error, repeatable=True, moved=isinstance(error, (OffsetMismatch, NotFound, Gone)))
                offset, asked = (yield from self._offset_of(part)), True
                self._pieces.broken(offset - before)
            if offset > before:
                backoff.reset()
            self.sent(part, offset)
        if (
            asked and len(self._record.parts) == 1 and offset > 0
        ):  # repeats a refusal to publish whose response was lost
            yield from request(calls.append(part.id, offset, b""), self._context.retries)

    def _frontier(self) -> int:
        """Return the number of bytes sent from the start without a gap."""
        at = 0
        for part in self._record.parts:
            at = part.begin + self._offsets.get(part.begin, 0)
            if at < part.end:
                break
        return at

    def _offset_of(self, part: PartUpload) -> Plan[int]:
        """Return the offset of a part on the server; create the part if it does not exist."""
        if part.id:
            try:
                head: calls.UploadHead = yield from request(calls.upload_head(part.id), self._context.retries)
                self.report(part, head.offset)
                return head.offset
            except (NotFound, Gone):  # cancelled or expired
                part.id = ""
        alone = len(self._record.parts) == 1
        call = calls.create_upload(
            length=part.end - part.begin, metadata=self._metadata() if alone else None, partial=not alone
        )
        head = yield from request(call, self._context.retries)
        part.id = head.id
        yield from self._save()
        self.report(part, head.offset)
        return head.offset

    def _metadata(self, sha256: str | None = None) -> str:
        return calls.tus_metadata(filename=self.name, overwrite="true" if self._overwrite else None, sha256=sha256)

    def _join(self, parts: list[PartUpload], sha256: str) -> Plan[None]:
        """Concatenate the parts. The server verifies the digest before it publishes the file."""
        call = calls.create_upload(parts=[f"/v1/uploads/{part.id}" for part in parts], metadata=self._metadata(sha256))
        yield from request(call, self._context.retries)
        yield from delete_uploads(parts, self._context.retries)

    # -- streams

    def _stream(self) -> Plan[str]:
        backoff = Backoff(self._context.retries)
        offset = yield from self._stream_offset()
        part = self._record.parts[0]
        while True:
            size = self.throttle.piece(min(WINDOW, self._pieces.size))
            data: bytes = yield Do(partial(self.source.read, offset, size))
            last = len(data) < size
            length = offset + len(data) if last else None
            before = offset
            try:
                head: calls.UploadHead = yield calls.append(part.id, offset, data, length=length)
                offset, asked = head.offset, False
            except (TransportError, APIError) as error:
                if isinstance(error, (NotFound, Gone)):
                    raise
                if not (isinstance(error, TooLarge) and self._pieces.too_large(len(data))):
                    yield backoff.after(error, repeatable=True, moved=isinstance(error, OffsetMismatch))
                head = yield from request(calls.upload_head(part.id), self._context.retries)
                offset, asked = head.offset, True
                last = last and head.length == offset
            yield Do(partial(self._confirm, offset, data))
            self.report(part, offset)
            if offset > before:
                backoff.reset()
            if last and offset == length:
                if asked and offset > 0:  # repeats a refusal to publish whose response was lost
                    yield from request(calls.append(part.id, offset, b""), self._context.retries)
                return self._streamed.hexdigest()
            if wait := self.throttle.delay(offset - before):
                yield plans.Sleep(wait)

    def _stream_offset(self) -> Plan[int]:
        """Return the offset of the stream on the server. Bytes after the last confirmed one are still in the window."""
        if not self._record.parts:
            head = yield from request(calls.create_upload(metadata=self._metadata()), self._context.retries)
            self._record.parts = [PartUpload(0, 0, head.id)]
            return head.offset
        head = yield from request(calls.upload_head(self._record.parts[0].id), self._context.retries)
        count = max(0, head.offset - self._confirmed)
        yield Do(lambda: self._confirm(head.offset, self.source.read(self._confirmed, count)))
        return head.offset

    def _confirm(self, offset: int, data: bytes) -> None:
        """Hash and release what the server has before `offset`. `data` begins at the last confirmed offset."""
        self._streamed.update(memoryview(data)[: max(0, offset - self._confirmed)])
        self._confirmed = max(offset, self._confirmed)
        self.source.forget(offset)
