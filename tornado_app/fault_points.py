"""Named points at which a test can kill the server: `HOLDFAST_FAULT=publish.before-rename` or `append.written:3`."""

from __future__ import annotations

import os
import signal

_WANTED, _, _count = os.environ.get("HOLDFAST_FAULT", "").partition(":")
_left = int(_count or 1)


def point(name: str) -> None:
    """Die here by SIGKILL when the environment names this point (at its Nth passing with `:N`); else do nothing."""
    global _left
    if name != _WANTED:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
