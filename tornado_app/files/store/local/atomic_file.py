"""Small files that are replaced whole: a crash leaves the old one or the new one."""

from __future__ import annotations

import os


def write(folder: int, name: str, content: bytes, *, durable: bool = False) -> None:
    """Put `content` into the file `name` of an open folder in one step; `durable` makes it survive a power cut."""
    temporary = f".{name}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    if durable:
        os.fsync(folder)


def read(folder: int, name: str) -> bytes | None:
    """Return the content of a small file, None when there is none."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def remove(folder: int, name: str) -> None:
    """Remove a file that may be missing."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
