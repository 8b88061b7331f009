"""Stored zip archives (APPNOTE.TXT 6.3.10): every size is known from names and sizes, before any CRC-32 is.

Local headers carry the CRC-32 and the size, so that no data descriptors are needed: several programs refuse stored
members that have one. ZIP64 where a number needs it, UTF-8 names, times in UTC (extra field 0x5455, "UT").
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from functools import lru_cache

SUFFIX = ".zip"
MEDIA_TYPE = "application/zip"
NEEDS_CRC = True

_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_SIZES64 = struct.Struct("<2H2Q")
_TIME = struct.Struct("<2HBi")

_STORED = 0
_UTF8 = 0x800
_NEEDS, _NEEDS_64 = 10, 45
_UNIX = 3 << 8
_MODE = 0o100644 << 16
_FIRST_TIME, _LAST_TIME = 315532800, 4354819199  # 1980 and 2107: all that the format's own field can say
_MAX_UT = 0x7FFFFFFF


def head_size(name: bytes, size: int, modified: int) -> int:
    """Return the length of the local header of a member."""
    return _LOCAL.size + len(name) + (_SIZES64.size if size >= _MAX32 else 0) + _time_size(modified)


def head(name: bytes, size: int, modified: int, crc: int) -> bytes:
    """Return the local header of a member; `modified` in seconds since the epoch."""
    if size < _MAX32 and 0 <= modified <= _MAX_UT:  # almost all
        time, date = _dos_time(modified)
        flags, length = 0 if name.isascii() else _UTF8, len(name)
        fixed = _LOCAL.pack(b"PK\3\4", _NEEDS, flags, _STORED, time, date, crc, size, size, length, _TIME.size)
        return fixed + name + _TIME.pack(0x5455, 5, 1, modified)
    extra = _local_extra(size, modified)
    time, date = _dos_time(modified)
    short = min(size, _MAX32)
    fields = (b"PK\3\4", _needs(size), _flags(name), _STORED, time, date, crc, short, short, len(name), len(extra))
    return _LOCAL.pack(*fields) + name + extra


def padding(size: int) -> int:
    """Return how many bytes follow the content of a member."""
    return 0


def entry_size(name: bytes, size: int, modified: int, offset: int) -> int:
    """Return the length of the member's entry in the central directory."""
    numbers = (2 if size >= _MAX32 else 0) + (offset >= _MAX32)
    return _CENTRAL.size + len(name) + (4 + 8 * numbers if numbers else 0) + _time_size(modified)


def entry(name: bytes, size: int, modified: int, offset: int, crc: int) -> bytes:
    """Return the member's entry in the central directory; its local header is at `offset`."""
    if size < _MAX32 and offset < _MAX32 and 0 <= modified <= _MAX_UT:  # almost all
        time, date = _dos_time(modified)
        flags, length = 0 if name.isascii() else _UTF8, len(name)
        numbers = (_STORED, time, date, crc, size, size, length, _TIME.size, 0, 0, 0, _MODE, offset)
        fixed = _CENTRAL.pack(b"PK\1\2", _UNIX | _NEEDS_64, _NEEDS, flags, *numbers)
        return fixed + name + _TIME.pack(0x5455, 5, 1, modified)
    extra = _central_extra(size, modified, offset)
    time, date = _dos_time(modified)
    short = min(size, _MAX32)
    needs = _NEEDS_64 if offset >= _MAX32 else _needs(size)
    made_by = _UNIX | _NEEDS_64
    fields = (b"PK\1\2", made_by, needs, _flags(name), _STORED, time, date, crc, short, short, len(name), len(extra))
    return _CENTRAL.pack(*fields, 0, 0, 0, _MODE, min(offset, _MAX32)) + name + extra


def end(count: int, offset: int, size: int) -> bytes:
    """Return what follows the central directory, which has `count` entries in `size` bytes from `offset`."""
    short = min(count, _MAX16)
    last = _END.pack(b"PK\5\6", 0, 0, short, short, min(size, _MAX32), min(offset, _MAX32), 0)
    if count < _MAX16 and size < _MAX32 and offset < _MAX32:
        return last
    fields = (_END64.size - 12, _UNIX | _NEEDS_64, _NEEDS_64, 0, 0, count, count, size, offset)
    return _END64.pack(b"PK\6\6", *fields) + _LOCATOR64.pack(b"PK\6\7", 0, offset + size, 1) + last


def _needs(size: int) -> int:
    return _NEEDS_64 if size >= _MAX32 else _NEEDS


def _flags(name: bytes) -> int:
    return 0 if name.isascii() else _UTF8


def _local_extra(size: int, modified: int) -> bytes:
    sizes = _SIZES64.pack(1, 16, size, size) if size >= _MAX32 else b""
    return sizes + _unix_time(modified)


def _central_extra(size: int, modified: int, offset: int) -> bytes:
    numbers = (size, size) if size >= _MAX32 else ()
    if offset >= _MAX32:
        numbers = (*numbers, offset)
    wide = struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""
    return wide + _unix_time(modified)


def _time_size(modified: int) -> int:
    return _TIME.size if 0 <= modified <= _MAX_UT else 0


def _unix_time(modified: int) -> bytes:
    return _TIME.pack(0x5455, 5, 1, modified) if 0 <= modified <= _MAX_UT else b""


@lru_cache(maxsize=4096)
def _dos_time(modified: int) -> tuple[int, int]:
    """Return time and date in the format's own fields, in UTC, to two seconds."""
    at = datetime.fromtimestamp(max(_FIRST_TIME, min(modified, _LAST_TIME)), UTC)
    return at.hour << 11 | at.minute << 5 | at.second // 2, (at.year - 1980) << 9 | at.month << 5 | at.day
