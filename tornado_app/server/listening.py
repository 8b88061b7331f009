"""The sockets that the server listens on: TCP on an address, or a Unix socket that only its user can open."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from tornado.netutil import bind_sockets

from tornado_app.settings import Settings, SettingsError

_BACKLOG = 128


def open_sockets(settings: Settings) -> list[socket.socket]:
    """Bind and listen. Raises `SettingsError` if that fails."""
    if settings.socket is not None:
        return [_unix_socket(settings.socket)]
    try:
        return bind_sockets(settings.port, settings.address)
    except OSError as error:
        raise SettingsError(
            f"can't listen on {settings.address}:{settings.port}: {error.strerror}; "
            "choose another --port (0 for a free one) or --address"
        ) from error


def url_of(settings: Settings, port: int) -> str:
    """Return the URL at which clients find the server; `unix:/a/socket:/holdfast/` below a base URL."""
    below = settings.base_url if settings.base_url != "/" else ""
    if settings.socket is not None:
        return f"unix:{settings.socket.absolute()}{below and ':'}{below}"
    host = f"[{settings.address}]" if ":" in settings.address else settings.address
    return f"http://{host}:{port}{below}"


def _unix_socket(path: Path) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # Linux gives the file the mode of the socket, so others can't connect even before chmod.
        with contextlib.suppress(OSError):
            os.fchmod(sock.fileno(), 0o600)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        why = error.strerror or str(error)  # a path that is too long has no errno
        raise SettingsError(f"can't listen on --socket {path}: {why}. Choose another path") from error
    return sock


def _remove_stale(path: Path) -> None:
    """Remove the socket of an earlier server. Raises `SettingsError` for anything else at that path."""
    try:
        status = path.lstat()
    except OSError:  # there is none, or binding fails with the reason
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise SettingsError(f"--socket {path} exists and is no socket: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            number = probe.connect_ex(str(path))
        except OSError as error:  # a timeout
            number = error.errno or errno.ETIMEDOUT
    if number != errno.ECONNREFUSED:
        raise SettingsError(f"another server listens on --socket {path}: stop it, or choose another path")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
