"""Reads an archive in batches, each in one call to a worker thread: bytes that are ready, and parts of open files."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tornado_app import problems
from tornado_app.files import readahead
from tornado_app.files.archives.plan import ArchivePlan
from tornado_app.files.store import powers
from tornado_app.files.store.interface import FileReader, FileStore
from tornado_app.files.store.optional_powers import OpensAtOnce
from tornado_app.protocols.archives.layout import Origin, Stretch
from tornado_app.protocols.ranges import Multipart, Span

BATCH = 16 << 20
"""Bytes of one batch at most."""
COPIED = 1 << 20
"""Bytes of one batch that are in memory, about: three batches are under way at once."""
FILES = 64
"""Files that one batch has open at most."""
SMALL = 32 << 10
"""Up to so many bytes of a file are copied: to send them by a call of their own costs more."""
KEPT_FROM = 1 << 20
"""Bytes of a file from which its CRC-32 is kept by the store: to read a smaller one again costs no more."""
_PIECE = 1 << 20


class ArchiveChangedError(Exception):
    """A member is not the version any more that the archive was planned with."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes of an open file that are in the page cache."""

    fd: int
    offset: int
    count: int


Part = bytearray | FilePart


@dataclass(slots=True)
class ArchiveBatch:
    """Parts of an archive, in order, and the files that can be closed once they were sent. `is_last`: none follows."""

    parts: list[Part] = field(default_factory=list)
    finished: list[FileReader] = field(default_factory=list)
    is_last: bool = False


class ArchiveReader:
    """Reads the spans of one archive for one response. Blocks; one thread at a time, but for `stop`.

    With `zero_copy` most bytes are left in their files, else all are read, `COPIED` in a batch.
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
        self._open_at_once = store.open_at_once if isinstance(store, OpensAtOnce) else None
        self._plan = plan
        self._zero_copy = zero_copy
        self._pieces = _pieces(plan, spans, framing)
        self._waiting: bytes | Stretch | None = None
        self._current: tuple[int, FileReader] | None = None
        self._is_in_parts = False  # parts with the descriptor of `_current` may still wait to be sent
        self._data: tuple[int, bytes] | None = None  # the whole content of a small member, read for its CRC-32
        self._open: set[FileReader] = set()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End a long read soon, because the client has gone."""
        self._stopped.set()

    def advance(self, sent: ArchiveBatch | None) -> ArchiveBatch:
        """Release a batch that was sent, and return the next one. Raises `ArchiveChangedError`."""
        if sent is not None:
            self.release(sent)
        batch = ArchiveBatch()
        size = copied = files = 0
        while (piece := self._next()) is not None:
            if size >= BATCH or copied >= COPIED or files >= FILES:
                self._waiting = piece
                return batch
            part = self._part(piece, min(BATCH - size, COPIED), batch)
            if isinstance(part, FilePart):
                size, files = size + part.count, files + 1
                batch.parts.append(part)
                continue
            size, copied = size + len(part), copied + len(part)
            if batch.parts and isinstance(batch.parts[-1], bytearray):
                batch.parts[-1] += part
            else:
                batch.parts.append(bytearray(part))
        self._leave(batch)
        batch.is_last = True
        return batch

    def release(self, batch: ArchiveBatch) -> None:
        """Close the files of a batch that was sent.

        Raises:
            ArchiveChangedError: one of them was written to meanwhile.
        """
        for reader in batch.finished:
            if reader in self._open:
                self._close(reader)

    def check(self) -> None:
        """Raise `ArchiveChangedError` if a file that is still open was written to."""
        if any(reader.changed() for reader in self._open):
            raise ArchiveChangedError

    def close(self) -> None:
        """Close what is open."""
        for reader in self._open:
            reader.close()
        self._open.clear()

    def _next(self) -> bytes | Stretch | None:
        piece, self._waiting = self._waiting, None
        return next(self._pieces, None) if piece is None else piece

    def _part(self, piece: bytes | Stretch, room: int, batch: ArchiveBatch) -> bytes | FilePart:
        if isinstance(piece, bytes):
            return piece
        origin, index, first, count = piece
        if origin is Origin.CONTENT:
            return self._content(piece, room, batch)
        if origin is Origin.HEAD:
            whole = self._plan.layout.head(index, self._crc(index, batch))
        elif origin is Origin.ENTRY:
            whole = self._plan.layout.entry(index, self._crc(index, batch))
        elif origin is Origin.PADDING:
            return bytes(count)
        else:
            whole = self._plan.layout.end
        return whole[first : first + count]

    def _content(self, piece: Stretch, room: int, batch: ArchiveBatch) -> bytes | FilePart:
        _, index, first, count = piece
        if self._data is not None and self._data[0] == index:
            return self._data[1][first : first + count]
        by_copy = not self._zero_copy or count <= SMALL
        reader = self._reader(index, batch, to_send=not by_copy)
        fileno = None if by_copy else getattr(reader, "fileno", None)  # isinstance with a protocol takes 5 us
        part: bytes | FilePart
        if fileno is not None:
            taken = min(count, BATCH)
            part = FilePart(fileno(), first, taken)
            self._is_in_parts = True
            readahead.bring_into_memory(part.fd, first, taken)
        else:
            by_copy = True
            taken = min(count, room)
            part = reader.read(first, taken)
            if len(part) != taken:
                raise ArchiveChangedError
        if taken < count:
            self._waiting = Stretch(Origin.CONTENT, index, first + taken, count - taken)
        elif self._is_in_parts:
            self._leave(batch)
        else:
            self._current = None
            self._close(reader)
        return part

    def _crc(self, index: int, batch: ArchiveBatch) -> int:
        """Return the CRC-32 of a member. What is not known yet is read for it."""
        plan = self._plan
        if not plan.layout.format.NEEDS_CRC:
            return 0
        crc = plan.crc(index)
        if crc is not None:
            return crc
        reader, size = self._reader(index, batch), plan.layout.member_size(index)
        if size <= SMALL:
            data = reader.read(0, size)
            if len(data) != size:
                raise ArchiveChangedError
            self._current = None
            self._close(reader)
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

    def _reader(self, index: int, batch: ArchiveBatch, *, to_send: bool = False) -> FileReader:
        """Return a member, open; the one before it is closed once its bytes were sent.

        `to_send`: its descriptor is needed alone, so that it may be opened in the quickest way.
        """
        if self._current is not None and self._current[0] == index:
            return self._current[1]
        self._leave(batch)
        try:
            name = self._plan.name(index)
            reader = self._open_at_once(name) if to_send and self._open_at_once is not None else None
            if reader is None:
                reader = self._store.open(name)
        except problems.ProblemError:
            raise ArchiveChangedError from None
        self._open.add(reader)
        if not self._plan.is_current(index, reader.stat):
            raise ArchiveChangedError
        self._current, self._is_in_parts = (index, reader), False
        return reader

    def _leave(self, batch: ArchiveBatch) -> None:
        if self._current is not None:
            batch.finished.append(self._current[1])
            self._current = None

    def _close(self, reader: FileReader) -> None:
        self._open.discard(reader)
        try:
            if reader.changed():
                raise ArchiveChangedError
        finally:
            reader.close()


def _pieces(plan: ArchivePlan, spans: Sequence[Span], framing: Multipart | None) -> Iterator[bytes | Stretch]:
    for index, span in enumerate(spans):
        if framing is not None:
            yield framing.head(index)
        yield from plan.layout.stretches(span.first, span.length)
    if framing is not None:
        yield framing.tail
