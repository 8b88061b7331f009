"""Tar archives in the pax interchange format (POSIX.1-2001): ustar headers, and records for what does not fit there."""

from __future__ import annotations

SUFFIX = ".tar"
MEDIA_TYPE = "application/x-tar"
NEEDS_CRC = False

BLOCK = 512
_MAX_SIZE = 8**11 - 1
_NAME, _PREFIX = 100, 155
_OWNER = b"0000000\0"


def head_size(name: bytes, size: int, modified: int) -> int:
    """Return the length of all that precedes the content of a member."""
    if len(name) <= _NAME and size <= _MAX_SIZE and 0 <= modified <= _MAX_SIZE and name.isascii():
        return BLOCK
    return len(head(name, size, modified, 0))


def head(name: bytes, size: int, modified: int, crc: int) -> bytes:
    """Return the header of a member, and before it that of its pax records if it needs any; `crc` is not used."""
    place = _split(name)
    records = []
    if place is None or not name.isascii():  # the header has no way to say which encoding its name is in
        records.append(_record("path", name))
    if size > _MAX_SIZE:
        records.append(_record("size", b"%d" % size))
    if not 0 <= modified <= _MAX_SIZE:
        records.append(_record("mtime", b"%d" % modified))
    header = _header(*(place or (name[:_NAME], b"")), min(size, _MAX_SIZE), max(0, min(modified, _MAX_SIZE)), b"0")
    if not records:
        return header
    pax = b"".join(records)
    pax_header = _header(b"PaxHeaders/" + name[: _NAME - 11], b"", len(pax), 0, b"x")
    return pax_header + pax + bytes(padding(len(pax))) + header


def padding(size: int) -> int:
    """Return how many bytes follow the content of a member."""
    return -size % BLOCK


def entry_size(name: bytes, size: int, modified: int, offset: int) -> int:
    """Return 0: a tar archive has no directory."""
    return 0


def entry(name: bytes, size: int, modified: int, offset: int, crc: int) -> bytes:
    """Return nothing: a tar archive has no directory."""
    return b""


def end(count: int, offset: int, size: int) -> bytes:
    """Return the two zero blocks that end the archive."""
    return bytes(2 * BLOCK)


def _header(name: bytes, prefix: bytes, size: int, modified: int, kind: bytes) -> bytes:
    before = name.ljust(_NAME, b"\0") + b"0000644\0" + _OWNER + _OWNER + b"%011o\0%011o\0" % (size, modified)
    numbers = b"0000000\0" * 2
    after = kind + bytes(100) + b"ustar\00000" + bytes(64) + numbers + prefix.ljust(_PREFIX, b"\0") + bytes(12)
    return before + b"%06o\0 " % (sum(before) + sum(after) + 8 * ord(" ")) + after


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Return a name as the fields `name` and `prefix`, which a slash joins; None if it does not fit into them."""
    if len(name) <= _NAME:
        return name, b""
    slash = name.find(b"/", len(name) - _NAME - 1)
    if slash < 0 or slash > _PREFIX or slash == len(name) - 1:
        return None
    return name[slash + 1 :], name[:slash]


def _record(key: str, value: bytes) -> bytes:
    """Return one pax record; its length counts its own digits."""
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:
        length += 1
    return b"%d" % length + rest
