"""Digest fields: Content-Digest, Repr-Digest and what a client wants (RFC 9530), and Block-Digest.

`Block-Digest: blake3-1m=:BASE64:` is the block digest of a whole file, as `holdfast.digests` defines it; it has the
syntax of Repr-Digest. `Want-Block-Digest: blake3-1m=10` asks for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from holdfast import digests as block_digests
from tornado_app.protocols import structured_fields

BLOCK_ALGORITHM = block_digests.ALGORITHM
"""The name of the block digest in Block-Digest."""

LENGTHS: Mapping[str, int] = {"sha-256": 32, "sha-512": 64}
"""The active algorithms of the registry (section 7.2) and the octets of their digests."""

HASHLIB: Mapping[str, str] = {"sha-256": "sha256", "sha-512": "sha512"}
"""The names that hashlib has for them."""

WANT_BLOCK = f"{BLOCK_ALGORITHM}=10"
"""Want-Block-Digest of a server that verifies uploads by block digests."""


def write(algorithm: str, digest: bytes) -> str:
    """A Content-Digest or Repr-Digest field with one digest."""
    return f"{algorithm}={structured_fields.write_bytes(digest)}"


def read(field: str) -> dict[str, bytes] | None:
    """The digests in a Content-Digest or Repr-Digest whose algorithms can be checked here.

    None when the field is ill-formed: not a dictionary of byte sequences, or a digest of the wrong length. Algorithms
    that are unknown or no longer safe are left out (section 2: a recipient may ignore any digest).
    """
    return _read(field, LENGTHS)


def write_block(digest: bytes) -> str:
    """A Block-Digest field."""
    return write(BLOCK_ALGORITHM, digest)


def read_block(field: str) -> dict[str, bytes] | None:
    """The digest in a Block-Digest field, by its algorithm. None when the field is ill-formed; see `read`."""
    return _read(field, {BLOCK_ALGORITHM: block_digests.SIZE})


def _read(field: str, lengths: Mapping[str, int]) -> dict[str, bytes] | None:
    dictionary = structured_fields.parse_dictionary(field)
    if dictionary is None:
        return None
    found: dict[str, bytes] = {}
    for algorithm, (value, _) in dictionary.items():
        if not isinstance(value, bytes):
            return None
        if algorithm in lengths:
            if len(value) != lengths[algorithm]:
                return None
            found[algorithm] = value
    return found


def preference(field: str | None, algorithm: str) -> int:
    """The preference for an algorithm in a Want-Repr-Digest field, 0 to 10; 0 as well when the field names none."""
    wanted = structured_fields.parse_dictionary(field) if field else None
    value, _ = (wanted or {}).get(algorithm, (0, None))
    return value if type(value) is int and 0 <= value <= 10 else 0


def preferred(field: str | None, available: Collection[str]) -> str | None:
    """The algorithm to answer with, by a Want-Repr-Digest or Want-Content-Digest field (section 4).

    Of those `available` the one with the greatest preference; 0 means "not acceptable". Without a field, or with one
    that is ill-formed or names none that is available, the first that was not refused.
    """
    wanted = structured_fields.parse_dictionary(field) if field else None
    preferences = {
        algorithm: value for algorithm, (value, _) in (wanted or {}).items() if type(value) is int and 0 <= value <= 10
    }
    acceptable = [algorithm for algorithm in available if preferences.get(algorithm) != 0]
    return max(acceptable, key=lambda algorithm: preferences.get(algorithm, 0), default=None)
