"""Download of a file: by one or several connections, of one version only, renamed after its digest is verified.

The bytes are verified by blocks as they arrive, and wrong blocks are fetched again. SHA-256 takes their place where one
side has no block digests.
"""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from holdfast import calls, digests, plans
from holdfast._endpoints.call import Call
from holdfast._local_files import dangerous_names, records
from holdfast._local_files.local_digests import PassingBlocks
from holdfast._local_files.part_file import PartFile, exists
from holdfast._local_files.records import RecordFile, ResumeRecord
from holdfast._local_files.sources import HashWorker
from holdfast._local_files.target import Target, size_of_target
from holdfast._transfers.fetch import Body, SegmentFetch, Writer, changed
from holdfast._transfers.job import TransferContext, TransferJob
from holdfast._transfers.pace import Throttle
from holdfast._transfers.segments import Segments
from holdfast._transfers.verification import TRIES, BlockCheck, feed, is_same
from holdfast.errors import (
    APIError,
    DigestMismatch,
    PreconditionFailed,
    ProtocolError,
    TransportError,
)
from holdfast.plans import Backoff, Do, Open, Plan, Stream, ensured

SAVE_INTERVAL = 1.0  # seconds between writes of the record; a killed process loses no more progress


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
        self._check: BlockCheck | None = None
        self._hasher: HashWorker | None = None  # where there is no check by blocks
        self._saved = 0.0
        self._saving = threading.Lock()
        self._ranges = True  # false once a proxy on the way has ignored Range
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
            if self._check is not None and self._part.has_state(saved.state):
                self._check.restore(self._file.read_digests(), saved.done)
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
        saved.part = self._part.adopt(saved.done) if _is_known(saved) else None
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
                self.save(self._segments, closing=True)
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
        self._segments, self._check, self._hasher = Segments(size, done), None, None
        if self._record.digest and digests.AVAILABLE:
            self._check = BlockCheck(self._part, size)
        elif _is_known(self._record):
            self._hasher = HashWorker(self._part.read_into)

    def save(self, segments: Segments, *, closing: bool = False) -> None:
        """Save what a later run needs."""
        with self._saving:
            if not _is_known(self._record):
                # Without a digest nothing would detect that bytes were lost in a power failure: write them first.
                self._part.sync()
            self._record.done = segments.done
            if self._check is not None:
                self._record.state = self._part.state(closing=closing)
                self._check.save(self._file)
            self._file.save(self._record)
            self._saved = time.monotonic()

    # -- the plan

    def run(self) -> Plan[Path]:
        if self._ended:
            return self.target
        restart, self._restart = self._restart, False  # only once: a resumed run continues
        if not (restart and self._overwrite) and (yield from self._target_is_current()):
            return self.target
        body: Body | None = None
        if self._segments is None:
            body = yield from self._open_first()
        if self._segments is None:
            raise ProtocolError("the response does not tell the size of the file")
        yield from self._fetch(self._segments, body)
        if self._check is not None:
            yield from self._verify_blocks(self._check)
        elif self._hasher is not None:
            yield from self._verify_sha256(self._hasher, self._segments.size)
        return (yield from self._finish(self._segments))

    def _fetch(self, segments: Segments, body: Body | None = None) -> Plan[None]:
        fetch = SegmentFetch(self, self.name, self._record.etag, self._get, self._context.retries, self._connections)
        fetch.ranges = self._ranges
        yield from fetch.run(segments, body)
        self._ranges = fetch.ranges

    def _get(self, **options: Any) -> Call[bytes]:
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
        if there == head.size and (yield from is_same(self.target, self.name, head, self._context.retries)):
            self._segments, self._ended = Segments(head.size, [(0, head.size)]), True
            yield Do(self._remove)
            return True
        if self._overwrite:
            return False
        raise exists(self.target)

    def _open_first(self) -> Plan[Body]:
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
        self._record.size, self._record.etag = head.size, head.etag or ""
        self._record.sha256, self._record.digest = head.sha256 or "", head.block_digest or ""
        yield Do(partial(self._make_part, head.size))
        self._start_segments(head.size, [])
        return Body(stream, 0)

    # -- what a fetch writes to

    def writer(self) -> Writer:
        """Return the function by which one worker writes bytes, and hashes them as they pass."""
        if self._check is None:
            return self._part.write
        return partial(self._write, self._check.passing())

    def _write(self, passing: PassingBlocks, at: int, data: bytes | memoryview) -> None:
        self._part.write(at, data)
        feed(passing, at, data)

    def progressed(self, segments: Segments) -> bool:
        """Report progress. Return whether it is time to save."""
        self.on_progress()
        if self._hasher is not None:
            self._hasher.advance(segments.frontier)
        return bool(self._record.etag) and time.monotonic() - self._saved > SAVE_INTERVAL

    def _verify_blocks(self, check: BlockCheck) -> Plan[None]:
        """Compare the digests of the blocks, and fetch wrong ones again. Raises `DigestMismatch`; right ones stay."""
        tries = 0
        while wrong := (yield from self._wrong_blocks(check)):
            self._segments = Segments(check.size, check.forget(wrong))
            if tries == TRIES:
                raise DigestMismatch(
                    f"{len(wrong)} of the blocks of {self.name!r} came wrong, and again {TRIES} times. "
                    "Check the network and the disk, then resume the download: the other blocks are kept"
                )
            tries += 1
            yield from self._fetch(self._segments)

    def _wrong_blocks(self, check: BlockCheck) -> Plan[list[int]]:
        record = self._record
        try:
            wrong = yield from check.compare(self.name, record.etag, record.digest, self._context.retries)
        except PreconditionFailed as error:
            raise changed(self.name) from error
        if wrong is None:
            yield from self._refuse("is not what the server has")
        return wrong or []

    def _verify_sha256(self, hasher: HashWorker, size: int) -> Plan[None]:
        """Compare the SHA-256, if the server can tell it. Raises `DigestMismatch`."""
        if not self._record.sha256:  # it has a block digest, which this side can't compute
            file = yield from plans.info(self.name, self._context.retries, sha256=True)
            self._record.sha256 = (file.sha256 or "") if file.etag == self._record.etag else ""
        if self._record.sha256:
            found = yield Do(partial(hasher.finish, size))
            if found != self._record.sha256:
                yield from self._refuse(f"has SHA-256 {found}, not the one that the server names")

    def _refuse(self, reason: str) -> Plan[NoReturn]:
        """Remove what came, and raise `DigestMismatch`."""
        self._reset()
        yield Do(self._remove)
        raise DigestMismatch(f"the download of {self.name!r} {reason}. It was removed. Download it again")

    def _finish(self, segments: Segments) -> Plan[Path]:
        if not self._overwrite and (yield from self._target_is_current()):  # it may have been created meanwhile
            return self.target
        yield Do(partial(self._publish, segments.size))
        return self.target

    def _publish(self, size: int) -> None:
        self._part.publish(size, overwrite=self._overwrite)
        self._ended = True


def _is_known(record: ResumeRecord) -> bool:
    """Return whether a digest will verify the bytes at the end."""
    return bool(record.digest or record.sha256)


def _of_what(record: ResumeRecord) -> tuple[str, str, bool]:
    return record.server, record.name, record.archive
