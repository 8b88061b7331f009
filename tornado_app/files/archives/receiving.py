"""A tar archive that becomes files as it arrives: each regular file whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from holdfast.wire import ArchiveReceipt
from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.archives.received_file import ReceivedFile
from tornado_app.files.archives.small_members import SMALL, SmallMembers
from tornado_app.files.buffers import POOL
from tornado_app.files.published.decisions import info
from tornado_app.files.store.interface import ABSENT, ANYTHING, FileStat, PlacedFile, Precondition
from tornado_app.files.uploads.service import Uploads
from tornado_app.files.uploads.small_files.requests import SmallUploads
from tornado_app.protocols.archives.tar_reader import OtherFormatError, TarError, TarMember, TarReader

MOST_REFUSED = 500
"""Members that the answer names as refused."""
MOST_LANDED = 10_000
"""Files that the answer describes, if it is asked to."""
_MOST_OWN = 100_000
_LONGEST = 300  # characters of a name in the answer
_BY_NAME = (problems.BAD_NAME, problems.FILE_EXISTS, problems.PRECONDITION_FAILED, problems.TOO_LARGE)


class TarReceiver:
    """Receives one archive: `feed` it, then `finish`; or `abandon` it. What has landed stays in any case.

    Lives on the event loop. Each piece of the body is one call to a worker thread, which parses it and publishes what
    is whole.
    """

    def __init__(
        self,
        uploads: Uploads,
        small: SmallUploads,
        run: Callable[..., Awaitable[Any]],
        folder: str,
        *,
        absent: bool,
        describe: bool,
    ) -> None:
        """`absent`: replace no file. `describe`: describe what has landed in the receipt."""
        self._uploads = uploads
        self._small = SmallMembers(small)
        self._run = run
        self._folder = folder
        self._absent = absent
        self._describe = describe
        self._reader = TarReader()
        self._file: ReceivedFile | None = None
        self._name = ""
        self._lock = asyncio.Lock()
        self._published: list[FileStat] = []
        self._own: dict[str, str] = {}  # with `absent`: entity tags of what this archive itself has published
        self._is_abandoned = False
        self._files = self._bytes = self._refused_count = 0
        self._refused: dict[str, str] = {}
        self._landed: list[FileStat] = []

    @property
    def is_busy(self) -> bool:
        """Return whether a piece is being written."""
        return self._lock.locked()

    async def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the archive.

        Raises:
            ProblemError: BAD_BODY, UNSUPPORTED_MEDIA_TYPE for another format, NO_SPACE.
        """
        async with self._lock:
            if self._is_abandoned:
                return
            try:
                await self._run(self._take, data)
            except TarError as error:
                raise self._problem(error) from None
            except problems.ProblemError as error:
                raise error.kind(error.detail, headers=error.headers, **self._counts(), **error.members) from None
            finally:
                POOL.give([data])
                self._announce()
        metrics.RECEIVED.inc(len(data))

    async def finish(self) -> ArchiveReceipt:
        """Return the receipt of an archive whose body has ended. Raises BAD_BODY, UNSUPPORTED_MEDIA_TYPE."""
        try:
            self._reader.finish()
        except TarError as error:
            await self.abandon()
            raise self._problem(error) from None
        landed = [info(stat) for stat in self._landed]
        return ArchiveReceipt(self._folder, self._files, self._bytes, self._refused_count, self._refused, landed)

    async def abandon(self) -> None:
        """Remove what has come of a member that is not whole, after what is being written."""
        async with self._lock:
            self._is_abandoned = True
            file, self._file = self._file, None
            self._small.drop()
            if file is not None:
                await self._run(file.discard)

    # -- in a worker thread

    def _take(self, data: bytes | memoryview) -> None:
        self._uploads.limits.check_space(0)
        try:
            self._take_events(data)
        finally:
            self._publish_small()

    def _take_events(self, data: bytes | memoryview) -> None:
        for event in self._reader.feed(data):
            if isinstance(event, TarMember):
                self._begin(event)
            elif isinstance(event, memoryview):
                if self._file is not None:
                    self._file.write(event)
                elif self._small.is_open:
                    self._small.write(event)
            elif self._small.is_open:
                self._small.end()
                if self._small.is_full:
                    self._publish_small()
            elif self._file is not None:
                file, self._file = self._file, None
                try:
                    stat = file.publish()
                except problems.ProblemError as error:
                    self._refuse(self._name, error)
                else:
                    self._count(stat)

    def _begin(self, member: TarMember) -> None:
        if member.is_folder:
            return
        raw = member.name.decode("utf-8", "backslashreplace")
        reason = member.refused or _flaw(member.name)
        if reason:
            self._refuse_because(raw, f"it is {member.refused}" if member.refused else reason)
            return
        relative = "/".join(segment for segment in raw.split("/") if segment not in ("", "."))
        name = f"{self._folder}/{relative}" if self._folder and relative else relative
        if self._small.holds(name):
            self._publish_small()  # of one name, the last one wins
        self._name = raw
        own = self._own.get(name)
        if member.size <= SMALL:
            try:
                self._uploads.check_length(member.size)
            except problems.ProblemError as error:
                self._refuse(raw, error)
            else:
                self._small.begin(raw, name, self._expected(own))
            return
        expect = self._expected(own)
        try:
            staged = self._uploads.stage(name, member.size, expect)
        except problems.ProblemError as error:
            self._refuse(raw, error)
        else:
            self._file = ReceivedFile(staged, name, expect, blocks=self._uploads.checks_blocks)

    def _expected(self, own: str | None) -> Precondition:
        """Return the condition for a member; `own` is the entity tag of what this archive has published as it."""
        if not self._absent:
            return ANYTHING
        return ABSENT if own is None else Precondition(etags=frozenset({own}))

    def _publish_small(self) -> None:
        """Publish the small members that are whole. Raises what refuses all, once the others are counted."""
        failure: Exception | None = None
        for raw, result in self._small.publish():
            if isinstance(result, PlacedFile):
                self._count(result.stat)
            elif isinstance(result, problems.ProblemError) and result.kind in _BY_NAME:
                self._refuse(raw, result)
            else:
                failure = failure or result
        if failure is not None:
            raise failure

    def _count(self, stat: FileStat) -> None:
        self._files += 1
        self._bytes += stat.size
        self._published.append(stat)
        if self._absent and len(self._own) < _MOST_OWN:
            self._own[stat.name] = stat.etag
        if self._describe and len(self._landed) < MOST_LANDED:
            self._landed.append(stat)

    def _refuse(self, name: str, error: problems.ProblemError) -> None:
        """Refuse one member; raise what refuses all."""
        if error.kind not in _BY_NAME:
            raise error
        exists = error.kind is problems.FILE_EXISTS
        self._refuse_because(name, "there is a file of this name already" if exists else error.detail)

    def _refuse_because(self, name: str, reason: str) -> None:
        self._refused_count += 1
        if len(self._refused) < MOST_REFUSED:
            self._refused[name[:_LONGEST]] = reason[:_LONGEST]

    # -- on the loop

    def _announce(self) -> None:
        published, self._published = self._published, []
        for stat in published:
            self._uploads.announce(stat, "put")

    def _counts(self) -> dict[str, Any]:
        return {
            "files": self._files,
            "bytes": self._bytes,
            "refused_count": self._refused_count,
            "refused": self._refused,
        }

    def _problem(self, error: TarError) -> problems.ProblemError:
        if isinstance(error, OtherFormatError):
            return problems.UNSUPPORTED_MEDIA_TYPE(
                f"{error}. Send the tar archive itself, uncompressed", headers={"Accept-Encoding": "identity"}
            )
        return problems.BAD_BODY(
            f"{error}. {self._files} files of it have landed: send the others again", **self._counts()
        )


def _flaw(name: bytes) -> str:
    """Return why a member's name is refused before it is known which file it would be; "" for a good one."""
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return "its name is not UTF-8"
    if name.startswith(b"/"):
        return "its name is absolute"
    if b".." in name.split(b"/"):
        return "its name has a .. segment"
    return ""
