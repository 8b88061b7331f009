"""Parts that all decoders of request bodies share."""

from __future__ import annotations

from typing import Protocol


class BodyError(ValueError):
    """Error that says what is wrong with a body, and what would be right."""


class Decoder(Protocol):
    """Turns a body, in any split, into the bytes that it carries. Both methods raise `BodyError`."""

    def feed(self, data: bytes) -> bytes:
        """The next piece of the body."""
        ...

    def finish(self) -> bytes:
        """The body has ended."""
        ...
