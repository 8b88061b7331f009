"""Identity of a server: a key of its own in the data directory, with which it signs a caller's nonce."""

from __future__ import annotations

from holdfast._environment.identity import proof
from holdfast.wire import Identity


class ServerIdentity:
    """Key of a data directory, and id of the running server on it."""

    def __init__(self, key: str, instance: str) -> None:
        """`key` is the secret in `KEY_FILE`, which outlives a restart; `instance` does not."""
        self.instance = instance
        self._key = key

    def prove(self, nonce: str) -> Identity:
        """Return the proof for a nonce."""
        return Identity(self.instance, proof(self._key, nonce))
