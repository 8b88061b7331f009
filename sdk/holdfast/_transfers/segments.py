"""Which bytes of a transfer are there, which are on the way, and who takes what is left. Pure; safe between threads."""

from __future__ import annotations

import threading
from collections.abc import Iterable

Range = tuple[int, int]  # from the first byte up to, and not including, the last


class Segment:
    """A range that one worker brings: `at` is where it goes on, `end` where it stops (and may come nearer)."""

    __slots__ = ("at", "begin", "end", "taken")

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.at = begin
        self.end = end
        self.taken = False

    @property
    def left(self) -> int:
        """Bytes still to bring."""
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
        """The first range that nobody brings; else the second half of the longest that somebody does.

        None when all is done or what is left of each range is less than twice `least`, too short to be halved.
        """
        with self._lock:
            for segment in self._segments:
                if not segment.taken and segment.left:
                    segment.taken = True
                    return segment
            longest = max(self._segments, key=lambda segment: segment.left, default=None)
            if longest is None or longest.left < 2 * least:
                return None
            half = Segment(longest.at + longest.left // 2, longest.end)
            half.taken = True
            longest.end = half.begin
            self._segments.insert(self._segments.index(longest) + 1, half)
            return half

    def release(self, segment: Segment) -> None:
        """Its worker has ended, done or not."""
        with self._lock:
            segment.taken = False

    def give_back(self, segment: Segment) -> None:
        """Let whoever brings the bytes just before go on into it, if somebody does; else it is there to be taken."""
        with self._lock:
            segment.taken = False
            index = self._segments.index(segment)
            before = self._segments[index - 1] if index else None
            if before is not None and before.taken and before.end == segment.at == segment.begin:
                before.end = segment.end
                segment.end = segment.at
                del self._segments[index]

    def room(self, segment: Segment) -> int:
        """How many bytes the worker may still put at `segment.at`; 0 once it is done, or the rest is another's."""
        with self._lock:
            return segment.left

    def advance(self, segment: Segment, count: int) -> int:
        """`count` bytes are there; at most `room` of them are counted. Where the segment stands now."""
        with self._lock:
            segment.at = min(segment.end, segment.at + count)
            return segment.at

    @property
    def done(self) -> list[Range]:
        """What is there, in order."""
        with self._lock:
            ranges, at = [], 0
            for segment in self._segments:
                ranges.append((at, segment.at))
                at = segment.end
            return merged([*ranges, (at, self.size)])

    @property
    def count(self) -> int:
        """How many bytes are there."""
        with self._lock:
            return self.size - sum(segment.left for segment in self._segments)

    @property
    def frontier(self) -> int:
        """How many bytes are there from the start without a gap."""
        done = self.done
        return done[0][1] if done and done[0][0] == 0 else 0


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes as few ranges in order; empty ones are dropped."""
    found: list[Range] = []
    for begin, end in sorted(ranges):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif end > begin:
            found.append((begin, end))
    return found
