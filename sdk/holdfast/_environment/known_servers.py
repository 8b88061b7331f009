"""Tokens of this user's own servers on this machine, for its own programs.

Where the system can't tell whose a connection is, a server notes its token here, readable by its user alone, and the
clients of the same user find it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def state_dir() -> Path:
    """Where the SDK keeps what it needs later: `HOLDFAST_STATE_DIR`, else the user's own folder for state."""
    if folder := os.environ.get("HOLDFAST_STATE_DIR"):
        return Path(folder)
    import platformdirs  # most programs need none

    return platformdirs.user_state_path("holdfast", appauthor=False)


class KnownServer:
    """A server's note, from its start to `close`; a lock on it shows that the server runs."""

    def __init__(self, port: int, token: str) -> None:
        """Raises `OSError` where it can't be kept."""
        folder = state_dir() / "servers"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / str(port)
        fresh = folder / f"{port}.{os.getpid()}.new"
        fresh.unlink(missing_ok=True)
        self._number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._number, fcntl.LOCK_EX)
        os.write(self._number, token.encode())
        fresh.replace(self._path)

    def close(self) -> None:
        """The server has stopped."""
        self._path.unlink(missing_ok=True)
        os.close(self._number)


def token_of(base_url: str) -> str | None:
    """The token of a server on this machine's loopback, if it is one of this user's and runs now."""
    parts = urlsplit(base_url)
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
        return None
    try:
        with (state_dir() / "servers" / str(parts.port or 80)).open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                return None
            # Whoever has taken the port of a server that is gone must not be sent its token.
            return file.read().decode() if _is_locked(file.fileno()) else None
    except (OSError, UnicodeDecodeError):
        return None


def _is_locked(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
