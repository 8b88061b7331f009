"""Reads an archive part by part: bytes that are ready, and parts of open files."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from tornado_app import problems
from tornado_app.files.archives.plan import ArchivePlan
from tornado_app.files.store import powers
from tornado_app.files.store.interface import FileReader, FileStore
from tornado_app.files.store.optional_powers import OpensInOrder, OrderedOpener
from tornado_app.protocols.archives.layout import Origin, Stretch
from tornado_app.protocols.ranges import Multipart, Span

BATCH = 16 << 20
"""Bytes of a file that are one part at most."""
COPIED = 1 << 20
"""Bytes that are copied into one part, about."""
SMALL = 32 << 10
"""Up to so many bytes of a file are copied: to send them by a call of their own costs more."""
KEPT_FROM = 1 << 20
"""Bytes of a file from which its CRC-32 is kept by the store: to read a smaller one again costs no more."""
_PIECE = 1 << 20
_ENTRIES = 1000  # of the directory, that are made together


class ArchiveChangedError(Exception):
    """A member is not the version any more that the archive was planned with."""


class FilePart(NamedTuple):
    """Bytes of an open file."""

    fd: int
    offset: int
    size: int


Part = bytes | bytearray | FilePart


class ArchiveReader:
    """Reads the spans of one archive for one response. Blocks; one thread at a time, but for `stop`.

    With `zero_copy` most bytes are left in their files, else all are read.
    """

    def __init__(
        self,
        store: FileStore,
        plan: ArchivePlan,
        spans: Sequence[Span],
        framing: Multipart | None = None,
        *,
        zero_copy: bool,
    ) -> None:
        self._store = store
        self._plan = plan
        self._zero_copy = zero_copy
        self._opener = store.opener() if zero_copy and isinstance(store, OpensInOrder) else None
        self._parts = self._all(spans, framing)
        self._current: tuple[int, FileReader] | None = None
        self._data: tuple[int, bytes] | None = None  # the whole content of a small member, read for its CRC-32
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End a long read soon, because the client has gone."""
        self._stopped.set()

    def next_part(self) -> Part | None:
        """Return the next part, once the one before was sent: its file is closed then. None after the last part.

        Raises:
            ArchiveChangedError: a member is not what it was. Before the last part is returned all are verified.
        """
        return next(self._parts, None)

    def close(self) -> None:
        """Close what is open."""
        self._parts.close()
        self._drop()
        if self._opener is not None:
            self._opener.close()

    def _all(self, spans: Sequence[Span], framing: Multipart | None) -> Generator[Part]:
        for number, span in enumerate(spans):
            if framing is not None:
                yield framing.head(number)
            yield from self._span(span, is_last=framing is None and number == len(spans) - 1)
        if framing is not None:
            self._leave()
            yield framing.tail

    def _span(self, span: Span, *, is_last: bool) -> Iterator[Part]:
        first, end = span.first, span.first + span.length
        if self._opener is not None:
            members, begin, stop = self._plan.layout.whole_members(first, end)
            if is_last and stop == end and members:  # the last part is sent once all is verified
                members = members[:-1]
                stop -= self._plan.layout.extent(members.stop)[1]
            if members:
                yield from self._joined(first, begin - first)
                yield from self._whole_members(self._opener, members)
                first = stop
        entries, begin, stop = self._plan.layout.whole_entries(first, end)
        if stop < end and (crcs := self._plan.crcs(entries)) is not None:
            yield from self._joined(first, begin - first)
            for index in range(entries.start, entries.stop, _ENTRIES):
                yield self._plan.layout.entries(index, min(index + _ENTRIES, entries.stop), crcs)
            first = stop
        yield from self._joined(first, end - first, is_last=is_last)

    def _whole_members(self, opener: OrderedOpener, members: range) -> Iterator[Part]:
        """Give members that were opened before in the shortest way: nothing here is done twice, or for one alone."""
        plan, layout = self._plan, self._plan.layout
        data = bytearray()
        for index in members:
            stamp, crc = plan.stamp(index), plan.crc(index)
            opened = None if stamp is None or crc is None else opener.open(plan.name(index), stamp)
            if opened is None or crc is None:
                if data:
                    yield data
                yield from self._joined(*layout.extent(index))
                self._leave()
                data = bytearray()
                continue
            fd, state = opened
            try:
                data += layout.head(index, crc)
                size = layout.member_size(index)
                if size > SMALL:
                    yield data
                    data = bytearray()
                    yield FilePart(fd, 0, size)
                elif size:
                    content = os.pread(fd, size, 0)
                    if len(content) != size:
                        raise ArchiveChangedError
                    data += content
                if opener.changed(fd, state):
                    raise ArchiveChangedError
            finally:
                os.close(fd)
            if padding := layout.format.padding(size):
                data += bytes(padding)
            if len(data) >= COPIED:
                yield data
                data = bytearray()
        if data:
            yield data

    def _joined(self, first: int, length: int, *, is_last: bool = False) -> Iterator[Part]:
        """Give any part of the archive. What is copied is joined, so that it is sent together."""
        data = bytearray()
        for stretch in self._plan.layout.stretches(first, length):
            length -= stretch.length
            for part in self._stretch(stretch, ends=is_last and not length):
                if isinstance(part, FilePart):
                    if data:
                        yield data
                        data = bytearray()
                    yield part
                else:
                    data += part
                    if len(data) >= COPIED:
                        yield data
                        data = bytearray()
        if data:
            yield data

    def _stretch(self, piece: Stretch, *, ends: bool) -> Iterator[Part]:
        origin, index, first, count = piece
        if origin is Origin.CONTENT:
            yield from self._content(piece, ends=ends)
            return
        if origin is Origin.HEAD:
            whole = self._plan.layout.head(index, self._crc(index))
        elif origin is Origin.ENTRY:
            whole = self._plan.layout.entry(index, self._crc(index))
        elif origin is Origin.PADDING:
            whole = bytes(first + count)
        else:
            whole = self._plan.layout.end
        if ends:
            self._leave()
        yield whole[first : first + count]

    def _content(self, piece: Stretch, *, ends: bool) -> Iterator[Part]:
        _, index, first, count = piece
        if self._data is not None and self._data[0] == index:
            yield self._data[1][first : first + count]
            return
        reader = self._reader(index)
        fileno = getattr(reader, "fileno", None) if self._zero_copy and count > SMALL else None
        while count:
            part: Part
            if fileno is not None:
                taken = min(count, BATCH)
                part = FilePart(fileno(), first, taken)
            else:
                taken = min(count, _PIECE)
                part = reader.read(first, taken)
                if len(part) != taken:
                    raise ArchiveChangedError
            first, count = first + taken, count - taken
            if ends and not count and reader.changed():
                raise ArchiveChangedError
            yield part
        if ends:
            self._drop()
        else:
            self._leave()

    def _crc(self, index: int) -> int:
        """Return the CRC-32 of a member. What is not known yet is read for it."""
        plan = self._plan
        crc = plan.crc(index)
        if crc is not None:
            return crc
        reader, size = self._reader(index), plan.layout.member_size(index)
        if size <= SMALL:
            data = reader.read(0, size)
            if len(data) != size:
                raise ArchiveChangedError
            self._leave()
            self._data = index, data
            crc = zlib.crc32(data)
        else:
            crc = self._crc_of(reader, size)
        plan.set_crc(index, crc)
        return crc

    def _crc_of(self, reader: FileReader, size: int) -> int:
        kept = powers.kept_crc32(reader) if size >= KEPT_FROM else None
        if kept is not None:
            return kept
        crc = offset = 0
        while offset < size:
            data = reader.read(offset, min(_PIECE, size - offset))
            if not data or self._stopped.is_set():
                raise ArchiveChangedError
            crc = zlib.crc32(data, crc)
            offset += len(data)
        if reader.changed():
            raise ArchiveChangedError
        if size >= KEPT_FROM:
            powers.keep_crc32(reader, crc)
        return crc

    def _reader(self, index: int) -> FileReader:
        """Return a member, open; the one before it is closed."""
        if self._current is not None and self._current[0] == index:
            return self._current[1]
        self._leave()
        try:
            reader = self._store.open(self._plan.name(index))
        except problems.ProblemError:
            raise ArchiveChangedError from None
        self._current = index, reader
        if not self._plan.is_current(index, reader.stat):
            raise ArchiveChangedError
        self._plan.set_stamp(index, powers.stamp(reader))
        return reader

    def _leave(self) -> None:
        """Close the member that is open. Raises `ArchiveChangedError` if it was written to meanwhile."""
        if self._current is not None and self._current[1].changed():
            raise ArchiveChangedError
        self._drop()

    def _drop(self) -> None:
        if self._current is not None:
            self._current[1].close()
            self._current = None
