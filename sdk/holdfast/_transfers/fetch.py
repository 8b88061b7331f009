"""Fetching of the segments of one version of a file, by one or several connections."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from holdfast import calls
from holdfast._endpoints.call import Call
from holdfast._transfers.pace import MOST_AT_ONCE, Growth, Throttle
from holdfast._transfers.segments import Segment, Segments
from holdfast.errors import (
    APIError,
    ConnectionBroken,
    PreconditionFailed,
    ProtocolError,
    RangeNotSatisfiable,
    RemoteChanged,
    TransportError,
)
from holdfast.plans import Backoff, Close, Do, Open, Plan, Read, Retries, Sleep, Stream, Together

MIN_SEGMENT = 4 << 20  # bytes; a shorter segment does not pay for a connection of its own
PIECE = 1 << 20

Writer = Callable[[int, bytes | memoryview], None]


@dataclass(slots=True)
class Body:
    """Open response, and the offset of its next byte in the file."""

    stream: Stream
    at: int


class _RangeIgnoredError(Exception):
    """The response has other bytes than were requested."""


class FetchTarget(Protocol):
    """Destination of a fetch. Several threads use it."""

    throttle: Throttle

    def writer(self) -> Writer:
        """Return the function by which one worker writes bytes at an offset. It blocks."""
        ...

    def progressed(self, segments: Segments) -> bool:
        """Note that bytes were written. Return whether it is time to save."""
        ...

    def save(self, segments: Segments) -> None:
        """Save what a later run needs. Blocks."""
        ...


def changed(name: str) -> RemoteChanged:
    """Return the error for a file that is another version now."""
    return RemoteChanged(
        f"{name!r} has changed on the server since its download began. Pass restart=True to fetch it as it is now"
    )


class SegmentFetch:
    """Fetches the bytes of one version of a file. `ranges` is false once a proxy on the way has ignored Range."""

    def __init__(
        self,
        local: FetchTarget,
        name: str,
        etag: str,
        get: Callable[..., Call[bytes]],
        retries: Retries,
        connections: int | None,
    ) -> None:
        """`get` makes the call for the whole, or for bytes from `begin` to `end` of the version `etag`."""
        self.ranges = True
        self._local = local
        self._name = name
        self._etag = etag
        self._get = get
        self._retries = retries
        self._connections = connections
        self._lock = threading.Lock()
        self._active = 0

    def run(self, segments: Segments, body: Body | None = None) -> Plan[None]:
        """Fetch all segments. `body` is a response that is open already."""
        left = segments.size - segments.count
        if not left:
            return
        # Without an entity tag, versions can't be told apart: one response has to bring the whole file.
        most = 1 if not self._etag or left < 2 * MIN_SEGMENT else self._connections or MOST_AT_ONCE
        growth = Growth(most, at_once=self._connections is not None)
        workers = 1

        def more() -> list[Plan[None]]:
            nonlocal workers
            add = growth.more(workers, segments.count, segments.size - segments.count) if self.ranges else 0
            workers += add
            return [self._worker(segments, None) for _ in range(add)]

        yield Together([self._worker(segments, body), *more()], more)
        while (
            segments.count < segments.size
        ):  # segments that a worker freed because ranges do not work, after all others had ended
            yield from self._worker(segments, None)

    def _worker(self, segments: Segments, body: Body | None) -> Plan[None]:
        """Fetch one segment after another until none is left."""
        with self._lock:
            self._active += 1
        try:
            while (segment := segments.take(MIN_SEGMENT if self.ranges else segments.size + 1)) is not None:
                try:
                    body = yield from self._fetch_segment(segments, segment, body)
                except _RangeIgnoredError:
                    self.ranges, body = False, None
                    segments.give_back(segment)
                    if self._active > 1:  # one stream is enough, and another worker has one
                        return
                finally:
                    segments.release(segment)
        finally:
            with self._lock:
                self._active -= 1

    def _fetch_segment(self, segments: Segments, segment: Segment, body: Body | None) -> Plan[Body | None]:
        """Fetch one segment; return the response if it continues after the segment."""
        backoff = Backoff(self._retries)
        write = self._local.writer()
        while segments.room(segment):
            try:
                if body is None or body.at > segment.at:
                    body = yield from self._open(segments, segment)
                yield from self._write_body(segments, segment, body, write, backoff)
            except (PreconditionFailed, RangeNotSatisfiable) as error:
                raise changed(self._name) from error
            except (TransportError, APIError) as error:
                if not self._etag and segment.at:
                    raise
                wait = backoff.after(error, repeatable=True)
                body = None
                yield wait
        if body is not None and self.ranges:
            yield Close(body.stream)
            body = None
        return body

    def _open(self, segments: Segments, segment: Segment) -> Plan[Body]:
        """Open a response that begins at the segment, or at the start of the file if ranges do not work.

        Raises:
            RemoteChanged: the response is of another version.
        """
        begin, end = segment.at, segment.at + segments.room(segment)
        whole = not self.ranges or (begin == 0 and end == segments.size)
        call = self._get(begin=None if whole else begin, end=None if whole else end, etag=self._etag or None)
        stream: Stream = yield Open(call)
        head = calls.file_head(stream.answer)
        if (head.size, head.etag or "") != (segments.size, self._etag):
            raise changed(self._name)
        start = 0 if stream.answer.status != 206 else calls.content_range(stream.answer)[0]
        if whole and start:
            raise ProtocolError(f"asked for the whole file, and got bytes from {start} on")
        if not whole and (start != begin or stream.answer.status != 206):
            yield Close(stream)
            raise _RangeIgnoredError
        return Body(stream, start)

    def _write_body(
        self, segments: Segments, segment: Segment, body: Body, write: Writer, backoff: Backoff
    ) -> Plan[None]:
        """Write bytes of the response until the segment is done."""
        while (room := segments.room(segment)) and (skip := segment.at - body.at) >= 0:
            data: bytes | memoryview = yield Read(body.stream, self._local.throttle.piece(min(PIECE, skip or room)))
            if not data:
                raise ConnectionBroken(f"the response ended {room + skip} bytes early")
            count = len(data)
            body.at += count
            data = data[skip : skip + segments.room(segment)]
            if data:
                yield Do(partial(write, segment.at, data))
                segments.advance(segment, len(data))
                backoff.reset()
                if self._local.progressed(segments):
                    yield Do(partial(self._local.save, segments))
            if wait := self._local.throttle.delay(count):
                yield Sleep(wait)
