"""The certificates that this machine trusts, which the run takes out of the environment (`tests/conftest.py`)."""

from __future__ import annotations

import os

NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
CERTIFICATES: dict[str, str] = {}


def environment() -> dict[str, str]:
    """Return the environment for a program that needs the network: one that installs packages."""
    return {name: value for name, value in os.environ.items() if name not in NAMES} | CERTIFICATES
