"""Tar archives of small files: headers to write, and a parser that keeps no more than one member. No I/O."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator

BLOCK = 512
END = bytes(2 * BLOCK)
_NAME = 100  # bytes of a name in a header
_BEFORE_SIZE = b"0000644\0" + 2 * b"0000000\0"
_AFTER_SIZE = b"%011o\0" % 0
_AFTER_SUM = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
_SUM = sum(_BEFORE_SIZE) + sum(_AFTER_SIZE) + sum(_AFTER_SUM) + 8 * ord(" ")


def head(name: str, size: int) -> bytes:
    """Return the header of a regular file."""
    raw = name.encode()
    if len(raw) > _NAME or not raw.isascii():
        member = tarfile.TarInfo(name)
        member.size = size
        return member.tobuf(tarfile.PAX_FORMAT)
    digits = b"%011o\0" % size
    checksum = b"%06o\0 " % (_SUM + sum(raw) + sum(digits))
    return raw.ljust(_NAME, b"\0") + _BEFORE_SIZE + digits + _AFTER_SIZE + checksum + _AFTER_SUM


def padding(size: int) -> bytes:
    """Return the bytes that follow the content of a file."""
    return bytes(-size % BLOCK)


class UnreadableTarError(ValueError):
    """The bytes are no tar archive as a Holdfast server makes it."""


_MOST_RECORDS = 1 << 20  # bytes of pax records, which are kept in memory


class TarParser:
    """Parser of the pax archives that a server makes: `feed` it from the start, or from the start of a member.

    `wants` is asked by name and size whether the content of a member is to be kept. `offset` is where the next member
    begins; `skip` is how many bytes before that are still to come and not needed.
    """

    def __init__(self, wants: Callable[[str, int], bool], offset: int = 0) -> None:
        self.offset = offset
        self.ended = False
        self.skip = 0
        self._wants = wants
        self._buffer = bytearray()
        self._long_name = b""
        self._begun = offset  # where the header of the next member, and the records before it, begin

    @property
    def resume_at(self) -> int:
        """Return the offset from which another parser can go on after the members that were returned."""
        return self._begun

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[str, bytes]]:
        """Iterate over name and content of the wanted members that are whole."""
        if self.skip:
            count = min(self.skip, len(data))
            self.skip -= count
            data = memoryview(data)[count:]
        self._buffer += data
        buffer, at = self._buffer, 0
        while not self.skip and not self.ended and len(buffer) - at >= BLOCK:
            header = self._header(bytes(buffer[at : at + BLOCK]))
            if header is None:
                self.ended = True
                break
            name, size, kind = header
            whole = BLOCK + size + -size % BLOCK
            if kind == b"x" or self._wants(name, size):
                if len(buffer) - at < whole:
                    break
                content = bytes(buffer[at + BLOCK : at + BLOCK + size])
                at += whole
                self.offset += whole
                if kind == b"x":
                    self._long_name = _path(content)
                    continue
                self._begun, self._long_name = self.offset, b""
                yield name, content
            else:
                self.offset += whole
                self._begun, self._long_name = self.offset, b""
                have = min(whole, len(buffer) - at)
                at += have
                self.skip = whole - have
        del buffer[:at]

    def _header(self, head: bytes) -> tuple[str, int, bytes] | None:
        """Return name, size and type of a member; None at the end of the archive."""
        if head == END[:BLOCK]:
            return None
        kind = head[156:157]
        if head[257:262] != b"ustar" or kind not in (b"0", b"x"):
            raise UnreadableTarError(f"the server sends a tar with a member of the type {kind!r}")
        try:
            size = int(head[124:135], 8)
            name = (self._long_name or _name(head)).decode() if kind == b"0" else ""
        except ValueError as error:
            raise UnreadableTarError(f"the server sends a tar with a header that can't be read: {error}") from None
        if kind == b"x" and size > _MOST_RECORDS:
            raise UnreadableTarError(f"the server sends a tar with {size} bytes of pax records")
        return name, size, kind


def _name(head: bytes) -> bytes:
    name, prefix = head[:_NAME].rstrip(b"\0"), head[345:500].rstrip(b"\0")
    return prefix + b"/" + name if prefix else name


def _path(records: bytes) -> bytes:
    """Return the path in pax records; raise for a size, which only files have that are not small."""
    found, at = b"", 0
    while at < len(records):
        length, _, _ = records[at : at + 20].partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(records) - at:
            raise UnreadableTarError("the server sends a tar with pax records that can't be read")
        record = records[at : at + int(length)]
        key, _, value = record[len(length) + 1 : -1].partition(b"=")
        if key == b"path":
            found = value
        elif key == b"size":
            raise UnreadableTarError("a file is larger than a header can say")
        at += int(length)
    return found
