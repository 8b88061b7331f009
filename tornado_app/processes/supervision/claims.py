"""Claims: locks on files, held by the supervisor of what a process started until all of it has ended.

The kernel releases the lock when its holder dies. So after the death of a server nothing is started a second time
before the first run has ended. Imports the standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from tornado_app.processes.supervision.descendants import end_orphans

VARIABLE = "HOLDFAST_CLAIM"
"""Environment variable with the claim's path, in all that is started under it: finds what outlives its supervisor."""

_POLL = 0.02  # seconds


def path_of(data_dir: str | Path, kind: str, key: str) -> Path:
    """Return the path of the claim of that kind on a process. `key` is unique to the process."""
    return Path(data_dir).resolve() / "running" / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


def marker(path: Path) -> str:
    """Return the entry that a claim has in the environment of what was started under it."""
    return f"{VARIABLE}={path}"


def take(path: Path, patience: float, may_wait: Callable[[], bool] = lambda: True) -> int:
    """Take a claim once nothing runs that was started under it; a file descriptor that holds it until it is closed.

    Raises `TimeoutError` when something still runs after `patience` seconds, or `may_wait` returns false.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    until = time.monotonic() + patience
    while True:
        was_there = path.exists()  # its holder died before it could remove it
        claim = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _lock(claim) and _is_still_at(claim, path):
            if was_there:
                end_orphans(None, marker(path))
            return claim
        os.close(claim)
        if time.monotonic() > until or not may_wait():
            raise TimeoutError
        time.sleep(_POLL)


def drop(path: Path) -> None:
    """Remove the file of a claim that we hold, or that nobody holds."""
    with contextlib.suppress(OSError):
        path.unlink()


def wait_until_clear(path: Path, patience: float) -> None:
    """Wait until nothing runs that was started under a claim, and remove it. Raises `TimeoutError` as `take` does."""
    if path.exists():
        claim = take(path, patience)
        drop(path)
        os.close(claim)


def _lock(claim: int) -> bool:
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: there is no claim to wait for
        return True
    return True


def _is_still_at(claim: int, path: Path) -> bool:
    """Return whether the claim is still the file at that path, and was not removed while we opened it."""
    try:
        return os.path.samestat(os.fstat(claim), path.stat())
    except OSError:
        return False
