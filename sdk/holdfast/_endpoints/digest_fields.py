"""Header fields with digests of files (RFC 9530), as hex."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from holdfast.digests import ALGORITHM

_VALUE = r"(?:^|[\s,]){}=:([A-Za-z0-9+/]{{43}}=):"


def sha256_of(headers: Mapping[str, str]) -> str | None:
    """Return the SHA-256 of `Repr-Digest`; None if it is not known."""
    return _read("sha-256", headers.get("repr-digest", ""))


def block_digest_of(headers: Mapping[str, str]) -> str | None:
    """Return the digest of `Block-Digest` (see `holdfast.digests`); None if it is not known."""
    return _read(ALGORITHM, headers.get("block-digest", ""))


def _read(algorithm: str, field: str) -> str | None:
    match = re.search(_VALUE.format(algorithm), field)
    return base64.b64decode(match[1]).hex() if match else None


def block_digest_field(digest: bytes | None) -> str | None:
    """Return the value of `Block-Digest` for a file; None for none."""
    return None if digest is None else f"{ALGORITHM}=:{base64.b64encode(digest).decode()}:"


def wants_blocks(headers: Mapping[str, str]) -> bool:
    """Return whether `Want-Block-Digest` asks for digests that this side computes."""
    return re.search(rf"(?:^|[\s,]){ALGORITHM}=[1-9]", headers.get("want-block-digest", "")) is not None
