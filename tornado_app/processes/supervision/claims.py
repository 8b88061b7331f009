"""Claims on the work of a process, held by whoever ends all that it started, for as long as anything of it runs.

A lock on a file, which the kernel takes back when its holder is gone: after the death of a server nothing is started a
second time before the first is over. Standard library alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from tornado_app.processes.supervision.descendants import end_forsaken

VARIABLE = "HOLDFAST_CLAIM"
"""In the environment of all that is started under a claim: its path. By it is found what outlived its supervisor."""

_LOOK = 0.02  # seconds


def path_of(data_dir: str | Path, kind: str, key: str) -> Path:
    """Where the claim of that kind on a process lies. `key` stands for the process alone."""
    return Path(data_dir).resolve() / "running" / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


def marker(path: Path) -> str:
    """How the environment of what was started under a claim shows it."""
    return f"{VARIABLE}={path}"


def take(path: Path, patience: float, may_wait: Callable[[], bool] = lambda: True) -> int:
    """A claim, as a file descriptor that holds it until it and its copies are closed. Nothing of an earlier one runs.

    Raises `TimeoutError` when what an earlier one started has not ended within `patience` seconds.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    until = time.monotonic() + patience
    while True:
        was_there = path.exists()  # its holder did not live to remove it
        claim = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _lock(claim) and _is_at(claim, path):
            if was_there:
                end_forsaken(None, marker(path))
            return claim
        os.close(claim)
        if time.monotonic() > until or not may_wait():
            raise TimeoutError
        time.sleep(_LOOK)


def drop(path: Path) -> None:
    """Remove the file of a claim that is held, or that nobody holds."""
    with contextlib.suppress(OSError):
        path.unlink()


def settle(path: Path, patience: float) -> None:
    """See that nothing runs any more that was started under that claim. Raises `TimeoutError` as `take` does."""
    if path.exists():
        claim = take(path, patience)
        drop(path)
        os.close(claim)


def _lock(claim: int) -> bool:
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: then there is no claim to wait for
        return True
    return True


def _is_at(claim: int, path: Path) -> bool:
    """Whether it is still the file at that path: it may have been removed while we opened it."""
    try:
        return os.path.samestat(os.fstat(claim), path.stat())
    except OSError:
        return False
