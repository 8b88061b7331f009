"""A file that comes down: in one stream or several, never of two versions, renamed when its digest is right."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from holdfast import calls, plans
from holdfast._local_files import dangerous_names, records
from holdfast._local_files.part_file import PartFile, exists
from holdfast._local_files.records import RecordFile, ResumeRecord
from holdfast._local_files.sources import HashWorker, sha256_of
from holdfast._transfers.job import TransferContext, TransferJob
from holdfast._transfers.pace import MOST_AT_ONCE, Growth, Throttle
from holdfast._transfers.segments import Segment, Segments
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
from holdfast.plans import Backoff, Close, Do, Open, Plan, Read, Sleep, Stream, Together, ensured

LEAST = 4 << 20  # bytes; a shorter segment is not worth a connection of its own
SAVE_EVERY = 1.0  # seconds between records on disk; a killed process fetches at most so much again
PIECE = 1 << 20


@dataclass(slots=True)
class Target:
    """Where a download is to land, as the user has said it."""

    path: Path
    folder: bool = False  # whatever is there: it ended in a slash
    exact: bool = False  # it names the file, even where a folder has come to be

    @classmethod
    def of(cls, to: str | os.PathLike[str] | None) -> Target:
        """A file, or a folder, which is there or ends in a slash; None is the working directory."""
        text = "" if to is None else os.fspath(to)
        return cls(Path(text).absolute(), folder=text.endswith(("/", os.sep)))

    def of_file(self, name: str) -> Path:
        """Where a file of the server lands. Blocks. Raises `ValueError` for a name that no file can have."""
        if self.exact or not (self.folder or self.path.is_dir()):
            return self.path
        last = name.rpartition("/")[2]
        if last in ("", ".", "..") or "\0" in last:
            raise ValueError(f"{name!r} does not end in the name of a file; say by `to` which file it is to be")
        return self.path / last


@dataclass(slots=True)
class _Flow:
    """An answer, and which byte of the file comes next."""

    stream: Stream
    at: int


class _RangeIgnoredError(Exception):
    """Other bytes came than were asked for."""


class DownloadJob(TransferJob[Path]):
    """`GET /v1/files/{name}` into a file."""

    kind = "download"

    def __init__(
        self,
        around: TransferContext,
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
        self._around = around
        self._to = target
        self._is_located = False
        self._overwrite = overwrite
        self._restart = restart
        self._allow_dangerous = allow_dangerous
        self._wanted = segments
        self._within = within
        self._segments: Segments | None = None
        self._follower: HashWorker | None = None
        self._saved = 0.0
        self._saving = threading.Lock()
        self._ranges = True  # until something on the way ignores them
        self._busy = 0
        self._ended = False

    @property
    def done(self) -> int:
        return self._segments.count if self._segments is not None else 0

    @property
    def total(self) -> int | None:
        return self._segments.size if self._segments is not None else None

    # -- the local end

    def look(self) -> None:
        """As promised. Raises `ValueError`."""
        if not self._is_located:
            self.target = self._to.of_file(self.name)
            self._part, self._record = PartFile(self.target), self._new_record()
            self._file = RecordFile(self._around.records, self._record.key)
            self._is_located = True

    @property
    def is_over(self) -> bool:
        """Whether the file has its name."""
        return self._ended

    def begin(self) -> None:
        if self._ended:  # it was paused just as it came to its end
            return
        self.look()
        if not self._allow_dangerous:
            dangerous_names.refuse([(self.name, self.target)])
        kept = self._file.take()
        if kept is not None and kept.size is not None and not self._restart and self._is_ours(kept):
            self._record = self._mark(kept)
            self._know(kept.size, kept.done)
            self._saved = time.monotonic()
        else:
            self._forget()
            self._file.remove()  # first: a record must never outlive the bytes it speaks of
            if kept is not None and kept.part is not None:
                self._part.remove(kept.part)
            self._part.discard()

    def _is_ours(self, kept: ResumeRecord) -> bool:
        """Whether a record is of this download, and what it says is in the part can be there."""
        same = (kept.server, kept.name) == (self._record.server, self._record.name)
        fits = all(0 <= begin <= end <= (kept.size or 0) for begin, end in kept.done)
        if not (same and fits and kept.etag and kept.done):
            return False
        if kept.part is not None:
            return self._part.take_up(kept.part) and self._part.holds(kept.done)
        # Of an earlier version. Its bytes can be trusted where there is a digest to compare them with in the end.
        kept.part = self._part.adopt(kept.done) if kept.sha256 else None
        return kept.part is not None

    def settle(self) -> None:
        if self._follower is not None:
            self._follower.stop()
        if not self._is_located:
            return
        try:
            if self._ended:
                if self._file.is_held:
                    self._file.remove()
            elif not self._part.is_open:  # it has not begun, or is gone already
                pass
            elif self._segments is not None and self._record.etag:
                self._save(self._segments)
            else:
                self._remove()
        finally:
            self._part.close()
            self._file.release()

    def is_recorded(self) -> bool:
        return self._is_located and self._file.path.exists()

    def discard(self) -> Plan[None]:
        yield Do(self.look)
        yield from ensured(self._give_up(), self._file.release)

    def _give_up(self) -> Plan[None]:
        kept: ResumeRecord | None = yield Do(self._file.take)
        if kept is None or (kept.server, kept.name) == (self._record.server, self._record.name):
            yield Do(partial(self._remove, kept))

    def _remove(self, kept: ResumeRecord | None = None) -> None:
        self._part.discard()
        if kept is not None and kept.part is not None:
            self._part.remove(kept.part)
        self._file.remove()

    def _forget(self) -> None:
        """What there is can't be used: the next run begins at byte 0."""
        self._record, self._segments = self._new_record(), None

    def _new_record(self) -> ResumeRecord:
        path = os.path.join(os.path.realpath(self.target.parent), self.target.name)  # one key, whatever the way to it
        record = records.new("download", self._around.base_url, self.name, path)
        return self._mark(record)

    def _mark(self, record: ResumeRecord) -> ResumeRecord:
        """Put into a record what this call has said."""
        record.overwrite, record.allow_dangerous = self._overwrite, self._allow_dangerous
        record.within = self._within
        return record

    def _make_part(self, size: int) -> None:
        """Create the part, recorded before: a process killed at any moment leaves nothing that nobody knows of."""
        self._record.part = self._part.plan()
        try:
            self._file.save(self._record)
            self._record.part = self._part.create(self._record.part)
            self._part.check_space(size)
        except BaseException:
            self._remove()
            raise
        self._saved = time.monotonic()

    def _know(self, size: int, done: list[tuple[int, int]]) -> None:
        self._segments = Segments(size, done)
        self._follower = HashWorker(self._part.read_into)

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
        if self._ended:
            return self.target
        restart, self._restart = self._restart, False  # once: a pause is gone on with
        if not (restart and self._overwrite) and (yield from self._is_there()):
            return self.target
        flow: _Flow | None = None
        if self._segments is None:
            flow = yield from self._first()
        if self._segments is None:
            raise ProtocolError("the size of the file is not known")
        yield from self._bring(self._segments, flow)
        return (yield from self._finish(self._segments))

    def _is_there(self) -> Plan[bool]:
        """Whether the target is the file already, and all is done. Raises `LocalExists` when it is another one."""
        there: int | None = yield Do(self._size_there)
        if there is None:
            return False
        head: calls.FileHead = yield from plans.head(self.name, self._around.retries)
        same_size = there == head.size
        if same_size and head.sha256 is not None and (yield Do(partial(sha256_of, self.target))) == head.sha256:
            self._segments, self._ended = Segments(head.size, [(0, head.size)]), True
            yield Do(self._remove)
            return True
        if self._overwrite:
            return False
        raise exists(self.target)

    def _size_there(self) -> int | None:
        """How long the file is that has the target's name; None for no such name, -1 for a link that leads to no file.

        Raises:
            LocalExists: it is a pipe or a device, which no download replaces.
        """
        try:
            status = self.target.lstat()
        except FileNotFoundError:
            return None
        is_link = stat.S_ISLNK(status.st_mode)
        if is_link:
            try:
                status = self.target.stat()
            except OSError:
                return -1
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder is where the file should land", str(self.target))
        if is_link:
            return -1
        raise LocalExists(f"{self.target} is a pipe or a device, and no file; choose another place")

    def _first(self) -> Plan[_Flow]:
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
        yield Do(partial(self._make_part, head.size))
        self._know(head.size, [])
        return _Flow(stream, 0)

    def _bring(self, segments: Segments, flow: _Flow | None) -> Plan[None]:
        left = segments.size - segments.count
        if not left:
            return
        # Without an entity tag nothing tells two versions apart: one stream, from the start to the end.
        most = 1 if not self._record.etag or left < 2 * LEAST else self._wanted or MOST_AT_ONCE
        growth = Growth(most, at_once=self._wanted is not None)
        workers = 1

        def more() -> list[Plan[None]]:
            nonlocal workers
            add = growth.more(workers, segments.count, segments.size - segments.count) if self._ranges else 0
            workers += add
            return [self._worker(segments, None) for _ in range(add)]

        yield Together([self._worker(segments, flow), *more()], more)
        while segments.count < segments.size:  # given back by one for whom ranges don't work, when nobody was left
            yield from self._worker(segments, None)

    def _worker(self, segments: Segments, flow: _Flow | None) -> Plan[None]:
        """Bring one segment after another until none is left."""
        with self._saving:
            self._busy += 1
        try:
            while (segment := segments.take(LEAST if self._ranges else segments.size + 1)) is not None:
                try:
                    flow = yield from self._segment(segments, segment, flow)
                except _RangeIgnoredError:
                    self._ranges, flow = False, None
                    segments.give_back(segment)
                    if self._busy > 1:  # one stream is enough, and another one is under way
                        return
                finally:
                    segments.release(segment)
        finally:
            with self._saving:
                self._busy -= 1

    def _segment(self, segments: Segments, segment: Segment, flow: _Flow | None) -> Plan[_Flow | None]:
        """Bring one; the answer where it goes on after that, if it does."""
        backoff = Backoff(self._around.retries)
        while segments.room(segment):
            try:
                if flow is None or flow.at > segment.at:
                    flow = yield from self._open(segments, segment)
                yield from self._pump(segments, segment, flow, backoff)
            except (PreconditionFailed, RangeNotSatisfiable) as error:
                raise self._changed() from error
            except (TransportError, APIError) as error:
                if not self._record.etag and segment.at:
                    raise
                wait = backoff.after(error, repeatable=True)
                flow = None
                yield wait
        if flow is not None and self._ranges:
            yield Close(flow.stream)
            flow = None
        return flow

    def _open(self, segments: Segments, segment: Segment) -> Plan[_Flow]:
        """An answer that begins where the segment stands, or, where ranges are ignored, at the start of the file.

        Raises:
            RemoteChanged: it is of another version.
        """
        begin, end = segment.at, segment.at + segments.room(segment)
        whole = not self._ranges or (begin == 0 and end == segments.size)
        call = calls.get_file(
            self.name, begin=None if whole else begin, end=None if whole else end, etag=self._record.etag or None
        )
        stream: Stream = yield Open(call)
        head = calls.file_head(stream.answer)
        if (head.size, head.etag or "") != (segments.size, self._record.etag):
            raise self._changed()
        came = 0 if stream.answer.status != 206 else calls.content_range(stream.answer)[0]
        if whole and came:
            raise ProtocolError(f"asked for the whole file, and got bytes from {came} on")
        if not whole and (came != begin or stream.answer.status != 206):
            yield Close(stream)
            raise _RangeIgnoredError
        return _Flow(stream, came)

    def _pump(self, segments: Segments, segment: Segment, flow: _Flow, backoff: Backoff) -> Plan[None]:
        """Write what comes until the segment is done."""
        while (room := segments.room(segment)) and (skip := segment.at - flow.at) >= 0:
            data: bytes | memoryview = yield Read(flow.stream, self.throttle.piece(min(PIECE, skip or room)))
            if not data:
                raise ConnectionBroken(f"the answer ended {room + skip} bytes early")
            count = len(data)
            flow.at += count
            data = data[skip : skip + segments.room(segment)]
            if data:
                yield Do(partial(self._part.write, segment.at, data))
                segments.advance(segment, len(data))
                backoff.gained()
                self.moved()
                if self._follower is not None and self._record.sha256:
                    self._follower.advance(segments.frontier)
                if self._record.etag and time.monotonic() - self._saved > SAVE_EVERY:
                    yield Do(partial(self._save, segments))
            if wait := self.throttle.delay(count):
                yield Sleep(wait)

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
        if not self._overwrite and (yield from self._is_there()):  # it may have come meanwhile
            return self.target
        yield Do(partial(self._publish, segments.size))
        return self.target

    def _publish(self, size: int) -> None:
        self._part.publish(size, overwrite=self._overwrite)
        self._ended = True

    def _changed(self) -> RemoteChanged:
        return RemoteChanged(
            f"{self.name!r} is another file on the server than the one that was begun; "
            "restart=True fetches it as it is now"
        )
