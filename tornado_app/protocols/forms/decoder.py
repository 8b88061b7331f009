"""Parts that all decoders of request bodies share."""

from __future__ import annotations

from typing import Protocol


class BodyError(ValueError):
    """Error that says what is wrong with a body, and what would be right."""


class Decoder(Protocol):
    """Turns a body, in any split, into the bytes that it carries. Both methods raise `BodyError`."""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that the next piece of the body carries."""
        ...

    def finish(self) -> bytes:
        """Return the remaining bytes, once the body has ended."""
        ...
