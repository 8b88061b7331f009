"""Proof of a server's identity: its key in the data directory, with which it signs a caller's nonce."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode

KEY_FILE = "identity-key"
_PURPOSE = b"holdfast identity v1\0"


def proof(key: str, nonce: str) -> str:
    """Return the proof for a nonce: HMAC-SHA-256, as base64url without padding."""
    digest = hmac.digest(key.encode(), _PURPOSE + nonce.encode("ascii"), hashlib.sha256)
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
