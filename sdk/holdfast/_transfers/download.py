"""Download of a file: by one or several connections, of one version only, renamed after its digest is verified."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from holdfast import calls, plans
from holdfast._local_files import dangerous_names, records
from holdfast._local_files.part_file import PartFile, exists
from holdfast._local_files.records import RecordFile, ResumeRecord
from holdfast._local_files.sources import HashWorker, sha256_of
from holdfast._local_files.target import Target, size_of_target
from holdfast._transfers.job import TransferContext, TransferJob
from holdfast._transfers.pace import MOST_AT_ONCE, Growth, Throttle
from holdfast._transfers.segments import Segment, Segments
from holdfast.errors import (
    APIError,
    ConnectionBroken,
    DigestMismatch,
    PreconditionFailed,
    ProtocolError,
    RangeNotSatisfiable,
    RemoteChanged,
    TransportError,
)
from holdfast.plans import Backoff, Close, Do, Open, Plan, Read, Sleep, Stream, Together, ensured

MIN_SEGMENT = 4 << 20  # bytes; a shorter segment does not pay for a connection of its own
SAVE_INTERVAL = 1.0  # seconds between writes of the record; a killed process loses no more progress
PIECE = 1 << 20


@dataclass(slots=True)
class _Body:
    """Open response, and the offset of its next byte in the file."""

    stream: Stream
    at: int


class _RangeIgnoredError(Exception):
    """The response has other bytes than were requested."""


class DownloadJob(TransferJob[Path]):
    """Download of one file, by `GET /v1/files/{name}`."""

    kind = "download"

    def __init__(
        self,
        context: TransferContext,
        name: str,
        target: Target,
        *,
        overwrite: bool = False,
        restart: bool = False,
        allow_dangerous: bool = False,
        segments: int | None = None,
        limit: float | None = None,
        within: str = "",
    ) -> None:
        self.name = name
        self.throttle = Throttle(limit)
        self.target: Path
        self._part: PartFile
        self._record: ResumeRecord
        self._file: RecordFile
        self._context = context
        self._to = target
        self._is_resolved = False
        self._overwrite = overwrite
        self._restart = restart
        self._allow_dangerous = allow_dangerous
        self._connections = segments
        self._within = within
        self._segments: Segments | None = None
        self._hasher: HashWorker | None = None
        self._saved = 0.0
        self._saving = threading.Lock()
        self._ranges = True  # false once a proxy on the way has ignored Range
        self._active = 0
        self._ended = False

    @property
    def done(self) -> int:
        return self._segments.count if self._segments is not None else 0

    @property
    def total(self) -> int | None:
        return self._segments.size if self._segments is not None else None

    # -- the local file

    def check_local(self) -> None:
        """Resolve the target. Raises `ValueError`."""
        if not self._is_resolved:
            self.target = self._to.of_file(self.name)
            self._part, self._record = PartFile(self.target), self._new_record()
            self._file = RecordFile(self._context.records, self._record.key)
            self._is_resolved = True

    @property
    def has_ended(self) -> bool:
        """True after the file was renamed to its target."""
        return self._ended

    def begin(self) -> None:
        if self._ended:  # it was paused just before its end
            return
        self.check_local()
        if not self._allow_dangerous:
            dangerous_names.refuse([(self.name, self.target)])
        saved = self._file.take()
        if saved is not None and saved.size is not None and not self._restart and self._is_resumable(saved):
            self._record = self._with_options(saved)
            self._start_segments(saved.size, saved.done)
            self._saved = time.monotonic()
        else:
            self._reset()
            self._file.remove()  # first: a record must never exist without its bytes
            if saved is not None and saved.part is not None:
                self._part.remove(saved.part)
            self._part.discard()

    def _is_resumable(self, saved: ResumeRecord) -> bool:
        """Return whether a record is of this download, and the part file can have the bytes that it lists."""
        same = _of_what(saved) == _of_what(self._record)
        fits = all(0 <= begin <= end <= (saved.size or 0) for begin, end in saved.done)
        if not (same and fits and saved.etag and saved.done):
            return False
        if saved.part is not None:
            return self._part.take_up(saved.part) and self._part.holds(saved.done)
        # Of an earlier version of Holdfast. Its bytes are used only if a digest will verify them at the end.
        saved.part = self._part.adopt(saved.done) if saved.sha256 else None
        return saved.part is not None

    def close(self) -> None:
        if self._hasher is not None:
            self._hasher.stop()
        if not self._is_resolved:
            return
        try:
            if self._ended:
                if self._file.is_held:
                    self._file.remove()
            elif not self._part.is_open:  # it has not begun, or was removed
                pass
            elif self._segments is not None and self._record.etag:
                self._save(self._segments)
            else:
                self._remove()
        finally:
            self._part.close()
            self._file.release()

    def is_recorded(self) -> bool:
        return self._is_resolved and self._file.path.exists()

    def discard(self) -> Plan[None]:
        yield Do(self.check_local)
        yield from ensured(self._discard_saved(), self._file.release)

    def _discard_saved(self) -> Plan[None]:
        saved: ResumeRecord | None = yield Do(self._file.take)
        if saved is None or _of_what(saved) == _of_what(self._record):
            yield Do(partial(self._remove, saved))

    def _remove(self, saved: ResumeRecord | None = None) -> None:
        self._part.discard()
        if saved is not None and saved.part is not None:
            self._part.remove(saved.part)
        self._file.remove()

    def _reset(self) -> None:
        """Begin at byte 0 in the next run."""
        self._record, self._segments = self._new_record(), None

    def _new_record(self) -> ResumeRecord:
        path = os.path.join(
            os.path.realpath(self.target.parent), self.target.name
        )  # one key for a file, whatever links lead to it
        record = records.new("download", self._context.base_url, self.name, path)
        return self._with_options(record)

    def _with_options(self, record: ResumeRecord) -> ResumeRecord:
        """Write the options of this call into a record."""
        record.overwrite, record.allow_dangerous = self._overwrite, self._allow_dangerous
        record.within = self._within
        return record

    def _make_part(self, size: int) -> None:
        """Record the part file, then create it, so that a process killed in between leaves no unknown file."""
        self._record.part = self._part.plan()
        try:
            self._file.save(self._record)
            self._record.part = self._part.create(self._record.part)
            self._part.check_space(size)
        except BaseException:
            self._remove()
            raise
        self._saved = time.monotonic()

    def _start_segments(self, size: int, done: list[tuple[int, int]]) -> None:
        self._segments = Segments(size, done)
        self._hasher = HashWorker(self._part.read_into)

    def _save(self, segments: Segments) -> None:
        with self._saving:
            if not self._record.sha256:
                # Without a digest nothing would detect that bytes were lost in a power failure: write them first.
                self._part.sync()
            self._record.done = segments.done
            self._file.save(self._record)
            self._saved = time.monotonic()

    # -- the plan

    def run(self) -> Plan[Path]:
        if self._ended:
            return self.target
        restart, self._restart = self._restart, False  # only once: a resumed run continues
        if not (restart and self._overwrite) and (yield from self._target_is_current()):
            return self.target
        body: _Body | None = None
        if self._segments is None:
            body = yield from self._open_first()
        if self._segments is None:
            raise ProtocolError("the response does not tell the size of the file")
        yield from self._fetch_all(self._segments, body)
        return (yield from self._finish(self._segments))

    def _get(self, **options: Any) -> calls.Call[bytes]:
        """Return the call for the whole, or the range and version that the options give."""
        return calls.get_file(self.name, **options)

    def _head(self) -> Plan[calls.FileHead]:
        """Read the headers on the server. Raises `NotFound`."""
        return plans.head(self.name, self._context.retries)

    def _target_is_current(self) -> Plan[bool]:
        """Return True if the target is the same file already. Raises `LocalExists` if it is another one."""
        there: int | None = yield Do(partial(size_of_target, self.target))
        if there is None:
            return False
        head: calls.FileHead = yield from self._head()
        same_size = there == head.size
        if same_size and head.sha256 is not None and (yield Do(partial(sha256_of, self.target))) == head.sha256:
            self._segments, self._ended = Segments(head.size, [(0, head.size)]), True
            yield Do(self._remove)
            return True
        if self._overwrite:
            return False
        raise exists(self.target)

    def _open_first(self) -> Plan[_Body]:
        """Send the first request of a new download. Its response tells the size and the version of the file."""
        backoff = Backoff(self._context.retries)
        while True:
            try:
                stream: Stream = yield Open(self._get())
                break
            except (TransportError, APIError) as error:
                wait = backoff.after(error, repeatable=True)
            yield wait
        head = calls.file_head(stream.answer)
        self._record.size, self._record.etag, self._record.sha256 = head.size, head.etag or "", head.sha256 or ""
        yield Do(partial(self._make_part, head.size))
        self._start_segments(head.size, [])
        return _Body(stream, 0)

    def _fetch_all(self, segments: Segments, body: _Body | None) -> Plan[None]:
        left = segments.size - segments.count
        if not left:
            return
        # Without an entity tag, versions can't be told apart: one response has to bring the whole file.
        most = 1 if not self._record.etag or left < 2 * MIN_SEGMENT else self._connections or MOST_AT_ONCE
        growth = Growth(most, at_once=self._connections is not None)
        workers = 1

        def more() -> list[Plan[None]]:
            nonlocal workers
            add = growth.more(workers, segments.count, segments.size - segments.count) if self._ranges else 0
            workers += add
            return [self._worker(segments, None) for _ in range(add)]

        yield Together([self._worker(segments, body), *more()], more)
        while (
            segments.count < segments.size
        ):  # segments that a worker freed because ranges do not work, after all others had ended
            yield from self._worker(segments, None)

    def _worker(self, segments: Segments, body: _Body | None) -> Plan[None]:
        """Fetch one segment after another until none is left."""
        with self._saving:
            self._active += 1
        try:
            while (segment := segments.take(MIN_SEGMENT if self._ranges else segments.size + 1)) is not None:
                try:
                    body = yield from self._fetch_segment(segments, segment, body)
                except _RangeIgnoredError:
                    self._ranges, body = False, None
                    segments.give_back(segment)
                    if self._active > 1:  # one stream is enough, and another worker has one
                        return
                finally:
                    segments.release(segment)
        finally:
            with self._saving:
                self._active -= 1

    def _fetch_segment(self, segments: Segments, segment: Segment, body: _Body | None) -> Plan[_Body | None]:
        """Fetch one segment; return the response if it continues after the segment."""
        backoff = Backoff(self._context.retries)
        while segments.room(segment):
            try:
                if body is None or body.at > segment.at:
                    body = yield from self._open(segments, segment)
                yield from self._write_body(segments, segment, body, backoff)
            except (PreconditionFailed, RangeNotSatisfiable) as error:
                raise self._changed() from error
            except (TransportError, APIError) as error:
                if not self._record.etag and segment.at:
                    raise
                wait = backoff.after(error, repeatable=True)
                body = None
                yield wait
        if body is not None and self._ranges:
            yield Close(body.stream)
            body = None
        return body

    def _open(self, segments: Segments, segment: Segment) -> Plan[_Body]:
        """Open a response that begins at the segment, or at the start of the file if ranges do not work.

        Raises:
            RemoteChanged: the response is of another version.
        """
        begin, end = segment.at, segment.at + segments.room(segment)
        whole = not self._ranges or (begin == 0 and end == segments.size)
        call = self._get(begin=None if whole else begin, end=None if whole else end, etag=self._record.etag or None)
        stream: Stream = yield Open(call)
        head = calls.file_head(stream.answer)
        if (head.size, head.etag or "") != (segments.size, self._record.etag):
            raise self._changed()
        start = 0 if stream.answer.status != 206 else calls.content_range(stream.answer)[0]
        if whole and start:
            raise ProtocolError(f"asked for the whole file, and got bytes from {start} on")
        if not whole and (start != begin or stream.answer.status != 206):
            yield Close(stream)
            raise _RangeIgnoredError
        return _Body(stream, start)

    def _write_body(self, segments: Segments, segment: Segment, body: _Body, backoff: Backoff) -> Plan[None]:
        """Write bytes of the response until the segment is done."""
        while (room := segments.room(segment)) and (skip := segment.at - body.at) >= 0:
            data: bytes | memoryview = yield Read(body.stream, self.throttle.piece(min(PIECE, skip or room)))
            if not data:
                raise ConnectionBroken(f"the response ended {room + skip} bytes early")
            count = len(data)
            body.at += count
            data = data[skip : skip + segments.room(segment)]
            if data:
                yield Do(partial(self._part.write, segment.at, data))
                segments.advance(segment, len(data))
                backoff.reset()
                self.on_progress()
                if self._hasher is not None and self._record.sha256:
                    self._hasher.advance(segments.frontier)
                if self._record.etag and time.monotonic() - self._saved > SAVE_INTERVAL:
                    yield Do(partial(self._save, segments))
            if wait := self.throttle.delay(count):
                yield Sleep(wait)

    def _finish(self, segments: Segments) -> Plan[Path]:
        if self._record.sha256 and self._hasher is not None:
            found = yield Do(partial(self._hasher.finish, segments.size))
            if found != self._record.sha256:
                self._reset()
                yield Do(self._remove)
                raise DigestMismatch(
                    f"the download of {self.name!r} has SHA-256 {found}, not the one that the server names. "
                    "It was removed. Download it again"
                )
        if not self._overwrite and (yield from self._target_is_current()):  # it may have been created meanwhile
            return self.target
        yield Do(partial(self._publish, segments.size))
        return self.target

    def _publish(self, size: int) -> None:
        self._part.publish(size, overwrite=self._overwrite)
        self._ended = True

    def _changed(self) -> RemoteChanged:
        return RemoteChanged(
            f"{self.name!r} has changed on the server since its download began. "
            "Pass restart=True to fetch it as it is now"
        )


def _of_what(record: ResumeRecord) -> tuple[str, str, bool]:
    return record.server, record.name, record.archive
