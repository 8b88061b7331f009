"""Tokens of the servers that this user runs on this machine, for programs of the same user.

If the system can't tell which user a connection belongs to, a server writes its token to a file that only its user can
read. Clients of the same user find it there.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def state_dir() -> Path:
    """Return the folder for state of the SDK: `HOLDFAST_STATE_DIR`, by default the user's state folder."""
    if folder := os.environ.get("HOLDFAST_STATE_DIR"):
        return Path(folder)
    import platformdirs  # most programs don't need it

    return platformdirs.user_state_path("holdfast", appauthor=False)


class KnownServer:
    """File with the token of a running server. A lock on it shows that the server runs."""

    def __init__(self, port: int, token: str) -> None:
        """Write the file. Raises `OSError` if that fails."""
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
        """Remove the file when the server has stopped."""
        self._path.unlink(missing_ok=True)
        os.close(self._number)


def token_of(base_url: str) -> str | None:
    """Return the token of a server on loopback, if it runs now and belongs to this user."""
    parts = urlsplit(base_url)
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
        return None
    try:
        with (state_dir() / "servers" / str(parts.port or 80)).open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                return None
            # The port may belong to another program now, which must not get the token.
            return file.read().decode() if _is_locked(file.fileno()) else None
    except (OSError, UnicodeDecodeError):
        return None


def _is_locked(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
