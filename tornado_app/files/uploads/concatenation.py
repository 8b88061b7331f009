"""Uploads made of others: parts that came in parallel are joined, in order, into one file (tus, concatenation)."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from tornado_app import problems
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store import powers
from tornado_app.files.uploads.expiry import Lifetimes
from tornado_app.files.uploads.limits import SizeLimits
from tornado_app.files.uploads.registry import UploadRegistry
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.files.uploads.writer import Writer

log = logging.getLogger("holdfast.files")


@dataclass(frozen=True, slots=True)
class ConcatenationPorts:
    """Parts of the service that concatenation uses: uploads and limits, leases, and publication."""

    registry: UploadRegistry
    limits: SizeLimits
    lifetimes: Lifetimes
    executor: BlockingExecutor
    acquire: Callable[[Upload], Awaitable[Writer]]
    publish: Callable[[Upload], Awaitable[None]]
    spawn: Callable[[Coroutine[Any, Any, None]], None]


class Concatenation:
    """Keeps which uploads wait for which parts. A whole is joined once its last part is complete."""

    def __init__(self, ports: ConcatenationPorts) -> None:
        self._ports = ports
        self._uploads = ports.registry
        self._waiting: defaultdict[str, set[str]] = defaultdict(set)

    def check(self, parts: Sequence[str]) -> None:
        """Raise BAD_REQUEST unless every id is that of a part, TOO_LARGE for more than this server takes."""
        if not parts:
            raise problems.BAD_REQUEST("the final upload names no part. Name at least one partial upload")
        for id in parts:
            part = self._uploads.find(id)
            if part is None or part.record.name is not None or part.broken:
                raise problems.BAD_REQUEST(
                    f"{id[:128]!r} is no partial upload of this server. Name uploads that were created as partial"
                )
        self._ports.limits.check_length(self.length(parts))

    def made(self, record: UploadRecord, etag: str) -> Upload | None:
        """Return the upload that became the file of this entity tag, with the same name and parts as `record`."""
        for other in self._uploads:
            if record.parts and (other.record.name, other.record.parts) == (record.name, record.parts):
                published = other.published
                if published is not None and published.etag == etag:
                    return other
        return None

    def length(self, parts: Sequence[str]) -> int | None:
        """Return the length of the whole; None while the length of a part is not known."""
        total = 0
        for id in parts:
            part = self._uploads.find(id)
            if part is None or part.record.length is None:
                return None
            total += part.record.length
        return total

    def wait(self, whole: Upload) -> None:
        """Join a whole, in the background, as soon as its parts are complete."""
        for id in whole.record.parts:
            self._waiting[id].add(whole.id)
        if self._is_ready(whole):
            self._ports.spawn(self.join_quietly(whole))

    async def begin(self, whole: Upload) -> None:
        """Join a whole now if its parts are complete, else as soon as they are. Raises what `join` raises."""
        if self._is_ready(whole):
            await self.join(whole)
        else:
            self.wait(whole)

    def part_is_complete(self, part: Upload) -> None:
        """Join the uploads that waited for this part alone."""
        for id in self._waiting.get(part.id, ()):
            whole = self._uploads.find(id)
            if whole is not None and self._is_ready(whole):
                self._ports.spawn(self.join_quietly(whole))

    def _is_ready(self, whole: Upload) -> bool:
        if not whole.record.parts or whole.record.length is not None:
            return False
        parts = [self._uploads.find(id) for id in whole.record.parts]
        return all(part is not None and part.complete for part in parts)

    async def join_quietly(self, whole: Upload) -> None:
        """Join as `join` does, and log a refusal instead of raising it."""
        try:
            await self.join(whole)
        except problems.ProblemError as error:
            log.warning("upload %s can't be joined: %s", whole.id, error.detail)
        except OSError:
            log.exception("upload %s can't be joined", whole.id)

    async def join(self, whole: Upload) -> None:
        """Join the parts and publish the whole, if all of them are complete.

        Raises:
            ProblemError: NO_SPACE, TOO_LARGE, LOCKED when a newer request wants the whole, and what
                `Uploads.finish` raises; the parts are kept.
        """
        if not self._is_ready(whole):
            return
        held = []
        try:
            for id in sorted({whole.id, *whole.record.parts}):  # in one order: two joins can't wait for each other
                held.append(await self._acquire(id, whole))  # noqa: PERF401 - those held so far are released below
            if not self._is_ready(whole):
                return  # another request has joined it meanwhile
            self._ports.limits.check_length(self.length(whole.record.parts))
            parts = [self._uploads.get(id) for id in whole.record.parts]
            await self._ports.executor.run(self._join, whole, parts)
            await self._uploads.update_record(whole, length=whole.offset)
        finally:
            for writer in held:
                writer.release()
        await self._ports.publish(whole)
        for id in dict.fromkeys(whole.record.parts):
            await self._record_joined(id, whole)
        for id in whole.record.parts:
            self._waiting[id].discard(whole.id)
            if not self._waiting[id]:
                del self._waiting[id]

    async def _acquire(self, id: str, whole: Upload) -> Writer:
        """Acquire the lease on the whole or a part. Others that want a part only join it, too: try until it is free."""
        while True:
            try:
                return await self._ports.acquire(self._uploads.get(id))
            except problems.ProblemError as error:
                if id == whole.id or error.kind is not problems.LOCKED:
                    raise

    async def _record_joined(self, id: str, whole: Upload) -> None:
        try:
            writer = await self._acquire(id, whole)
        except problems.ProblemError:
            return  # it has been removed meanwhile, and the file is there
        try:
            await self._uploads.update_record(writer.upload, joined=self._ports.lifetimes.clock.now())
        finally:
            writer.release()

    def _join(self, whole: Upload, parts: Sequence[Upload]) -> None:
        staged = whole.staged
        self._ports.limits.check_space(sum(part.offset for part in parts))
        powers.truncate(staged, 0)  # an earlier server may have joined something before it died
        whole.digest.cut(0)
        powers.join(staged, [part.staged for part in parts])
