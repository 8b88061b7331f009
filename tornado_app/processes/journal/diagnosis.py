"""Why a journal can't be used at the start, and what to do about it, in one line."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from tornado_app.settings import SettingsError

_NO_ROOM = 64 << 10  # bytes; SQLite needs as much to open a journal at all

_LOCKED = "another program holds it: end that one, or wait until it is done, and start again"
_FULL = "its disk is full: make room and start again"
_DAMAGED = (
    "it is damaged: put a backup in its place, or keep it elsewhere and start with a new one; either way move its -wal "
    "and -shm files along with it, which hold its newest and would spoil another one"
)
_CLOSED = "it can't be opened or written: see to its owner and permissions, and those of its folder"
_DISK = "its disk can't be read or written: see to that, to quotas and limits, and start again"

_ADVICE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_READONLY: _CLOSED,
    sqlite3.SQLITE_PERM: _CLOSED,
    sqlite3.SQLITE_AUTH: _CLOSED,
    sqlite3.SQLITE_IOERR: _DISK,
}


def refusal(path: Path, error: BaseException | None) -> SettingsError:
    """Return the refusal for a person. Only for a damaged journal does it advise to put another one in its place."""
    advice = _ADVICE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "see the server's log")
    if advice in (_CLOSED, _DISK) and _is_full(path.parent):  # what SQLite says when it can't make its files
        advice = _FULL
    return SettingsError(f"the journal {path} can't be used: {error}; {advice}")


def _is_full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _NO_ROOM
