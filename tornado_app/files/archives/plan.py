"""Plan of an archive of a folder: which versions of which files it consists of, and its entity tag. Blocking."""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterator, Sequence

from tornado_app import problems
from tornado_app.files import names
from tornado_app.files.store.interface import FileStat, FileStore
from tornado_app.files.store.optional_powers import ListsStamps
from tornado_app.protocols.archives.layout import FORMATS, Layout

_VERSION = b"1"
"""Part of every entity tag: it changes when the same files would make another archive."""
_PAGE = 1000
_UNKNOWN = -1
_NUMBERS = struct.Struct("<HQqH")


class ArchivePlan:
    """Members of an archive, in about fifty bytes each beside their names, and the CRC-32 of those that were read."""

    def __init__(
        self,
        folder: str,
        layout: Layout,
        tags: array[int],
        stamps: array[int],
        earlier: dict[int, int],
        etag: str,
        modified_ns: int,
    ) -> None:
        """`tags` has the hash of each member's entity tag, as this process makes it.

        `earlier` has those of members that the store reads to find out whether they still are what they were.
        """
        self.folder = folder
        self.layout = layout
        name = (folder.rpartition("/")[2] or "files") + layout.format.SUFFIX
        self.stat = FileStat(name, layout.size, modified_ns, etag, None)
        self._tags = tags
        self._earlier = earlier
        # Only zip archives need it; in others it counts as known.
        self._crcs = array("q", [_UNKNOWN if layout.format.NEEDS_CRC else 0]) * len(layout)
        self._stamps = stamps

    def name(self, index: int) -> str:
        """Return the name of the file that is a member."""
        name = self.layout.name(index).decode("utf-8")
        return f"{self.folder}/{name}" if self.folder else name

    def is_current(self, index: int, stat: FileStat) -> bool:
        """Return whether a member is this version of its file."""
        tag = hash(stat.etag)
        is_same = tag == self._tags[index] or tag == self._earlier.get(index)
        return is_same and stat.size == self.layout.member_size(index)

    def crc(self, index: int) -> int | None:
        """Return the CRC-32 of a member if it is known; 0 where the archive has none."""
        crc = self._crcs[index]
        return None if crc == _UNKNOWN else crc

    def crcs(self, members: range) -> Sequence[int] | None:
        """Return the CRC-32 of all members of the archive if they are known of these, and there are any; else None."""
        known = bool(members) and _UNKNOWN not in self._crcs[members.start : members.stop]
        return self._crcs if known else None

    def set_crc(self, index: int, crc: int) -> None:
        """Keep the CRC-32 of a member."""
        self._crcs[index] = crc

    def stamp(self, index: int) -> int | None:
        """Return the stamp (see `OpensInOrder`) of a member; None while it is not known."""
        return self._stamps[index] or None

    def take_stamps(self, other: ArchivePlan) -> None:
        """Take the stamps of a plan of the same archive that was made later: a mode or a link may have changed."""
        self._stamps = other._stamps

    def set_stamp(self, index: int, stamp: int | None) -> None:
        """Keep the stamp of a member."""
        self._stamps[index] = stamp or 0


def make(store: FileStore, folder: str, format: str) -> ArchivePlan:
    """Return the plan for all files below a folder ("" for all there are), as they are now.

    Raises:
        ProblemError: NO_SUCH_FILE when there are none.
    """
    layout = Layout(FORMATS[format])
    tags, stamps, earlier = array("q"), array("q"), dict[int, int]()
    version = hashlib.blake2b(_VERSION + format.encode(), digest_size=16)
    newest = 0
    prefix = f"{folder}/" if folder else ""
    for stat in _members(store, folder, prefix):
        name, etag = stat.name[len(prefix) :].encode("utf-8"), stat.etag.encode("utf-8")
        modified = stat.modified_ns // 1_000_000_000
        layout.add(name, stat.size, modified)
        if stat.unconfirmed is not None:
            earlier[len(tags)] = hash(stat.unconfirmed)
        tags.append(hash(stat.etag))
        stamps.append(stat.stamp)
        version.update(_NUMBERS.pack(len(name), stat.size, modified, len(etag)) + name + etag)
        newest = max(newest, stat.modified_ns)
    if not len(layout):
        where = f"below {folder[:200]!r}" if folder else "on this server"
        raise problems.NO_SUCH_FILE(f"there is no file {where}. GET /v1/files?delimiter=/ lists files and folders")
    layout.seal()
    return ArchivePlan(folder, layout, tags, stamps, earlier, version.hexdigest(), newest)


def is_current(store: FileStore, plan: ArchivePlan) -> bool:
    """Return whether the plan is what `make` would return, as far as that can be told without reading any record."""
    if not isinstance(store, ListsStamps) or (plan.folder and names.structural_flaw(plan.folder) is not None):
        return False
    index = 0
    for name, stamp in store.stamps(plan.folder):
        if index >= len(plan.layout) or stamp != plan.stamp(index) or name != plan.layout.name(index):
            return False
        index += 1
    return index == len(plan.layout)


def _members(store: FileStore, folder: str, prefix: str) -> Iterator[FileStat]:
    if folder and names.structural_flaw(folder) is not None:
        return
    after = ""
    while True:
        page = store.listing(prefix, after, _PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].name
