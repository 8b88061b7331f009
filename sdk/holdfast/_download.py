"""A file that comes down: in one stream or several, never of two versions, renamed when its digest is right."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path

from holdfast import _records, calls
from holdfast._job import Job, Surroundings
from holdfast._local import Follower, PartFile, sha256_of
from holdfast._pace import MOST_AT_ONCE, Growth, Throttle
from holdfast._records import Record, RecordFile
from holdfast._segments import Segment, Segments
from holdfast.errors import (
    APIError,
    ConnectionBroken,
    DigestMismatch,
    LocalExists,
    PreconditionFailed,
    ProtocolError,
    RangeNotSatisfiable,
    RemoteChanged,
    TransportError,
)
from holdfast.plans import Backoff, Close, Do, Open, Plan, Read, Sleep, Stream, Together, request

LEAST = 4 << 20  # bytes; a shorter segment is not worth a connection of its own
SAVE_EVERY = 1.0  # seconds between records on disk; a killed process fetches at most so much again
PIECE = 1 << 20


class Download(Job[Path]):
    """`GET /v1/files/{name}` into a file."""

    kind = "download"

    def __init__(
        self,
        around: Surroundings,
        name: str,
        target: Path,
        *,
        overwrite: bool = False,
        restart: bool = False,
        segments: int | None = None,
        limit: float | None = None,
    ) -> None:
        self.name = name
        self.target = target.absolute()
        self.throttle = Throttle(limit)
        self._around = around
        self._overwrite = overwrite
        self._restart = restart
        self._wanted = segments
        self._part = PartFile(self.target)
        self._record = self._new_record()
        self._segments: Segments | None = None
        self._file = RecordFile(around.records, self._record.key)
        self._follower: Follower | None = None
        self._saved = 0.0
        self._saving = threading.Lock()
        self._ended = False

    @property
    def done(self) -> int:
        return self._segments.count if self._segments is not None else 0

    @property
    def total(self) -> int | None:
        return self._segments.size if self._segments is not None else self._record.size

    # -- the local end

    def begin(self) -> None:
        self._ended = False
        kept = self._file.take()
        self._part.open()
        if kept is not None and kept.size is not None and not self._restart and self._is_ours(kept):
            self._record = kept
            self._know(kept.size, kept.done)
            self._saved = time.monotonic()
        else:
            self._forget()
            self._file.remove()  # first: a record must never outlive the bytes it speaks of
            self._part.clear()
            # The first piece is recorded at once, so that a process killed soon after has something to go on with.
            self._saved = -SAVE_EVERY
        self._restart = False

    def _is_ours(self, kept: Record) -> bool:
        """Whether a record is of this download, and what it says is in the part can be there."""
        same = (kept.server, kept.name) == (self._record.server, self._record.name)
        fits = all(0 <= begin <= end <= (kept.size or 0) for begin, end in kept.done)
        return same and fits and bool(kept.etag and kept.done) and self._part.holds(kept.done)

    def settle(self) -> None:
        if self._follower is not None:
            self._follower.stop()
        if self._ended:
            self._file.remove()
        elif not self._part.is_open:  # another transfer's, or gone already
            pass
        elif self._segments is not None and self._record.etag:
            self._save(self._segments)
        else:
            self._part.discard()
        self._part.close()
        self._file.release()

    def discard(self) -> Plan[None]:
        kept: Record | None = yield Do(self._file.take)
        try:
            if kept is None or (kept.server, kept.name) == (self._record.server, self._record.name):
                yield Do(self._remove)
        finally:
            self._file.release()

    def _remove(self) -> None:
        self._part.discard()
        self._file.remove()

    def _forget(self) -> None:
        """What there is can't be used: the next run begins at byte 0."""
        self._record, self._segments = self._new_record(), None

    def _new_record(self) -> Record:
        path = os.path.join(os.path.realpath(self.target.parent), self.target.name)  # one key, whatever the way to it
        record = _records.new("download", self._around.base_url, self.name, path)
        record.overwrite = self._overwrite
        return record

    def _know(self, size: int, done: list[tuple[int, int]]) -> None:
        self._segments = Segments(size, done)
        self._follower = Follower(self._part.read_into)

    def _save(self, segments: Segments) -> None:
        with self._saving:
            if not self._record.sha256:
                # Nothing would notice, after a power cut, that bytes were promised here and never written.
                self._part.sync()
            self._record.done = segments.done
            self._file.save(self._record)
            self._saved = time.monotonic()

    # -- the plan

    def run(self) -> Plan[Path]:
        if (yield from self._is_there()):
            return self.target
        stream: Stream | None = None
        if self._segments is None:
            stream = yield from self._first()
        if self._segments is None:
            raise ProtocolError("the size of the file is not known")
        yield from self._bring(self._segments, stream)
        return (yield from self._finish(self._segments))

    def _is_there(self) -> Plan[bool]:
        """Whether the target is the file already, and all is done. Raises `LocalExists` when it is another one."""
        if self._overwrite or not (yield Do(self.target.exists)):
            return False
        head: calls.FileHead = yield from request(calls.head_file(self.name), self._around.retries)
        same_size = (yield Do(self.target.stat)).st_size == head.size
        if same_size and head.sha256 is not None and (yield Do(partial(sha256_of, self.target))) == head.sha256:
            self._segments, self._ended = Segments(head.size, [(0, head.size)]), True
            yield Do(self._remove)
            return True
        raise LocalExists(f"{self.target} is there and is not the same file; overwrite=True replaces it")

    def _first(self) -> Plan[Stream]:
        """The first answer of a fresh download: it says how long the file is, and which version of it."""
        backoff = Backoff(self._around.retries)
        while True:
            try:
                stream: Stream = yield Open(calls.get_file(self.name))
                break
            except (TransportError, APIError) as error:
                wait = backoff.after(error, repeatable=True)
            yield wait
        head = calls.file_head(stream.answer)
        self._record.size, self._record.etag, self._record.sha256 = head.size, head.etag or "", head.sha256 or ""
        yield Do(partial(self._part.check_space, head.size))
        self._know(head.size, [])
        return stream

    def _bring(self, segments: Segments, stream: Stream | None) -> Plan[None]:
        left = segments.size - segments.count
        if not left:
            return
        # Without an entity tag nothing tells two versions apart: one stream, from the start to the end.
        most = 1 if not self._record.etag or left < 2 * LEAST else self._wanted or MOST_AT_ONCE
        growth = Growth(most, at_once=self._wanted is not None)
        workers = 1

        def more() -> list[Plan[None]]:
            nonlocal workers
            add = growth.more(workers, segments.count, segments.size - segments.count)
            workers += add
            return [self._worker(segments, None) for _ in range(add)]

        yield Together([self._worker(segments, stream), *more()], more)

    def _worker(self, segments: Segments, stream: Stream | None) -> Plan[None]:
        """Bring one segment after another until none is left."""
        while (segment := segments.take(LEAST)) is not None:
            try:
                yield from self._segment(segments, segment, stream)
            finally:
                segments.release(segment)
            stream = None

    def _segment(self, segments: Segments, segment: Segment, stream: Stream | None) -> Plan[None]:
        backoff = Backoff(self._around.retries)
        while segments.room(segment):
            try:
                if stream is None:
                    stream = yield from self._open(segments, segment)
                yield from self._pump(segments, segment, stream, backoff)
            except (PreconditionFailed, RangeNotSatisfiable) as error:
                raise self._changed() from error
            except (TransportError, APIError) as error:
                if not self._record.etag and segment.at:
                    raise
                wait = backoff.after(error, repeatable=True)
                stream = None
                yield wait

    def _open(self, segments: Segments, segment: Segment) -> Plan[Stream]:
        """A stream that begins where the segment stands. Raises `RemoteChanged`."""
        begin, end = segment.at, segment.at + segments.room(segment)
        whole = begin == 0 and end == segments.size
        call = calls.get_file(
            self.name, begin=None if whole else begin, end=None if whole else end, etag=self._record.etag or None
        )
        stream: Stream = yield Open(call)
        head = calls.file_head(stream.answer)
        if (head.size, head.etag or "") != (segments.size, self._record.etag):
            raise self._changed()
        if not whole and (stream.answer.status != 206 or calls.content_range(stream.answer)[0] != begin):
            raise ProtocolError(f"asked for bytes from {begin} on, and got others: something on the way ignores Range")
        return stream

    def _pump(self, segments: Segments, segment: Segment, stream: Stream, backoff: Backoff) -> Plan[None]:
        """Write what comes until the segment is done."""
        while room := segments.room(segment):
            data: bytes | memoryview = yield Read(stream, self.throttle.piece(min(PIECE, room)))
            if not data:
                raise ConnectionBroken(f"the answer ended {room} bytes early")
            data = data[:room]
            yield Do(partial(self._part.write, segment.at, data))
            segments.advance(segment, len(data))
            backoff.gained()
            self.moved()
            if self._follower is not None and self._record.sha256:
                self._follower.advance(segments.frontier)
            if self._record.etag and time.monotonic() - self._saved > SAVE_EVERY:
                yield Do(partial(self._save, segments))
            if wait := self.throttle.delay(len(data)):
                yield Sleep(wait)
        yield Close(stream)

    def _finish(self, segments: Segments) -> Plan[Path]:
        if self._record.sha256 and self._follower is not None:
            found = yield Do(partial(self._follower.finish, segments.size))
            if found != self._record.sha256:
                self._forget()
                yield Do(self._remove)
                raise DigestMismatch(
                    f"what came down of {self.name!r} has SHA-256 {found}, and not the one that the server names; "
                    "it was removed"
                )
        if (yield from self._is_there()):  # it may have come meanwhile
            return self.target
        path: Path = yield Do(partial(self._part.publish, segments.size))
        self._ended = True
        return path

    def _changed(self) -> RemoteChanged:
        return RemoteChanged(
            f"{self.name!r} is another file on the server than the one that was begun; "
            "restart=True fetches it as it is now"
        )
