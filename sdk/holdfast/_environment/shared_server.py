"""One server a user and data directory that outlives the program which started it, and is found again by the next.

    url = shared_server.ensure(None, "notebooks")      # "unix:/home/me/.local/state/holdfast/s/1f0c9ad2.sock"

It listens on a Unix socket that only its user can open, and ends by itself after `idle_stop` seconds without anything
to do. Its log is `server.log` in the data directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from holdfast._environment.extras import install_hint
from holdfast._environment.known_servers import KIND_VARIABLE, RunningServer, running, state_dir

IDLE_STOP = 1800.0
"""Seconds after which a server with nothing to do ends by itself."""

_SERVING = "Holdfast serving on "
_OF_ANOTHER_SERVER = {
    f"HOLDFAST_{name}"
    for name in ("SOCKET", "TOKEN", "TOKEN_FILE", "BASE_URL", "AUTH", "PER_USER", "ACCEL_REDIRECT", "IDLE_STOP")
}
_NEEDS = ("tornado", "sqlalchemy", "prometheus_client", "cloudpickle")
_RESERVED = ".holdfast"  # folder in a files directory of which nothing is published
_LONGEST_SOCKET = 100  # bytes of a path; systems allow 104 to 108
_LOG_BYTES = 1 << 20  # a longer log is begun anew with the next server
_POLL_S = 0.02

# The shell leaves the server to the system and ends: it is the child of no program that could wait for it.
_LAUNCH = ("/bin/sh", "-c", 'log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!', "sh")


class SharedServerError(Exception):
    """The server could not be started. The message says why, and what to do."""


def ensure(
    data_dir: str | os.PathLike[str] | None,
    files_dir: str | os.PathLike[str],
    *,
    idle_stop: float = IDLE_STOP,
    flags: Sequence[str] = (),
    timeout: float = 60.0,
) -> str:
    """Return the URL of the server of a data directory, and start it if it does not run. Blocks.

    Args:
        data_dir: folder of its journal and log; by default one of the user's own that belongs to `files_dir`.
        files_dir: folder of its published files.
        idle_stop: seconds without anything to do after which it ends by itself; 0 for never.
        flags: further flags of `holdfast serve`. A server that runs already keeps those that it was started with.
        timeout: seconds to wait for the start.

    Raises:
        SharedServerError: it can't be started.
    """
    files = Path(files_dir).expanduser().resolve()
    data = Path(data_dir).expanduser().resolve() if data_dir else default_data_dir(files)
    try:
        place = socket_path(data)
        if found := _find(data, place):
            return found
        if missing := missing_packages():
            raise SharedServerError(f"the server needs {', '.join(missing)}: {install_hint('jupyter')}")
        deadline = time.monotonic() + timeout
        for folder in (data, files):
            folder.mkdir(0o700, parents=True, exist_ok=True)
        with _locked(data / "start.lock", deadline):
            if not (found := _find(data, place)):
                command = [sys.executable, "-P", "-m", "tornado_app", "--socket", str(place), "--same-user"]
                command += ["--trust-proxy", "--idle-stop", f"{idle_stop:g}"]
                command += ["--data-dir", str(data), "--files-dir", str(files), *flags]
                _wait_for_end(data / "lock", place, deadline)
                _start(command, data / "server.log", deadline)
    except (OSError, subprocess.SubprocessError) as error:
        raise SharedServerError(f"the server of {data} can't be started: {error}. See to that folder") from error
    return found or f"unix:{place}"


def default_data_dir(files_dir: Path) -> Path:
    """Return the data directory that belongs to a files directory: in the user's state folder.

    Where that folder lies in the files directory itself, as in a home directory, nothing of it may be published: there
    it is in the folder that the server keeps to itself.
    """
    files = files_dir.resolve()
    folder = (state_dir() / "shared" / _short_hash(str(files), 16)).resolve()
    return files / _RESERVED / "server" if folder.is_relative_to(files) else folder


def socket_path(data_dir: Path) -> Path:
    """Return the socket of the server of a data directory on this machine. Raises `OSError` for no private folder.

    Machines that share a home directory have one each.
    """
    name = f"{_short_hash(f'{platform.node()} {data_dir}', 8)}.sock"
    folder = state_dir().resolve() / "s"
    if len(os.fsencode(folder / name)) > _LONGEST_SOCKET:
        runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        folder = Path(runtime) / f"holdfast-{os.geteuid()}"
    folder.mkdir(0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} is not a folder of your own")
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder / name


def missing_packages() -> list[str]:
    """Return the packages that the server needs and that are not installed here."""
    return [name for name in _NEEDS if importlib.util.find_spec(name) is None]


def answers(path: Path) -> bool:
    """Return whether a server listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _find(data_dir: Path, place: Path) -> str:
    """Return the URL of a server that runs in a data directory, whoever started it; "" for none."""
    if answers(place):
        return f"unix:{place}"
    return next((note.url for note in running() if Path(note.data_dir) == data_dir and _is_open(note)), "")


def _is_open(note: RunningServer) -> bool:
    """Return whether the server can be called at its root, without a token."""
    return note.base_url == "/" and not (note.token or note.needs_token)


def _short_hash(text: str, digits: int) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:digits]


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    """Hold a lock, so that of several programs one starts the server."""
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while not _try_lock(number, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise SharedServerError("another program has been starting the server for too long: end that program")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(number)


def _try_lock(number: int, kind: int) -> bool:
    try:
        fcntl.flock(number, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_end(lock: Path, place: Path, deadline: float) -> None:
    """Wait for the end of a server that has the data directory but listens no more, such as one that stops now."""
    if not lock.exists():
        return
    number = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        while not _try_lock(number, fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                pid = os.pread(number, 32, 0).decode(errors="replace").strip()
                raise SharedServerError(
                    f"another server (pid {pid or 'unknown'}) uses {lock.parent} and does not listen on {place}: "
                    "stop it, or choose another data directory"
                )
            time.sleep(_POLL_S)
    finally:
        os.close(number)


def _start(command: Sequence[str], log: Path, deadline: float) -> None:
    """Start the server in a session of its own and wait until it serves. Raises `SharedServerError`."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_SERVER}
    environment[KIND_VARIABLE] = "shared"
    with open(log, "ab", opener=_private_opener) as file:
        begin = file.tell() if file.tell() < _LOG_BYTES else file.truncate(0)
    shell = subprocess.run(
        [*_LAUNCH, str(log), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment,
        check=True,
        start_new_session=True,  # Ctrl-C in Jupyter's terminal, and the end of that terminal, must not reach it
    )
    pid = int(shell.stdout)
    while True:
        ended = not _lives(pid)
        with log.open("rb") as file:
            file.seek(begin)
            text = file.read().decode(errors="replace")
        if any(line.startswith(_SERVING) and line.endswith("\n") for line in text.splitlines(keepends=True)):
            return
        if ended or time.monotonic() > deadline:
            why = "ended at once" if ended else "has not answered in time"
            raise SharedServerError(f"the server {why}. Its log {log} says:\n{text[-2000:].strip()}")
        time.sleep(_POLL_S)


def _private_opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
