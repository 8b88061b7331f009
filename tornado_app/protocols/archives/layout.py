"""Layout of an archive: it follows from names, sizes and times alone, and takes a few bytes a member."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from tornado_app.protocols.archives import tar_format, zip_format


class Format(Protocol):
    """A kind of archive. Lengths follow from name, size and time; only the bytes may need the CRC-32 of the content."""

    SUFFIX: str
    MEDIA_TYPE: str
    NEEDS_CRC: bool

    def head_size(self, name: bytes, size: int, modified: int) -> int: ...

    def head(self, name: bytes, size: int, modified: int, crc: int) -> bytes: ...

    def padding(self, size: int) -> int: ...

    def entry_size(self, name: bytes, size: int, modified: int, offset: int) -> int: ...

    def entry(self, name: bytes, size: int, modified: int, offset: int, crc: int) -> bytes: ...

    def end(self, count: int, offset: int, size: int) -> bytes: ...


FORMATS: dict[str, Format] = {"zip": zip_format, "tar": tar_format}


class Origin(IntEnum):
    """Origin of a stretch of an archive."""

    HEAD = 0
    CONTENT = 1
    PADDING = 2
    ENTRY = 3
    END = 4


class Stretch(NamedTuple):
    """Bytes of an archive that have one origin: `length` from `first` on in a header, content or entry."""

    origin: Origin
    member: int
    first: int
    length: int


class Layout:
    """Layout of one archive: `add` its members in order, then `seal` it."""

    def __init__(self, format: Format) -> None:
        self.format = format
        self._names = bytearray()
        self._name_ends = array("Q", [0])
        self._sizes = array("Q")
        self._times = array("q")
        self._starts = array("Q", [0])
        self._entries = array("Q")  # where each entry of the directory begins
        self._directory = 0
        self._end = b""
        self.size = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, name: bytes, size: int, modified: int) -> None:
        """Add a member; `modified` in seconds since the epoch."""
        self._names += name
        self._name_ends.append(len(self._names))
        self._sizes.append(size)
        self._times.append(modified)
        head = self.format.head_size(name, size, modified)
        self._starts.append(self._starts[-1] + head + size + self.format.padding(size))

    def seal(self) -> None:
        """Compute the directory. Nothing can be added afterwards."""
        at = self._directory = self._starts[-1]
        for index in range(len(self)):
            self._entries.append(at)
            at += self.format.entry_size(self.name(index), self._sizes[index], self._times[index], self._starts[index])
        self._entries.append(at)
        self._end = self.format.end(len(self), self._directory, at - self._directory)
        self.size = at + len(self._end)

    def name(self, index: int) -> bytes:
        """Return the name of a member."""
        return bytes(self._names[self._name_ends[index] : self._name_ends[index + 1]])

    def member_size(self, index: int) -> int:
        """Return the size of a member's content."""
        return self._sizes[index]

    def head(self, index: int, crc: int) -> bytes:
        """Return all that precedes the content of a member."""
        return self.format.head(self.name(index), self._sizes[index], self._times[index], crc)

    def entry(self, index: int, crc: int) -> bytes:
        """Return the entry of a member in the directory."""
        name, size, modified = self.name(index), self._sizes[index], self._times[index]
        return self.format.entry(name, size, modified, self._starts[index], crc)

    def entries(self, first: int, stop: int, crcs: Sequence[int]) -> bytes:
        """Return the entries of several members, from `first` to before `stop`; `crcs` are those of all members."""
        ends, entry = self._name_ends, self.format.entry
        names = self._names[ends[first] : ends[stop]]
        cuts = [end - ends[first] for end in ends[first : stop + 1]]
        columns = (self._sizes, self._times, self._starts, crcs)
        rows = zip(cuts, cuts[1:], *(column[first:stop] for column in columns), strict=False)
        return b"".join([entry(bytes(names[a:b]), *row) for a, b, *row in rows])

    @property
    def end(self) -> bytes:
        """Return what follows the directory."""
        return self._end

    def extent(self, index: int) -> tuple[int, int]:
        """Return where a member begins, its header and padding included, and its length."""
        begin = self._starts[index]
        return begin, self._starts[index + 1] - begin

    def whole_members(self, first: int, end: int) -> tuple[range, int, int]:
        """Return the members that are whole in [first, end), where the first begins, and where the last ends."""
        return _whole(self._starts, first, end)

    def whole_entries(self, first: int, end: int) -> tuple[range, int, int]:
        """Return of the entries in the directory what `whole_members` returns of members."""
        return _whole(self._entries, first, end)

    def stretches(self, first: int, length: int) -> Iterator[Stretch]:
        """Iterate over what the `length` bytes from `first` consist of, in order."""
        last = first + length
        if first < self._directory:
            yield from self._of_members(first, min(last, self._directory))
        if last > self._directory and len(self):
            start = max(first, self._directory)
            index = max(0, bisect_right(self._entries, start) - 1)
            while index < len(self) and self._entries[index] < last:
                begin, end = self._entries[index], self._entries[index + 1]
                if cut := _cut(begin, end, first, last):
                    yield Stretch(Origin.ENTRY, index, *cut)
                index += 1
        if cut := _cut(self._entries[-1], self.size, first, last):
            yield Stretch(Origin.END, 0, *cut)

    def _of_members(self, first: int, last: int) -> Iterator[Stretch]:
        index = bisect_right(self._starts, first) - 1
        while index < len(self) and self._starts[index] < last:
            begin, end, size = self._starts[index], self._starts[index + 1], self._sizes[index]
            content_end = end - self.format.padding(size)
            borders = (begin, content_end - size, content_end, end)
            if begin >= first and end <= last:  # most are sent whole
                yield Stretch(Origin.HEAD, index, 0, content_end - size - begin)
                if size:
                    yield Stretch(Origin.CONTENT, index, 0, size)
                if end > content_end:
                    yield Stretch(Origin.PADDING, index, 0, end - content_end)
                index += 1
                continue
            for origin in (Origin.HEAD, Origin.CONTENT, Origin.PADDING):
                if cut := _cut(borders[origin], borders[origin + 1], first, last):
                    yield Stretch(origin, index, *cut)
            index += 1


def _whole(borders: Sequence[int], first: int, end: int) -> tuple[range, int, int]:
    """Return which of the pieces between borders are whole in [first, end), and the borders around these."""
    begin, stop = bisect_left(borders, first), bisect_right(borders, end) - 1
    if stop <= begin or borders[stop] == borders[begin]:
        return range(0), first, first
    return range(begin, stop), borders[begin], borders[stop]


def _cut(begin: int, end: int, first: int, last: int) -> tuple[int, int] | None:
    """Return the part of [begin, end) that is in [first, last), as an offset from `begin` and a length."""
    start, stop = max(begin, first), min(end, last)
    return (start - begin, stop - start) if start < stop else None
