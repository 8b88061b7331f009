"""Digests that a sender gives: for the bytes of one request, checked as they arrive, and for the whole file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol

from holdfast.digests import AVAILABLE
from tornado_app import problems
from tornado_app.files.store.interface import Piece
from tornado_app.problems import Kind
from tornado_app.protocols import digests


def given_block_digest(field: str | None) -> dict[str, bytes]:
    """Return the digest in a Block-Digest field by its algorithm; none where BLAKE3 is missing. Raises BAD_REQUEST."""
    found = {} if field is None else digests.read_block(field)
    if found is None:
        raise problems.BAD_REQUEST(
            f"Block-Digest can't be read: {(field or '')[:100]!r}. Write it as {digests.BLOCK_ALGORITHM}=:BASE64:"
        )
    return found if AVAILABLE else {}


class Check(Protocol):
    """A digest that the sender gave for the bytes of one request."""

    def update(self, data: Piece) -> None:
        """Add the next bytes; called in a worker thread."""
        ...

    def verify(self) -> None:
        """Raise a `ProblemError` when the bytes are not the ones that were sent."""
        ...


class DigestCheck:
    """A `Check` of one or more digests, by hashlib name; all have to match. `mismatch` is raised if not."""

    def __init__(self, expected: Mapping[str, bytes], mismatch: Kind = problems.DIGEST_MISMATCH) -> None:
        self._expected = dict(expected)
        self._running = {name: hashlib.new(name, usedforsecurity=False) for name in expected}
        self._mismatch = mismatch

    def update(self, data: Piece) -> None:
        """Add the next bytes."""
        for running in self._running.values():
            running.update(data)

    def verify(self) -> None:
        """Raise `mismatch`, with both digests as hex."""
        for name, running in self._running.items():
            if running.digest() != self._expected[name]:
                raise self._mismatch(
                    f"the {name} of what came is {running.hexdigest()}, not {self._expected[name].hex()}. "
                    "Send it again: nothing of it was kept"
                )
