"""The boot of this machine: what an earlier one wrote may have been lost in a power cut."""

from __future__ import annotations

import secrets
from pathlib import Path

BOOT_FILE = "boot"
"""Beside staged bytes: the boot in which the digests of their blocks were written."""


def _boot() -> bytes:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:  # no Linux: then only this process knows what it has written
        return secrets.token_hex(16).encode()


BOOT = _boot()
"""Name of this boot, or of this process where boots have no names."""
