"""Upload of the small files of a folder, many in one request. What a request did not bring about is left to others."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from holdfast import calls, digests, wire
from holdfast._transfers.job import TransferContext
from holdfast._transfers.pace import Throttle
from holdfast._transfers.small_files import tar
from holdfast.errors import APIError, NotFound, PreconditionFailed, TransportError
from holdfast.plans import Backoff, Do, Plan, Together, forget, request

SMALL = 256 << 10
"""Bytes of the largest file that is sent with others."""
FEWEST = 16
"""Files for which a request of their own is not worth it."""

_FILES, _BYTES = 512, 4 << 20  # of one request
_AT_ONCE = 2  # one is read and packed while the server publishes the other
_PIECE = 256 << 10
_UNSUPPORTED = (400, 404, 405, 411, 413, 415, 501)  # by an earlier server, or a proxy that limits bodies


class Bundle:
    """Files that are sent together: the body of a request. It reports progress, and keeps to the rate limit."""

    def __init__(self, files: Mapping[str, bytes], throttle: Throttle, on_progress: Callable[[], None]) -> None:
        self.files = files
        self.done = 0
        parts: list[bytes] = []
        for name, data in files.items():
            parts += (tar.head(name, len(data)), data, tar.padding(len(data)))
        self._body = b"".join([*parts, tar.END])
        self._throttle = throttle
        self._on_progress = on_progress

    @property
    def length(self) -> int:
        return len(self._body)

    def pieces(self) -> Iterator[bytes]:
        at = self.done = 0
        content, length = sum(map(len, self.files.values())), self.length
        while at < length:
            piece = self._body[at : at + self._throttle.piece(_PIECE)]
            yield piece
            at += len(piece)
            self.done = content * at // length
            self._on_progress()
            if wait := self._throttle.delay(len(piece)):
                time.sleep(wait)


class SmallFileUploads:
    """Sends small files below `path`. `on_landed` gets the name and the published file of each; it blocks."""

    def __init__(
        self,
        context: TransferContext,
        path: Path,
        prefix: str,
        *,
        overwrite: bool,
        throttle: Throttle,
        on_progress: Callable[[], None],
        on_landed: Callable[[str, wire.FileInfo], None],
    ) -> None:
        self._retries = context.retries
        self._path = path
        self._prefix = prefix
        self._overwrite = overwrite
        self._throttle = throttle
        self._on_progress = on_progress
        self._on_landed = on_landed
        self._works = True
        self._running: list[Bundle] = []
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        """Bytes of the files in requests that have not ended."""
        with self._lock:
            return sum(bundle.done for bundle in self._running)

    def run(self, files: Mapping[str, int]) -> Plan[None]:
        """Send those of the files, given with their sizes, that are small, if they are many."""
        small = {name: size for name, size in files.items() if size <= SMALL and _is_utf8(name)}
        folder = self._prefix.strip("/")
        is_plain = self._prefix == (f"{folder}/" if folder else "")  # else the server says, of each, what is wrong
        if len(small) < FEWEST or not is_plain:
            return
        groups = _groups(small)

        def worker() -> Plan[None]:
            while True:
                with self._lock:
                    group = next(groups, None) if self._works else None
                if group is None:
                    return
                yield from self._send(group)

        yield Together([worker() for _ in range(_AT_ONCE)])

    def _send(self, group: Sequence[str]) -> Plan[None]:
        bundle: Bundle = yield Do(partial(self._pack, group))
        backoff = Backoff(self._retries)
        try:
            while bundle.files:
                call = calls.put_archive(self._prefix, bundle, absent=not self._overwrite, landed=True)
                try:
                    receipt: wire.ArchiveReceipt = yield call
                except (TransportError, APIError) as error:
                    if isinstance(error, APIError) and error.status in _UNSUPPORTED:
                        self._works = False
                        return
                    yield backoff.after(error, repeatable=True)
                    bundle = yield from self._without_landed(bundle)
                else:
                    damaged: list[wire.FileInfo] = yield Do(partial(self._land, bundle, receipt.landed), always=True)
                    for file in damaged:  # sent again by itself, with a digest that the server verifies first
                        yield from self._remove(file)
                    return
        finally:
            self._end(bundle)

    def _pack(self, group: Sequence[str]) -> Bundle:
        """Read files. One that can't be read, or has grown, is left out: whoever sends it by itself says why."""
        files: dict[str, bytes] = {}
        for name in group:
            try:
                number = os.open(self._path / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                data = os.read(number, SMALL + 1)
                if len(data) == os.fstat(number).st_size <= SMALL:
                    files[name] = data
            except OSError:
                continue
            finally:
                os.close(number)
        return self._begin(files)

    def _begin(self, files: Mapping[str, bytes]) -> Bundle:
        bundle = Bundle(files, self._throttle, self._on_progress)
        with self._lock:
            self._running.append(bundle)
        return bundle

    def _end(self, bundle: Bundle) -> None:
        with self._lock:
            if bundle in self._running:
                self._running.remove(bundle)

    def _remove(self, file: wire.FileInfo) -> Plan[None]:
        try:
            yield from forget(calls.delete_file(file.name, etag=file.etag), self._retries)
        except (NotFound, PreconditionFailed):
            pass  # somebody else has removed or replaced it

    def _land(self, bundle: Bundle, landed: Sequence[wire.FileInfo]) -> list[wire.FileInfo]:
        """Verify what was published, and note it. Return what has another content than was sent."""
        self._end(bundle)
        damaged: list[wire.FileInfo] = []
        for file in landed:
            name = file.name.removeprefix(self._prefix)
            data = bundle.files.get(name)
            if data is None:
                continue
            if _has(file, data) is False:
                damaged.append(file)
            else:
                self._on_landed(name, file)
        self._on_progress()
        return damaged

    def _without_landed(self, bundle: Bundle) -> Plan[Bundle]:
        """Return a bundle without the files that the server has by now: its answer was lost."""
        self._end(bundle)
        left = dict(bundle.files)
        names = sorted(left, key=str.encode)
        last = (self._prefix + names[-1]).encode()
        cursor: str | None = self._prefix + names[0][:-1]  # what comes just before may be in it, too
        while cursor is not None:
            call = calls.list_files(prefix=self._prefix or None, cursor=cursor or None, limit=1000)
            page: wire.FilePage = yield from request(call, self._retries)
            there = [file for file in page.items if file.name.removeprefix(self._prefix) in left]
            yield Do(partial(self._note_landed, there, left))
            cursor = page.next if page.items and page.items[-1].name.encode() < last else None
        new: Bundle = yield Do(partial(self._begin, left))
        return new

    def _note_landed(self, there: Sequence[wire.FileInfo], left: dict[str, bytes]) -> None:
        for file in there:
            name = file.name.removeprefix(self._prefix)
            if _has(file, left[name]):
                del left[name]
                self._on_landed(name, file)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # the upload of the file by itself says so
        return False
    return True


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    total = 0
    for name, size in sizes.items():
        if group and (len(group) >= _FILES or total + size > _BYTES):
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group


def _has(file: wire.FileInfo, data: bytes) -> bool | None:
    """Return whether a published file has this content; None if no digest says so."""
    if file.size != len(data):
        return False
    if file.block_digest is not None and digests.AVAILABLE:
        return file.block_digest == digests.of_file(data).hex()
    return None if file.sha256 is None else file.sha256 == hashlib.sha256(data).hexdigest()
