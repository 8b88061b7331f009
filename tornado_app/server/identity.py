"""Identity of a server: a key of its own in the data directory, with which it signs a caller's nonce."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode

from holdfast.wire import Identity

KEY_FILE = "identity-key"
_PURPOSE = b"holdfast identity v1\0"


class ServerIdentity:
    """Key of a data directory, and id of the running server on it."""

    def __init__(self, key: str, instance: str) -> None:
        """`key` is the secret in `KEY_FILE`, which outlives a restart; `instance` does not."""
        self.instance = instance
        self._key = key.encode()

    def prove(self, nonce: str) -> Identity:
        """Return the proof for a nonce: HMAC-SHA-256, as base64url without padding."""
        proof = hmac.digest(self._key, _PURPOSE + nonce.encode("ascii"), hashlib.sha256)
        return Identity(self.instance, urlsafe_b64encode(proof).rstrip(b"=").decode())
