"""Small members of a tar archive, which are published together once they are whole."""

from __future__ import annotations

from functools import partial

from tornado_app.files.store.interface import PlacedFile, Precondition
from tornado_app.files.uploads.small_files.requests import SmallUploads

SMALL = 256 << 10
"""Bytes of the largest member that is kept in memory until it is whole."""
_MOST = 4 << 20  # bytes that wait


class SmallMembers:
    """Members that wait for their publication. For one worker thread at a time."""

    def __init__(self, small: SmallUploads) -> None:
        self._small = small
        self._waiting: dict[str, tuple[str, bytes, Precondition]] = {}  # by the name of the file
        self._bytes = 0
        self._member: tuple[str, str, Precondition] | None = None
        self._data = bytearray()

    @property
    def is_open(self) -> bool:
        """Return whether a member has begun and not ended."""
        return self._member is not None

    @property
    def is_full(self) -> bool:
        """Return whether so much waits that it should be published now."""
        return self._bytes > _MOST

    def holds(self, name: str) -> bool:
        """Return whether a file of this name waits: it has to be published before another one is."""
        return name in self._waiting

    def begin(self, raw: str, name: str, expect: Precondition) -> None:
        """Begin a member, `raw` being its name in the archive."""
        self._member = raw, name, expect
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        """Append bytes of the member that has begun."""
        self._data += data

    def end(self) -> None:
        """Let the member wait, which is whole."""
        if self._member is not None:
            raw, name, expect = self._member
            self._waiting[name] = raw, bytes(self._data), expect
            self._bytes += len(self._data)
            self.drop()

    def drop(self) -> None:
        """Forget the member that has begun."""
        self._member, self._data = None, bytearray()

    def publish(self) -> list[tuple[str, PlacedFile | Exception]]:
        """Publish all that wait; return for each its name in the archive, and what it is or why it is not. Blocks."""
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        if not waiting:
            return []
        files = [partial(self._small.described, name, data, expect) for name, (_, data, expect) in waiting.items()]
        return [*zip((raw for raw, _, _ in waiting.values()), self._small.groups.publish_now(files), strict=True)]
