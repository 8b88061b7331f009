"""Files that only the server's user can read: its data directory, and its secrets on disk."""

from __future__ import annotations

import logging
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("holdfast.server")

_FOLDER, _FILE = 0o700, 0o600
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotPrivateError(ValueError):
    """A file that another user could have written; the message says what to do."""


def make_folder(folder: Path) -> None:
    """Create a folder, or restrict one, so that only its owner can enter. Raises `OSError`, `NotPrivateError`."""
    folder.mkdir(_FOLDER, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise NotPrivateError(f"{folder} belongs to another user (uid {status.st_uid}): choose another")
    _restrict(folder, status)


def make_files(folder: Path, leave: Path) -> None:
    """Restrict everything in a folder to its owner, except the folder `leave` in it and symbolic links."""
    for path, status in _walk(folder, leave.absolute()):
        _restrict(path, status)


def create(path: Path) -> None:
    """Create an empty file that only its owner can read, unless it exists."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE))


def secret(path: Path) -> str:
    """Return the secret in a file, and create a random one if there is none. Raises `OSError`, `NotPrivateError`."""
    if path.exists():
        check_unshared(path)
        text = path.read_text("ascii", errors="replace").strip()
        if text:
            return text
    return renew(path)


def renew(path: Path) -> str:
    """Replace the secret in a file by a new one, in one step."""
    text = secrets.token_urlsafe(32)
    write(path, text + "\n")
    return text


def write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE), "w") as file:
        file.write(text)
    fresh.replace(path)


def check_unshared(path: Path) -> None:
    """Raise `NotPrivateError` for a file that another user can write or has written, `OSError` for none."""
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        raise NotPrivateError(f"{path} belongs to another user (uid {status.st_uid}): use a file of your own")
    if stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS:
        raise NotPrivateError(f"{path} can be written by other users: chmod go-w {path}")


def _walk(folder: Path, leave: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink() or path.absolute() == leave:
                continue
            yield path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(path, leave)


def _restrict(path: Path, status: os.stat_result) -> None:
    if not stat.S_IMODE(status.st_mode) & 0o077:
        return
    try:
        path.chmod(_FOLDER if stat.S_ISDIR(status.st_mode) else _FILE)
    except OSError as error:
        log.warning("other users may read %s, because its mode can't be changed: %s", path, error.strerror)
