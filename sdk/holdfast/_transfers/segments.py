"""Segments of a transfer: which bytes are done, in progress and left for a worker. Pure; thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Iterable

ALIGN = 1 << 20  # bytes; a range that is halved there has no block that two workers share
Range = tuple[int, int]  # from the first byte up to, not including, the second number


class Segment:
    """Range of one worker: `at` is its next byte, `end` the byte where it stops, which may be lowered."""

    __slots__ = ("at", "begin", "end", "taken")

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.at = begin
        self.end = end
        self.taken = False

    @property
    def left(self) -> int:
        """Bytes still to transfer."""
        return self.end - self.at


class Segments:
    """All bytes of a file of `size`, some of them `done` already."""

    def __init__(self, size: int, done: Iterable[Range] = ()) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._segments: list[Segment] = []
        at = 0
        for begin, end in [*merged(done), (size, size)]:
            if not 0 <= begin <= end <= size:
                raise ValueError(f"{begin}-{end} is not within a file of {size} bytes")
            if begin > at:
                self._segments.append(Segment(at, begin))
            at = end

    def take(self, least: int) -> Segment | None:
        """Return the first free range, else the second half of the longest range of another worker.

        None if everything is done, or if each range has less than twice `least` bytes left.
        """
        with self._lock:
            for segment in self._segments:
                if not segment.taken and segment.left:
                    segment.taken = True
                    return segment
            longest = max(self._segments, key=lambda segment: segment.left, default=None)
            if longest is None or longest.left < 2 * least:
                return None
            middle = longest.at + longest.left // 2
            aligned = middle // ALIGN * ALIGN
            half = Segment(aligned if aligned - longest.at >= least else middle, longest.end)
            half.taken = True
            longest.end = half.begin
            self._segments.insert(self._segments.index(longest) + 1, half)
            return half

    def release(self, segment: Segment) -> None:
        """Mark a segment as free: its worker has ended."""
        with self._lock:
            segment.taken = False

    def give_back(self, segment: Segment) -> None:
        """Free a segment that was not begun. A worker on the range just before it continues into it."""
        with self._lock:
            segment.taken = False
            index = self._segments.index(segment)
            before = self._segments[index - 1] if index else None
            if before is not None and before.taken and before.end == segment.at == segment.begin:
                before.end = segment.end
                segment.end = segment.at
                del self._segments[index]

    def room(self, segment: Segment) -> int:
        """Return how many bytes the worker may still write at `segment.at`; 0 if it is done."""
        with self._lock:
            return segment.left

    def advance(self, segment: Segment, count: int) -> int:
        """Count written bytes, at most `room` of them. Return the next byte of the segment."""
        with self._lock:
            segment.at = min(segment.end, segment.at + count)
            return segment.at

    @property
    def done(self) -> list[Range]:
        """Ranges that are done, in order."""
        with self._lock:
            ranges, at = [], 0
            for segment in self._segments:
                ranges.append((at, segment.at))
                at = segment.end
            return merged([*ranges, (at, self.size)])

    @property
    def count(self) -> int:
        """Number of bytes that are done."""
        with self._lock:
            return self.size - sum(segment.left for segment in self._segments)

    @property
    def frontier(self) -> int:
        """Number of bytes that are done from the start without a gap."""
        done = self.done
        return done[0][1] if done and done[0][0] == 0 else 0


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Merge ranges into few, in order, without empty ones."""
    found: list[Range] = []
    for begin, end in sorted(ranges):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif end > begin:
            found.append((begin, end))
    return found
