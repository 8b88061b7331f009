"""Small local files written together: each appears whole or not at all, and a crash leaves nothing. Blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

_UNNAMED = getattr(os, "O_TMPFILE", 0)
_SLOW_SYNC_S = 0.0002
_SYNC_THREADS = 8


def write_together(files: Sequence[tuple[Path, bytes]]) -> list[os.stat_result | None]:
    """Write new files, durably, and return the status of each.

    None for one that was not written: its target exists, or this system can't give a name to a file without one.
    """
    found: list[os.stat_result | None] = [None] * len(files)
    if not _UNNAMED:
        return found
    with ExitStack() as opened:
        folders: dict[str, int] = {}
        written: list[tuple[int, int, int]] = []  # index, descriptor, folder
        for index, (target, data) in enumerate(files):
            parent = os.path.dirname(target)
            try:
                folder = folders.get(parent)
                if folder is None:
                    folder = folders[parent] = _open_folder(parent)
                    opened.callback(os.close, folder)
                number = os.open(".", _UNNAMED | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=folder)
                opened.callback(os.close, number)
                if os.write(number, data) == len(data):
                    written.append((index, number, folder))
            except OSError:
                continue
        for index, number, folder in _synced(written):
            try:
                # Given a descriptor of a folder, Python calls linkat(2), which follows the link to the open file.
                os.link(
                    f"/proc/self/fd/{number}",
                    os.path.basename(files[index][0]),
                    dst_dir_fd=folder,
                    follow_symlinks=True,
                )
                found[index] = os.fstat(number)
            except OSError:
                continue
    return found


def _open_folder(path: str) -> int:
    os.makedirs(path, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _synced(written: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Sync files, from several threads once it takes time; return those that are on the disk."""
    good: list[tuple[int, int, int]] = []
    for done, one in enumerate(written, 1):
        begin = time.perf_counter()
        good += _sync(one)
        if time.perf_counter() - begin > _SLOW_SYNC_S and done < len(written):
            for _, number, _ in written[done:]:
                os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)  # begins to write all of them
            with ThreadPoolExecutor(_SYNC_THREADS) as threads:
                for synced in threads.map(_sync, written[done:]):
                    good += synced
            break
    return good


def _sync(one: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    try:
        os.fsync(one[1])
    except OSError:
        return []
    return [one]
