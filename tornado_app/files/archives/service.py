"""Archives of folders for HTTP: GET and HEAD with their preconditions and ranges, and PUT of a tar."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tornado_app import problems
from tornado_app.files import names
from tornado_app.files.archives import plan as archive_plan
from tornado_app.files.archives.plan import ArchivePlan
from tornado_app.files.archives.reading import ArchiveReader
from tornado_app.files.archives.receiving import TarReceiver
from tornado_app.files.published import decisions
from tornado_app.files.store.interface import FileStat, FileStore
from tornado_app.files.uploads.service import Uploads
from tornado_app.files.uploads.small_files.requests import SmallUploads
from tornado_app.protocols.archives.layout import FORMATS
from tornado_app.protocols.ranges import Multipart, Span

KEPT_MEMBERS = 200_000
"""Members of all plans that are kept for those who resume: each holds the CRC-32 of what was read before."""

_UNSURE_NS = 1_000_000_000
"""Age of the newest member from which a plan is kept: a younger one may be edited once more by hand, within the tick of
its file system's clock, and have the same entity tag."""

_NEVER_NS = 1 << 93
"""A time that no date in a header comes up to: a file that was removed leaves no time behind, so that only the entity
tag says whether an archive is the same. Conditions by date never find it unchanged."""


@dataclass(frozen=True, slots=True)
class ArchiveAnswer:
    """The answer to a GET or HEAD of an archive. `spans` is None for the whole."""

    status: int
    stat: FileStat
    media_type: str
    plan: ArchivePlan
    spans: list[Span] | None = None


class Archives:
    """The service behind `/v1/archives`."""

    def __init__(
        self, store: FileStore, uploads: Uploads, small: SmallUploads, run: Callable[..., Awaitable[Any]]
    ) -> None:
        self._store = store
        self._uploads = uploads
        self._small = small
        self._run = run
        self._kept: OrderedDict[str, ArchivePlan] = OrderedDict()
        self._latest: dict[tuple[str, str], ArchivePlan] = {}  # of the kept ones, by folder and format

    async def get(self, folder: str, format: str, headers: Mapping[str, str]) -> ArchiveAnswer:
        """Return the answer to a GET of an archive of all files below `folder` with these headers.

        Raises:
            ProblemError: NO_SUCH_FILE when there are none; PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE.
        """
        return await self._respond("GET", folder, format, headers)

    async def head(self, folder: str, format: str, headers: Mapping[str, str]) -> ArchiveAnswer:
        """Return the answer to a HEAD: that of a GET without a Range. Raises as `get`."""
        return await self._respond("HEAD", folder, format, headers)

    def reader(self, answer: ArchiveAnswer, framing: Multipart | None, *, zero_copy: bool) -> ArchiveReader:
        """Return what reads the bytes of an answer to a GET; its methods block."""
        spans = [Span(0, answer.stat.size - 1)] if answer.spans is None else answer.spans
        return ArchiveReader(self._store, answer.plan, spans, framing, zero_copy=zero_copy)

    def receive(self, folder: str, headers: Mapping[str, str], *, describe: bool) -> TarReceiver:
        """Begin to receive a tar archive whose members become files below `folder`, "" for the top.

        Raises:
            ProblemError: BAD_NAME; BAD_REQUEST for a precondition that can't be applied to many files.
        """
        if folder:
            names.check(folder)
        for field in ("If-Match", "If-Unmodified-Since"):
            if field in headers:
                raise problems.BAD_REQUEST(
                    f"{field} is about one file, and an archive holds many. Send If-None-Match: * to replace none"
                )
        unless = headers.get("If-None-Match")
        if unless is not None and unless.strip() != "*":
            raise problems.BAD_REQUEST(
                f"If-None-Match is about one version of one file, not {unless[:100]!r}. Send * to replace no file"
            )
        return TarReceiver(self._uploads, self._small, self._run, folder, absent=unless is not None, describe=describe)

    async def _respond(self, method: str, folder: str, format: str, headers: Mapping[str, str]) -> ArchiveAnswer:
        plan = await self._plan(folder, format)
        stat, media_type = plan.stat, FORMATS[format].MEDIA_TYPE
        compared = replace(stat, modified_ns=_NEVER_NS)
        if method == "HEAD":
            return ArchiveAnswer(decisions.status_of(method, stat.name, headers, compared), stat, media_type, plan)
        decided = decisions.plan(stat.name, decisions.relevant(headers), compared)
        return ArchiveAnswer(decided.status, stat, media_type, plan, decided.spans)

    async def _plan(self, folder: str, format: str) -> ArchivePlan:
        """Return the plan of an archive as its files are now: a kept one if it is that. Raises as `archive_plan.make`.

        Most archives are asked for again soon: by a HEAD before the GET, or to be resumed.
        """
        latest = self._latest.get((folder, format))
        if latest is not None and await self._run(archive_plan.is_current, self._store, latest):
            return self._keep(latest)
        made: ArchivePlan = await self._run(archive_plan.make, self._store, folder, format)
        return self._keep(made)

    def _keep(self, made: ArchivePlan) -> ArchivePlan:
        """Return the plan that was made before for the same archive, or this one, and keep it for a while."""
        if time.time_ns() - made.stat.modified_ns < _UNSURE_NS:
            return made
        key = f"{made.stat.etag}{made.layout.format.SUFFIX}{made.folder}"
        plan = self._kept.setdefault(key, made)
        plan.take_stamps(made)
        self._kept.move_to_end(key)
        self._latest[_place(plan)] = plan
        while sum(len(plan.layout) for plan in self._kept.values()) > KEPT_MEMBERS and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            if self._latest.get(_place(oldest)) is oldest:
                del self._latest[_place(oldest)]
        return plan


def _place(plan: ArchivePlan) -> tuple[str, str]:
    return plan.folder, plan.layout.format.SUFFIX.removeprefix(".")


def check_format(name: str) -> tuple[str, str]:
    """Return the folder and the format that a name such as `data/raw.zip` stands for. Raises NOT_FOUND."""
    folder, dot, format = name.rpartition(".")
    if not dot or format not in FORMATS:
        raise problems.NOT_FOUND(
            f"{name[:200]!r} is no archive. Ask for the name of a folder and .zip or .tar, such as data.zip"
        )
    return folder.removesuffix("/"), format
