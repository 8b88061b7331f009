"""Notes of the servers that this user runs on this machine, for programs of the same user.

Each server writes a note while it runs, into a folder that only its user can enter. A lock on the note shows that the
server runs. Where the system can't tell which user a connection belongs to, the note also has the server's token.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from holdfast._environment.identity import KEY_FILE

ServerKind = Literal["serve", "local", "shared"]
KIND_VARIABLE = "HOLDFAST_SERVER_KIND"
"""Environment variable by which whoever starts a server says for what: see `RunningServer.kind`."""

_VERSION = 1
_MOST_BYTES = 64 << 10  # of a note
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_KINDS: tuple[ServerKind, ...] = ("serve", "local", "shared")


class RunningServer(msgspec.Struct, frozen=True, kw_only=True):
    """Note of a server.

    `url` is what clients take: `http://127.0.0.1:8000/prefix/` or `unix:/a/socket`. `started` is in seconds since the
    epoch. `kind` is "serve" for one that a person or a service manager started, "local" for a child of a Python
    process, with which it ends, and "shared" for the one that a user's programs share. `token` is "" unless programs of
    the same user need it, and `needs_token` is true where only the person who started the server has it.
    """

    url: str
    pid: int
    host: str
    boot: str
    started: float
    data_dir: str
    files_dir: str
    instance: str
    base_url: str = "/"
    kind: ServerKind = "serve"
    token: str = ""
    needs_token: bool = False
    version: int = _VERSION

    def __repr__(self) -> str:
        return f"<RunningServer {self.url} ({self.kind}, pid {self.pid})>"  # without the token


class ServerNote:
    """Note of this server, locked while it runs."""

    def __init__(self, server: RunningServer) -> None:
        """Write the note. Raises `OSError` if that fails."""
        name = f"{server.pid}-{server.instance}.json"
        self._path = state_dir() / "servers" / name
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _open_folder() as folder:
            if os.fstat(folder).st_mode & 0o077:
                os.fchmod(folder, 0o700)
            fresh = f"{name}.{secrets.token_hex(4)}.new"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._number = os.open(fresh, flags, 0o600, dir_fd=folder)
            try:
                fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The standard library's: a path may have bytes that are not UTF-8.
                _write(self._number, json.dumps(msgspec.structs.asdict(server)).encode("ascii"))
                os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.close(self._number)
                os.unlink(fresh, dir_fd=folder)
                raise

    def close(self) -> None:
        """Remove the note when the server stops."""
        self._path.unlink(missing_ok=True)
        os.close(self._number)


def state_dir() -> Path:
    """Return the folder for state of the SDK: `HOLDFAST_STATE_DIR`, by default the user's state folder."""
    if folder := os.environ.get("HOLDFAST_STATE_DIR"):
        return Path(folder)
    import platformdirs  # most programs don't need it

    return platformdirs.user_state_path("holdfast", appauthor=False)


def running() -> list[RunningServer]:
    """Return the servers of this user that run on this machine, newest first. Removes the notes of others."""
    try:
        with _open_folder() as folder:
            found = [_read_note(folder, name) for name in os.listdir(folder) if name.endswith(".json")]
    except OSError:
        return []
    return sorted(filter(None, found), key=lambda server: server.started, reverse=True)


def token_of(base_url: str) -> str | None:
    """Return the token of a server on loopback, if it runs now and belongs to this user."""
    parts = urlsplit(base_url)
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
        return None
    port = parts.port or 80
    for server in running():
        if server.token and (urlsplit(server.url).port or 80) == port:
            return server.token
    return _token_by_port(port)


def identity_key(server: RunningServer) -> str:
    """Return the key with which a server proves its identity; "" if it can't be read, or if others may have read it."""
    try:
        with _open_private(Path(server.data_dir) / KEY_FILE) as number:
            return os.read(number, _MOST_BYTES).decode("ascii").strip() if number is not None else ""
    except (OSError, ValueError):
        return ""


def kind_of_this_process() -> ServerKind:
    """Return the kind of the server that this process is."""
    given = os.environ.get(KIND_VARIABLE, "")
    return next((kind for kind in _KINDS if kind == given), "serve")


def host_name() -> str:
    """Return the name of this host: of the container, in one."""
    return socket.gethostname()


def boot_id() -> str:
    """Return what is the same until the system is started again; "" where it is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return _boot_time() if sys.platform == "darwin" else ""


def _boot_time() -> str:
    import subprocess

    command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    return ""


@contextlib.contextmanager
def _open_folder() -> Iterator[int]:
    """Open the folder of notes. Raises `OSError` for none, and for one that is not this user's own."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    number = os.open(state_dir() / "servers", flags)
    try:
        status = os.fstat(number)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(1, "the folder of notes can be written by other users", str(state_dir() / "servers"))
        yield number
    finally:
        os.close(number)


def _read_note(folder: int, name: str) -> RunningServer | None:
    """Return the server of a note if it runs on this machine; remove the note if it has ended."""
    with contextlib.suppress(OSError), _open_private(name, folder) as number:
        if number is None:
            return None
        try:
            note: Any = json.loads(os.read(number, _MOST_BYTES))
            server = msgspec.convert(note, RunningServer)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return None  # of a later version, or no note of ours
        if server.version != _VERSION or server.host != host_name():
            return None  # a lock may be known to its own host alone
        if not _is_locked(number):
            os.unlink(name, dir_fd=folder)
            return None
        return server if server.boot == boot_id() else None
    return None


@contextlib.contextmanager
def _open_private(path: str | Path, folder: int | None = None) -> Iterator[int | None]:
    """Open a file for reading; None if others than this user may have read or written it. Raises `OSError`."""
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(number)
        is_private = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
        yield number if is_private else None
    finally:
        os.close(number)


def _token_by_port(port: int) -> str | None:
    """Return the token in a file that an older server has written."""
    try:
        with _open_private(state_dir() / "servers" / str(port)) as number:
            # The port may belong to another program now, which must not get the token.
            return os.read(number, _MOST_BYTES).decode() if number is not None and _is_locked(number) else None
    except (OSError, UnicodeDecodeError):
        return None


def _is_locked(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _write(number: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(number, view) :]
