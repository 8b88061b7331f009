"""tus 1.0.0, the resumable upload protocol: its headers, read and written. Pure.

An ill-formed header raises `ValueError` that says what would be right.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Callable
from typing import Protocol

VERSION = "1.0.0"
MEDIA_TYPE = "application/offset+octet-stream"
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "termination",
    "concatenation",
    "concatenation-unfinished",
)
"""All but checksum-trailer: Tornado's parser refuses trailers."""

CREATING = ("Upload-Metadata", "Upload-Defer-Length", "Upload-Concat", "Upload-Checksum")
"""Headers that only tus has on a POST: without Tus-Resumable it is refused."""

_COUNT = re.compile(r"[0-9]{1,18}")
_KEY = re.compile(r"[^\s,]+")


class Hash(Protocol):
    """A running checksum."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc32:
    """CRC-32 with the interface of hashlib: four octets in network order."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        """Add the next bytes."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """Return four octets."""
        return self._value.to_bytes(4, "big")


def _md5() -> Hash:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> Hash:
    return hashlib.sha1(usedforsecurity=False)


CHECKSUMS: dict[str, tuple[Callable[[], Hash], int]] = {
    "sha1": (_sha1, 20),
    "sha256": (hashlib.sha256, 32),
    "md5": (_md5, 16),
    "crc32": (Crc32, 4),
}
"""Constructor and length in octets, by the name in Upload-Checksum."""


def count(name: str, value: str) -> int:
    """Return a header as a non-negative integer. Raises `ValueError`."""
    if not _COUNT.fullmatch(value):
        raise ValueError(f"{name} must be a whole number from 0, not {value[:40]!r}")
    return int(value)


def metadata(field: str) -> dict[str, bytes]:
    """Return Upload-Metadata: unique keys with base64 values, which may be left out. Raises `ValueError`."""
    found: dict[str, bytes] = {}
    for pair in field.split(","):
        key, _, value = pair.strip(" ").partition(" ")
        if not _KEY.fullmatch(key):
            raise ValueError("Upload-Metadata must be pairs KEY BASE64 with commas between. A key is missing")
        if key in found:
            raise ValueError(f"Upload-Metadata has the key {key[:40]!r} twice")
        try:
            found[key] = base64.b64decode(value, validate=True)
        except binascii.Error:
            raise ValueError(f"Upload-Metadata: the value of {key[:40]!r} is not base64") from None
    return found


def checksum(field: str) -> tuple[str, bytes]:
    """Return Upload-Checksum: an algorithm of `CHECKSUMS` and the digest. Raises `ValueError`."""
    algorithm, _, coded = field.strip(" ").partition(" ")
    if algorithm not in CHECKSUMS:
        raise ValueError(f"Upload-Checksum: {algorithm[:40]!r} is not known here; known are {', '.join(CHECKSUMS)}")
    try:
        digest = base64.b64decode(coded, validate=True)
    except binascii.Error:
        raise ValueError("Upload-Checksum must be ALGORITHM BASE64") from None
    if len(digest) != CHECKSUMS[algorithm][1]:
        raise ValueError(f"Upload-Checksum: {algorithm} has {CHECKSUMS[algorithm][1]} octets, not {len(digest)}")
    return algorithm, digest


def concat(field: str) -> list[str] | None:
    """Return the URLs of Upload-Concat for a final upload; None for a partial one. Raises `ValueError`."""
    field = field.strip(" ")
    if field == "partial":
        return None
    kind, semicolon, urls = field.partition(";")
    if kind != "final" or not semicolon or not urls.split():
        raise ValueError('Upload-Concat must be "partial", or "final;" and the URLs of partial uploads')
    return urls.split()
