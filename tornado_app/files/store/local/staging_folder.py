"""The folder of staged bytes: one directory an upload, made and removed by renames, so that none is ever half there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tornado_app import problems
from tornado_app.files.store.local import atomic_file, directory, reserved_folder

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class StagingFolder:
    """`.holdfast/uploads`, open as `fd`, which it closes. `durable`: changes of it survive a power cut."""

    def __init__(self, fd: int, *, durable: bool) -> None:
        self.fd = fd
        self.durable = durable

    def close(self) -> None:
        """Close the folder. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lock(self) -> None:
        """Lock the folder against other servers. Raises `OSError`."""
        reserved_folder.lock(self.fd)

    def ids(self) -> list[str]:
        """Return every id, in order."""
        return sorted(name for name in os.listdir(self.fd) if _ID.fullmatch(name))

    def sweep(self) -> None:
        """Remove directories that a crash left half made or half removed, and small files without a name."""
        for name in os.listdir(self.fd):
            if name.startswith((".new-", ".gone-", "..new-")):
                self.remove(name)
                atomic_file.remove(self.fd, name)

    @contextmanager
    def open(self, name: str) -> Iterator[int]:
        """Open the directory of an upload. Raises NO_SUCH_UPLOAD."""
        try:
            fd = os.open(name, directory.FOLDER, dir_fd=self.fd)
        except (FileNotFoundError, NotADirectoryError):
            raise no_such_upload(name) from None
        try:
            yield fd
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """Remove the directory of an upload and the files in it, as far as they are there."""
        try:
            with self.open(name) as folder:
                for entry in os.listdir(folder):
                    atomic_file.remove(folder, entry)
            os.rmdir(name, dir_fd=self.fd)
        except (problems.ProblemError, FileNotFoundError):
            return


def check_id(id: str) -> None:
    """Raise NO_SUCH_UPLOAD for an id that no upload can have."""
    if not _ID.fullmatch(id):
        raise no_such_upload(id)


def no_such_upload(id: str) -> problems.ProblemError:
    """Return the refusal for an id without an upload."""
    return problems.NO_SUCH_UPLOAD(f"there is no upload {id[:128]!r}. It was cancelled, has expired or never was")
