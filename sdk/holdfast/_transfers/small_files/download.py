"""Download of the small files of a folder as one stream, a tar. What it does not bring is left to others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from holdfast import calls, digests, wire
from holdfast._local_files.small_files import write_together
from holdfast._transfers.job import TransferContext
from holdfast._transfers.pace import Throttle
from holdfast._transfers.small_files.tar import TarParser, UnreadableTarError
from holdfast.errors import APIError, ConnectionBroken, PreconditionFailed, TransportError
from holdfast.plans import Backoff, Close, Do, Open, Plan, Read, Sleep, Stream

SMALL = 256 << 10
"""Bytes of the largest file that comes with others."""
FEWEST = 16
"""Files for which a request of their own is not worth it."""

_FILES, _BYTES = 64, 4 << 20  # that are written together
_READ = 1 << 20
_SKIPPED = 2 << 20  # bytes that are not wanted, from which on another request is quicker than to read them
_FULL_SHARE = 0.25  # of all small files: if fewer are wanted, each is fetched by itself
_UNSUPPORTED = (400, 404, 405, 413, 416, 501)  # by an earlier server, or a proxy

Landed = tuple[wire.FileInfo, Path, os.stat_result]


class SmallFileDownloads:
    """Fetches small files below a prefix. `on_landed` gets those that are complete; it blocks."""

    def __init__(
        self,
        context: TransferContext,
        prefix: str,
        *,
        throttle: Throttle,
        on_landed: Callable[[Sequence[Landed]], None],
    ) -> None:
        self._retries = context.retries
        self._prefix = prefix
        self._throttle = throttle
        self._on_landed = on_landed
        self._wanted: dict[str, tuple[wire.FileInfo, Path]] = {}
        self._came: list[tuple[wire.FileInfo, Path, bytes]] = []
        self._came_bytes = 0

    @property
    def done(self) -> int:
        """Bytes that have come and are not written yet."""
        return self._came_bytes

    def run(self, files: Sequence[wire.FileInfo], targets: Mapping[str, Path]) -> Plan[None]:
        """Fetch those of the files in `targets` that are small and new here, if they are many. `files` are all."""
        self._came, self._came_bytes = [], 0  # what a pause has kept from being written may be of another version now
        self._wanted = yield Do(partial(self._select, files, targets))
        small = sum(1 for file in files if file.size <= SMALL)
        if len(self._wanted) < max(FEWEST, small * _FULL_SHARE):
            return
        backoff = Backoff(self._retries)
        etag, offset = "", 0
        while self._wanted:
            before = offset
            parser = TarParser(self._wants, offset)
            try:
                stream: Stream = yield Open(self._call(offset, etag))
                head = calls.file_head(stream.answer)
                etag = etag or head.etag or ""
                if offset and (stream.answer.status != 206 or head.etag != etag or not etag):
                    yield Close(stream)
                    break
                yield from self._unpack(stream, parser)
            except UnreadableTarError:
                break
            except PreconditionFailed:
                break  # it has changed: those that are left are looked up one by one
            except (TransportError, APIError) as error:
                if isinstance(error, APIError) and error.status in _UNSUPPORTED:
                    break
                offset = parser.resume_at if etag else 0
                if offset > before:
                    backoff.reset()
                yield backoff.after(error, repeatable=True)
            else:
                if parser.ended:
                    break
                offset = parser.offset  # after what was not worth reading
        yield Do(self._write, always=True)

    def _select(
        self, files: Sequence[wire.FileInfo], targets: Mapping[str, Path]
    ) -> dict[str, tuple[wire.FileInfo, Path]]:
        skip = len(self._prefix)
        there: dict[str, frozenset[str]] = {}
        wanted: dict[str, tuple[wire.FileInfo, Path]] = {}
        for file in files:
            target = targets.get(file.name)
            if target is None or file.size > SMALL:
                continue
            parent, last = os.path.split(target)
            if parent not in there:
                there[parent] = _names_in(parent)
            if last not in there[parent]:
                wanted[file.name[skip:]] = file, target
        return wanted

    def _call(self, offset: int, etag: str) -> calls.Call[bytes]:
        name = calls.archive_name(self._prefix, "tar")
        return calls.get_archive(name, begin=offset or None, etag=etag if offset else None)

    def _wants(self, name: str, size: int) -> bool:
        wanted = self._wanted.get(name)
        return wanted is not None and wanted[0].size == size

    def _unpack(self, stream: Stream, parser: TarParser) -> Plan[None]:
        """Take members until the end, or until none is wanted, or until much comes that is not."""
        while self._wanted and not parser.ended:
            if parser.skip > _SKIPPED:
                break
            data: bytes | memoryview = yield Read(stream, self._throttle.piece(_READ))
            if not data:
                raise ConnectionBroken("the response ended before the archive did")
            for name, content in parser.feed(data):
                file, target = self._wanted.pop(name)
                if _is_of(file, content):
                    self._came.append((file, target, content))
                    self._came_bytes += len(content)
                    if len(self._came) >= _FILES or self._came_bytes > _BYTES:
                        yield Do(self._write)
            if wait := self._throttle.delay(len(data)):
                yield Sleep(wait)
        yield Close(stream)

    def _write(self) -> None:
        came, self._came = self._came, []
        written = write_together([(target, content) for _, target, content in came])
        pairs = zip(came, written, strict=True)
        self._came_bytes = 0
        self._on_landed([(file, target, status) for (file, target, _), status in pairs if status is not None])


def _names_in(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def _is_of(file: wire.FileInfo, content: bytes) -> bool:
    """Return whether this is the content of the version that was listed, as far as a digest says so."""
    if file.block_digest is not None and digests.AVAILABLE:
        return file.block_digest == digests.of_file(content).hex()
    return file.sha256 is None or file.sha256 == hashlib.sha256(content).hexdigest()
