"""Local target of a download: which path it means, and what is there already. Blocks."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import LocalExists


@dataclass(slots=True)
class Target:
    """Local target of a download, as the user has named it."""

    path: Path
    folder: bool = False  # it ended in a slash, so it is a folder even if it does not exist
    exact: bool = False  # it is the path of the file, even if a folder of that name exists

    @classmethod
    def of(cls, to: str | os.PathLike[str] | None) -> Target:
        """Return the target for a path; a folder if it exists or ends in a slash. None is the working directory."""
        text = "" if to is None else os.fspath(to)
        return cls(Path(text).absolute(), folder=text.endswith(("/", os.sep)))

    def of_file(self, name: str) -> Path:
        """Return the local path for a file of the server. Blocks. Raises `ValueError` for an invalid name."""
        if self.exact or not (self.folder or self.path.is_dir()):
            return self.path
        last = name.rpartition("/")[2]
        if last in ("", ".", "..") or "\0" in last:
            raise ValueError(f"{name!r} does not end in the name of a file. Pass the path of the file as `to`")
        return self.path / last


def size_of_target(path: Path) -> int | None:
    """Return the size of the file at the target; None if there is none, -1 for a link that does not lead to a file.

    Raises:
        LocalExists: it is a pipe or a device, which a download does not replace.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    is_link = stat.S_ISLNK(status.st_mode)
    if is_link:
        try:
            status = path.stat()
        except OSError:
            return -1
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "the target is a folder. Choose another path", str(path))
    if is_link:
        return -1
    raise LocalExists(f"{path} is a pipe or a device. Choose another path")
