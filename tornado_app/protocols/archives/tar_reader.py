"""Tar archives read as they arrive: ustar, GNU and pax, in memory that does not depend on their members. No I/O.

Follows POSIX.1-2017 ("pax Interchange Format") and the GNU extensions for long names, large numbers and sparse files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = 512
MOST_RECORDS = 1 << 20
"""Bytes of pax records, or of a long name, that one member may have."""

_ZEROS = bytes(BLOCK)
_CHECKSUM = slice(148, 156)
_LARGEST = 1 << 62
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
}
_NO_CONTENT = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
}
_NOT_A_FILE = {b"S": "a sparse file", b"M": "a part of a file of several volumes"}
_SKIPPED = b"gV"  # records for all members, and the label of a volume: neither is a member
_FILES = b"0\0" + b"7"
_FOLDERS = (b"5", b"D")


class TarError(ValueError):
    """The bytes are no tar archive, or end too early. Members that were whole before stay valid."""


class OtherFormatError(TarError):
    """The bytes are of another format, named by `found`."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the body is {found}, not a tar archive")
        self.found = found


@dataclass(frozen=True, slots=True)
class TarMember:
    """Header of one member. `refused` says what it is instead of a regular file or folder; "" for these."""

    name: bytes
    size: int
    is_folder: bool = False
    refused: str = ""


class MemberEnd:
    """Event: the content of the member is whole."""


MEMBER_END = MemberEnd()
Event = TarMember | memoryview | MemberEnd


class TarReader:
    """Parser of one archive: `feed` it as bytes arrive, then `finish`.

    Events are, for each regular file, its `TarMember`, its content in pieces and `MEMBER_END`; for any other member
    the `TarMember` alone. Pieces are views of what was fed.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0  # bytes of content that are still to come
        self._padding = 0
        self._records: bytearray | None = None  # content that is collected: pax records or a long name
        self._kind = b""
        self._member: TarMember | None = None  # the regular file whose content comes
        self._pax: dict[bytes, bytes] = {}
        self._long_name: bytes | None = None
        self._has_more_sparse = False
        self._begun = False
        self._zero_blocks = 0

    @property
    def current(self) -> bytes | None:
        """Return the name of the regular file whose content is not whole yet."""
        return None if self._member is None else self._member.name

    def feed(self, data: bytes | memoryview) -> Iterator[Event]:
        """Iterate over the events in the next bytes. Raises `TarError`."""
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end:
            if self._left and not self._has_more_sparse:
                count = min(self._left, end - at)
                if self._member is not None:
                    yield view[at : at + count]
                elif self._records is not None:
                    self._records += view[at : at + count]
                at += count
                self._left -= count
                if not self._left:
                    yield from self._content_ended()
            elif self._padding and not self._has_more_sparse:
                count = min(self._padding, end - at)
                at += count
                self._padding -= count
            elif not self._head and end - at >= BLOCK:
                yield from self._block(bytes(view[at : at + BLOCK]))
                at += BLOCK
            else:
                count = min(BLOCK - len(self._head), end - at)
                self._head += view[at : at + count]
                at += count
                if len(self._head) == BLOCK:
                    block = bytes(self._head)
                    self._head.clear()
                    yield from self._block(block)

    def finish(self) -> None:
        """Check that the archive is whole. Raises `TarError`."""
        if not self._begun:
            _check_format(self._head)
        if self._member is not None:
            raise TarError(f"the archive ends within {in_words(self._member.name)}")
        if self._head or self._left or self._padding:
            raise TarError("the archive ends within a header" if self._begun else "the body is no tar archive")
        if not self._zero_blocks:
            raise TarError("the archive ends without its end marker, two blocks of zeros: what made it was cut off")

    def _block(self, block: bytes) -> Iterator[Event]:
        if self._has_more_sparse:
            self._has_more_sparse = block[504] != 0
            return
        if block == _ZEROS:
            self._begun = True
            self._zero_blocks += 1
            return
        if self._zero_blocks:
            raise TarError("there are bytes after the end marker of the archive")
        if not _has_checksum(block):
            if not self._begun:
                _check_format(block)
                raise TarError("the body is no tar archive: its first header has a wrong checksum")
            raise TarError("a header has a wrong checksum")
        self._begun = True
        yield from self._header(block)

    def _header(self, block: bytes) -> Iterator[Event]:
        kind, size = block[156:157], _number(block[124:136], "size")
        if kind in b"xX" or kind == b"L":
            if size > MOST_RECORDS:
                raise TarError(f"a member has {size} bytes of records or name; {MOST_RECORDS} are read")
            self._begin_content(kind, size, bytearray())
            return
        if kind in _SKIPPED or kind == b"K":
            self._begin_content(kind, size, None)
            return
        pax, long_name = self._pax, self._long_name
        self._pax, self._long_name = {}, None
        if b"size" in pax:
            size = _decimal(pax[b"size"])
        name = pax.get(b"path") or long_name or _name(block)
        refused = ""
        if kind in _NO_CONTENT:
            yield TarMember(name, 0, refused=_NO_CONTENT[kind])
            return
        if kind in _FOLDERS or (kind in _FILES and name.endswith(b"/")):
            yield TarMember(name, 0, is_folder=True)
            self._begin_content(kind, size if kind == b"D" else 0, None)
            return
        if any(key.startswith(b"GNU.sparse") for key in pax):
            name, refused = pax.get(b"GNU.sparse.name", name), "a sparse file"
        elif kind not in _FILES:
            refused = _NOT_A_FILE.get(kind, f"of the unknown type {in_words(kind)}")
            self._has_more_sparse = kind == b"S" and block[482] != 0
        member = TarMember(name, size, refused=refused)
        yield member
        self._member = None if refused else member
        self._begin_content(kind, size, None)
        if not size:
            yield from self._content_ended()

    def _begin_content(self, kind: bytes, size: int, records: bytearray | None) -> None:
        self._kind, self._left, self._padding, self._records = kind, size, -size % BLOCK, records
        if records is not None and not size:
            self._records = None

    def _content_ended(self) -> Iterator[Event]:
        if self._member is not None:
            self._member = None
            yield MEMBER_END
        elif self._records is not None:
            records, self._records = bytes(self._records), None
            if self._kind == b"L":
                self._long_name = records.partition(b"\0")[0]
            else:
                self._pax.update(_read_records(records))
                if sum(map(len, self._pax.values())) + sum(map(len, self._pax)) > MOST_RECORDS:
                    raise TarError(f"a member has more than {MOST_RECORDS} bytes of records; {MOST_RECORDS} are read")


def in_words(name: bytes) -> str:
    """Return a name of any bytes as text for people."""
    return repr(name.decode("utf-8", "backslashreplace")[:200])


def _check_format(start: bytes | bytearray) -> None:
    """Raise `OtherFormatError` for the beginning of another known format."""
    for magic, found in _MAGIC.items():
        if start.startswith(magic):
            raise OtherFormatError(found)
    if not start:
        raise TarError("the body is empty, not a tar archive")


def _has_checksum(block: bytes) -> bool:
    try:
        given = _number(block[_CHECKSUM], "checksum")
    except TarError:
        return False
    plain = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
    if given == plain:
        return True
    # Some old programs summed signed bytes.
    return given == plain - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def _number(field: bytes, what: str) -> int:
    """Return a number in octal digits, or in GNU's base 256 for large ones."""
    if field[0] & 0x80:
        number = int.from_bytes(field, "big", signed=False) - (0x80 << 8 * (len(field) - 1))
    else:
        digits = field.strip(b" \0").partition(b"\0")[0].strip()
        if digits.strip(b"01234567"):
            raise TarError(f"a header has a {what} that is no number")
        number = int(digits or b"0", 8)
    if not 0 <= number < _LARGEST:
        raise TarError(f"a header has a {what} that no file can have")
    return number


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise TarError("a pax record has a size that is no number")
    return int(text)


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _read_records(records: bytes) -> dict[bytes, bytes]:
    """Return pax records: each is its length in decimal, a space, key=value and a line break."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(records):
        space = records.find(b" ", at, at + 20)
        digits = records[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = records[space + 1 : end - 1].partition(b"=")
        if end <= space or end > len(records) or records[end - 1 : end] != b"\n" or not equals:
            raise TarError("a pax record can't be read")
        found[key] = value
        at = end
    return found
