"""Names below a directory in the order of their bytes, from any name on; a page costs as much as it holds.

Directories have no order of their own, so each must be read whole and sorted. The sorted names of a large one are kept
while the directory is unchanged, as one block of bytes, so that the next page begins with a binary search.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tornado_app.files import names
from tornado_app.files.store.local.directory import FOLDER, is_temporary

KEPT_BYTES = 64 << 20
"""Most memory for the sorted names of large directories."""
_LARGE = 512  # entries; fewer are read and sorted in a millisecond
_TICK_NS = 50_000_000  # a clock of the kernel that stamps directories moves in steps of 1 to 10 ms
_COARSE_NS = 2_500_000_000  # and file systems that keep whole seconds, or two


@dataclass(frozen=True, slots=True)
class ListingEntry:
    """A name that may be a file: its folder, open while the entry is the iteration's latest, and its last segment."""

    name: str
    folder: int
    segment: str


class Listing:
    """The names below an open directory. Links are entries, also where they lead to folders; nothing follows them."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._sorted = _SortedEntries()

    @property
    def kept_bytes(self) -> int:
        """Return how much memory the sorted names of large directories take."""
        return self._sorted.size

    def all(self, prefix: str, after: str) -> Generator[ListingEntry, None, None]:
        """Iterate over names that start with `prefix` and come after `after`."""
        yield from self._below(self._root, b"", prefix.encode("utf-8"), after.encode("utf-8"))

    def level(self, prefix: str, after: str) -> Generator[ListingEntry | str, None, None]:
        """Iterate to the first slash after `prefix`: entries, and folders as names that end with the slash.

        A folder comes once, however much is in it, and also when it is empty; see `holds`.
        """
        base = prefix[: prefix.rfind("/") + 1]
        if base and names.structural_flaw(base[:-1]) is not None:
            return
        with self._open(base) as folder:
            if folder is not None:
                yield from self._one_level(folder, base.encode(), prefix.encode("utf-8"), after.encode("utf-8"))

    def holds(self, folder: str, after: str) -> Generator[ListingEntry, None, None]:
        """Iterate over names below `folder` (with a slash at the end), in any order if `after` allows all of them."""
        if after.startswith(folder) and after != folder:
            yield from self.all(folder, after)
            return
        with self._open(folder) as fd:
            if fd is not None:
                yield from self._any(fd, folder)

    def statuses(self, folder: str) -> Iterator[tuple[bytes, os.stat_result | None]]:
        """Iterate over all that is below a folder ("" for the root), in order: the rest of a name, and its status.

        Names are not checked; only folders of the server are left out. The status is None for what can't be read.
        """
        with self._open(f"{folder}/" if folder else "") as fd:
            if fd is not None:
                yield from self._statuses(fd, b"", is_root=not folder)

    def _statuses(self, folder: int, base: bytes, *, is_root: bool) -> Iterator[tuple[bytes, os.stat_result | None]]:
        for raw in self._sorted.of(folder):
            if not raw.endswith(b"/"):
                try:
                    yield base + raw, os.stat(raw, dir_fd=folder, follow_symlinks=False)
                except OSError:
                    yield base + raw, None
            elif not (is_root and names.is_reserved(os.fsdecode(raw[:-1]))):
                below = _descend(os.fsdecode(raw[:-1]), folder)
                if below is None:
                    yield base + raw, None
                    continue
                try:
                    yield from self._statuses(below, base + raw, is_root=False)
                finally:
                    os.close(below)

    @contextmanager
    def _open(self, folder: str) -> Iterator[int | None]:
        """Open a folder by its name with a slash at the end; yield None when there is none that is listed."""
        fd = os.dup(self._root)
        try:
            for segment in folder.split("/")[:-1]:
                below = _descend(segment, fd)
                if below is None:
                    yield None
                    return
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def _below(self, folder: int, base: bytes, prefix: bytes, after: bytes) -> Iterator[ListingEntry]:
        for raw in self._from(folder, base, max(prefix, after)):
            name = base + raw
            if raw.endswith(b"/"):
                if not (name.startswith(prefix) or prefix.startswith(name)):
                    if name > prefix:
                        return
                elif (name > after or after.startswith(name)) and _is_name(name[:-1]):
                    below = _descend(raw[:-1].decode("utf-8"), folder)
                    if below is not None:
                        try:
                            yield from self._below(below, name, prefix, after)
                        finally:
                            os.close(below)
            elif not name.startswith(prefix):
                if name > prefix:
                    return
            elif name > after and _is_name(name):
                yield ListingEntry(name.decode("utf-8"), folder, raw.decode("utf-8"))

    def _one_level(self, folder: int, base: bytes, prefix: bytes, after: bytes) -> Iterator[ListingEntry | str]:
        for raw in self._from(folder, base, max(prefix, after)):
            name = base + raw
            if not name.startswith(prefix):
                if name > prefix:
                    return
            elif raw.endswith(b"/"):
                if (name > after or (after.startswith(name) and after != name)) and _is_name(name[:-1]):
                    yield name.decode("utf-8")
            elif name > after and _is_name(name):
                yield ListingEntry(name.decode("utf-8"), folder, raw.decode("utf-8"))

    def _any(self, folder: int, base: str) -> Iterator[ListingEntry]:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = base + entry.name
                if names.structural_flaw(name) is not None:
                    continue
                if not entry.is_dir(follow_symlinks=False):
                    yield ListingEntry(name, folder, entry.name)
                    continue
                below = _descend(entry.name, folder)
                if below is not None:
                    try:
                        yield from self._any(below, name + "/")
                    finally:
                        os.close(below)

    def _from(self, folder: int, base: bytes, start: bytes) -> Iterator[bytes]:
        """Iterate over the sorted entries of a folder, from the one that is `start`, holds it or comes after it."""
        entries = self._sorted.of(folder)
        rest = start[len(base) :] if start.startswith(base) else b""
        index = bisect_left(entries, rest)
        if index and entries[index - 1].endswith(b"/") and rest.startswith(entries[index - 1]):
            index -= 1
        for at in range(index, len(entries)):
            yield entries[at]


class _SortedEntries:
    """Sorted entries of directories: the names of files, and those of folders with a slash, which is how they sort."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], tuple[tuple[int, int], _NameBlock]] = OrderedDict()
        self.size = 0
        self._lock = threading.Lock()

    def of(self, folder: int) -> Sequence[bytes]:
        """Return the entries of an open directory as it is now."""
        now = time.time_ns()
        status = os.fstat(folder)
        key, stamp = (status.st_dev, status.st_ino), (status.st_mtime_ns, status.st_ctime_ns)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0] == stamp:
                self._kept.move_to_end(key)
                return kept[1]
        entries = read_entries(folder)
        if len(entries) < _LARGE:
            return entries
        block = _NameBlock(entries)
        after = os.fstat(folder)
        # A change within one tick of the clock leaves the stamp as it is: only a stamp that has aged says enough.
        tick = _COARSE_NS if stamp[0] % 1_000_000_000 == 0 else _TICK_NS
        if stamp == (after.st_mtime_ns, after.st_ctime_ns) and now - max(stamp) > tick:
            self._keep(key, stamp, block)
        return block

    def _keep(self, key: tuple[int, int], stamp: tuple[int, int], block: _NameBlock) -> None:
        if block.size > KEPT_BYTES:
            return
        with self._lock:
            before = self._kept.pop(key, None)
            self._kept[key] = stamp, block
            self.size += block.size - (before[1].size if before is not None else 0)
            while self.size > KEPT_BYTES:
                self.size -= self._kept.popitem(last=False)[1][1].size


class _NameBlock(Sequence[bytes]):
    """Many short texts in two objects: a list would take five times the memory."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._text = b"".join(texts)
        self._ends = array("Q" if len(self._text) >> 32 else "I", [0])
        end = 0
        for text in texts:
            end += len(text)
            self._ends.append(end)
        self.size = len(self._text) + len(self._ends) * self._ends.itemsize

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]  # slices are not needed
        return self._text[self._ends[index] : self._ends[index + 1]]


def read_entries(folder: int) -> list[bytes]:
    """Return the sorted names in an open directory, those of folders with a slash at the end."""
    with os.scandir(folder) as entries:
        return sorted(
            os.fsencode(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name) for entry in entries
        )


def _descend(segment: str, folder: int) -> int | None:
    """Open a folder in a folder; None where there is none any more, or the server may not read it."""
    try:
        return os.open(segment, FOLDER, dir_fd=folder)
    except OSError as error:
        if is_temporary(error):
            raise  # a list must not leave out what is there
        return None


def _is_name(raw: bytes) -> bool:
    """Return whether a client can name it."""
    try:
        return names.structural_flaw(raw.decode("utf-8")) is None
    except UnicodeDecodeError:
        return False
