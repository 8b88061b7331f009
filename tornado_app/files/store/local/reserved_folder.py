"""The server's own folder in the files directory, on the same file system: `.holdfast/`.

It has `uploads/` and `digests/`, `blocks-index/` with names by content, and `sha256-pending/`, which marks the files
whose SHA-256 is to be made. `clock` is the time that a server noted last, in seconds since the epoch.

Earlier versions kept `.uploads/` and `.digests/` beside the files; opening moves them in.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from tornado_app.files import names
from tornado_app.files.store.local.directory import FOLDER
from tornado_app.settings import Settings, SettingsError

UPLOADS, DIGESTS, PENDING, CONTENTS = "uploads", "digests", "sha256-pending", "blocks-index"
_BEFORE = {UPLOADS: ".uploads", DIGESTS: ".digests"}


def check_places(settings: Settings) -> None:
    """Refuse to publish the server's own state: every file below the files directory has a name there.

    Raises:
        SettingsError: the data directory or the token file lies there.
    """
    files = settings.files_dir.resolve()
    own = {"--data-dir": settings.data_dir, "--token-file": settings.token_file}
    for option, path in own.items():
        place = None if path is None else path.resolve()
        if place is not None and place.is_relative_to(files) and not place.is_relative_to(files / names.RESERVED):
            raise SettingsError(
                f"{option} {path} lies in --files-dir {settings.files_dir}, where everybody who may read files could "
                "read it: put it elsewhere"
            )


def open_folders(root: int, *, durable: bool) -> tuple[int, int]:
    """Open the folders of staged bytes and of digests in the files directory `root`; make what is missing.

    Raises:
        OSError: EBUSY while a server of an earlier version uses the directory; ENOTDIR when the name is taken.
    """
    try:
        reserved = _open(root, names.RESERVED, durable)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise OSError(
                errno.ENOTDIR, f"its {names.RESERVED} is not a folder. Move it away, the server needs the name"
            ) from None
        raise
    try:
        _migrate(root, reserved)
        uploads = _open(reserved, UPLOADS, durable)
        try:
            return uploads, _open(reserved, DIGESTS, durable)
        except BaseException:
            os.close(uploads)
            raise
    finally:
        os.close(reserved)


def open_folder(root: int, name: str, *, durable: bool) -> int:
    """Open one more folder of the server in the files directory `root`, after `open_folders`; make it if missing."""
    reserved = os.open(names.RESERVED, FOLDER, dir_fd=root)
    try:
        return _open(reserved, name, durable)
    finally:
        os.close(reserved)


def lock(uploads: int) -> None:
    """Lock an open folder of staged bytes against other servers. Raises `OSError`."""
    try:
        fcntl.flock(uploads, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(errno.EBUSY, "another server uses it. Stop that one, or use another directory") from None


def _open(parent: int, name: str, durable: bool) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        if durable:
            os.fsync(parent)
    except FileExistsError:
        pass
    return os.open(name, FOLDER, dir_fd=parent)


def _migrate(root: int, reserved: int) -> None:
    """Move the folders of an earlier version in, once; after a crash in between the next server goes on.

    Both are there where such a version has run. `uploads` is made first here, and moved last: `digests` without it is
    a move that was cut off. Any other `.uploads` is a user's own.
    """
    if _is_folder(UPLOADS, reserved) or not _is_folder(_BEFORE[UPLOADS], root):
        return
    begun = _is_folder(DIGESTS, reserved)
    if not begun and not _is_folder(_BEFORE[DIGESTS], root):
        return
    try:
        before = os.open(_BEFORE[UPLOADS], FOLDER, dir_fd=root)
    except FileNotFoundError:
        return  # another process has moved it
    try:
        lock(before)  # the lock is on the folder, wherever it is moved
        for name in (UPLOADS,) if begun else (DIGESTS, UPLOADS):
            try:
                os.rename(_BEFORE[name], name, src_dir_fd=root, dst_dir_fd=reserved)
            except FileNotFoundError:
                pass
        os.fsync(reserved)
        os.fsync(root)
    finally:
        os.close(before)


def _is_folder(name: str, parent: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
