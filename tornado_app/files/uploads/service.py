"""Uploads in the making: created, written by one request at a time, and published. All protocols meet here.

Lives on the event loop; whatever touches the disk runs in a worker thread. One request at a time holds the lease on an
upload, and the newest one wins: the older one is asked to release it, and its bytes are written before the newer goes
on. `UploadRegistry` finds uploads, `Writer` writes, `Publication` makes files, `Concatenation` joins parts.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar, cast

import msgspec

from holdfast.wire import Event, UploadInfo, UploadPage
from tornado_app import problems
from tornado_app.clocks import steady
from tornado_app.files import metrics
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store.hashing import DigestChoice
from tornado_app.files.store.interface import FileStat, FileStore, Precondition, StagedData
from tornado_app.files.uploads.block_replacement import BlockReplacement
from tornado_app.files.uploads.concatenation import Concatenation, ConcatenationPorts
from tornado_app.files.uploads.digest_check import Check
from tornado_app.files.uploads.events import UploadEvents
from tornado_app.files.uploads.expiry import Lifetimes
from tornado_app.files.uploads.lease.interface import UploadLeases, never
from tornado_app.files.uploads.lease.memory import MemoryLeases
from tornado_app.files.uploads.limits import SizeLimits
from tornado_app.files.uploads.publication import Publication, Removal
from tornado_app.files.uploads.registry import UploadRegistry, find_left
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.files.uploads.writer import Writer, WriterContext
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.files")

P = ParamSpec("P")
T = TypeVar("T")


class Uploads:
    """Every upload of this server."""

    def __init__(
        self,
        settings: Settings,
        store: FileStore,
        executor: BlockingExecutor,
        emit: Callable[[Event], None] = lambda event: None,
        leases: UploadLeases | None = None,
    ) -> None:
        """`leases` says who may write; by default this server alone."""
        self.durable = settings.durable
        self._digests = DigestChoice.wanted(check=settings.check_uploads, sha256=settings.digest_uploads)
        self.checks_blocks = self._digests.blocks  # their digests are made
        self.leases = MemoryLeases() if leases is None else leases
        self.events = UploadEvents(emit)
        self.limits = SizeLimits(settings, store)
        self.registry = registry = UploadRegistry(settings, store, executor, self.limits)
        self.lifetimes = Lifetimes(store, executor, settings.upload_expiry)
        self.concatenation = Concatenation(
            ConcatenationPorts(registry, self.limits, self.lifetimes, executor, self.acquire, self.publish, self.spawn)
        )
        self.blocks = BlockReplacement(self.acquire, self.leases, executor)
        self.get, self.find = registry.get, registry.find
        self.set_length, self.describe_whole = registry.set_length, registry.describe_whole
        self.update_record = registry.update_record
        self.check_length, self.expires = self.limits.check_length, self.lifetimes.expires
        self._store = store
        self._executor = executor
        self._publication = Publication(executor, self.events)
        self._writing = WriterContext(
            executor,
            self.leases,
            self.durable,
            self.limits.check_space,
            self._on_written,
            registry.mark_broken,
            registry.reload,
        )
        self._removal = Removal(self._writing, self._publication, registry, self.events)
        self.cancel, self.cancel_quietly = self._removal.cancel, self._removal.cancel_quietly
        self._tasks: set[asyncio.Task[Any]] = set()

    def __iter__(self) -> Iterator[Upload]:
        return iter(self.registry)

    # -- life of the service

    async def open(self) -> None:
        """Find the uploads that an earlier server left, and publish or join those that lacked nothing else."""
        found, seen = await self.run(find_left, self._store)
        await self.lifetimes.start(seen, [staged for _, _, staged in found])
        for id, record, staged in found:
            self._add(id, record, staged)
        for upload in self:
            if upload.record.parts and not upload.complete:
                self.concatenation.wait(upload)
            self.spawn(self.finish_quietly(upload))

    async def close(self) -> None:
        """Wait until every writer has released its lease; the bytes that it brought are kept."""
        self.leases.release_all()
        await self.wait_for_tasks()
        await self.lifetimes.note_time(0.0)
        await self.run(self._close_all)
        self.registry.close()

    async def wait_for_tasks(self) -> None:
        """Return when nothing runs in the background."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _close_all(self) -> None:
        for upload in self:
            upload.staged.close()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Call a blocking function in a worker thread."""
        return self._executor.run(function, *args, **kwargs)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that `close` waits for."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- creation and look-up

    async def create(self, record: UploadRecord, id: str | None = None, *, client: str = "") -> Upload:
        """Return a new, empty upload. Without a name it will be published under its id, unless it is a part.

        `client` identifies the sender; "" is the server itself.

        Raises:
            ProblemError: BAD_NAME, FILE_EXISTS, CONFLICT, TOO_LARGE, TOO_MANY, NO_SPACE; then nothing was made.
        """
        id = id or secrets.token_hex(16)
        if record.name == "":
            record = msgspec.structs.replace(record, name=id)
        self.check_length(record.length)
        self.registry.reserve(id, client)
        try:
            upload = self._add(id, record, await self.run(self.registry.create, id, record), client)
        except BaseException:
            self.registry.vacate(id)
            raise
        self._keep_open(upload)
        metrics.CREATED.labels(record.kind).inc()
        self.events.of_upload(upload, "created")
        return upload

    def _add(self, id: str, record: UploadRecord, staged: StagedData, client: str = "") -> Upload:
        digests = DigestChoice(blocks=False, sha256="none") if record.kind == "blocks" else self._digests
        upload = Upload(id, record, staged, digests=digests, most=self.limits.most, client=client)
        self.lifetimes.begin(upload)
        self.registry.add(upload)
        return upload

    def info(self, upload: Upload) -> UploadInfo:
        """Return an upload as it crosses the wire."""
        return upload.info(self.expires(upload))

    def page(self, after: str = "", limit: int = 100) -> UploadPage:
        """Return at most `limit` uploads in the order of their ids, from the one after `after`."""
        found = self.registry.after(after, limit + 1)
        items = [self.info(upload) for upload in found[:limit]]
        return UploadPage(items, next=items[-1].id if len(found) > limit else None)

    # -- writing

    async def write(
        self,
        upload: Upload,
        offset: int,
        on_release_requested: Callable[[], None] | None = None,
        check: Check | None = None,
        *,
        is_lost: Callable[[], bool] = never,
    ) -> Writer:
        """Return a writer that appends at `offset`; `finish` or `abandon` it after use.

        `on_release_requested` is called when a newer request wants the upload; it ends the connection. `is_lost`
        returns whether the client has gone.

        Raises:
            ProblemError: OFFSET_MISMATCH, with the offset where the upload stands, LOCKED when a still newer request
                took over, NO_SUCH_UPLOAD, BROKEN.
        """
        if upload.record.kind == "blocks":
            raise problems.CONFLICT(
                f"the upload {upload.id!r} takes whole blocks. PUT them to /v1/block-uploads/{upload.id}/blocks/FIRST"
            )
        writer = await self.acquire(upload, on_release_requested, check, is_lost=is_lost)
        if offset != writer.received:
            writer.release()
            raise problems.OFFSET_MISMATCH(
                f"the upload stands at byte {upload.offset}, not at {offset}. Go on from there",
                bytes_read=upload.offset,
                **{"expected-offset": upload.offset, "provided-offset": offset},  # type: ignore[arg-type]
            )
        if offset:
            metrics.RESUMES.inc()
        return writer

    async def acquire(
        self,
        upload: Upload,
        on_release_requested: Callable[[], None] | None = None,
        check: Check | None = None,
        *,
        is_lost: Callable[[], bool] = never,
    ) -> Writer:
        """Return a writer that holds the lease on an upload, at whatever offset that stands. Raises as `write`."""
        writer = Writer(self._writing, upload, on_release_requested, check)
        await writer.acquire(is_lost)
        if upload.removed or upload.record.broken:
            writer.release()
            self.registry.check_usable(upload)
        self._keep_open(upload)
        return writer

    def current_writer(self, upload: Upload) -> Writer | None:
        """Return the writer that holds the lease on an upload; None while nobody on this server does."""
        return cast(Writer | None, self.leases.holder(upload.id))

    async def request_release(self, upload: Upload, is_lost: Callable[[], bool] = never) -> None:
        """Return when nobody writes any more: the offset is then final until the next request writes.

        Any number may wait at once. An upload that lacks only its publication, or the joining of its parts, gets it
        first; if that is refused, the refusal is logged. Left alone are an upload in one request, which can't be
        resumed, and one by blocks, which has no offset.

        Raises:
            ProblemError: NO_SUCH_UPLOAD when it was removed meanwhile, BROKEN.
        """
        if not upload.record.is_one_request and upload.record.kind != "blocks":
            if await self.leases.request_release(upload.id, is_lost):
                await self.registry.reload(upload)
            await self.concatenation.join_quietly(upload)
            while upload.is_ready_to_publish and (writer := self.current_writer(upload)) and writer.is_internal:
                if is_lost():
                    break  # the wait would end at once, again and again, and nothing else would run
                await self.leases.request_release(upload.id, is_lost)  # another is about to publish it
            await self.finish_quietly(upload)
        self.registry.check_usable(upload)

    def _on_written(self, upload: Upload, before: int) -> None:
        """Count bytes that were written, and emit progress."""
        upload.idle_since, upload.moved_at = self.lifetimes.clock.now(), steady()
        received = upload.staged.offset - before
        if received > 0:
            metrics.RECEIVED.inc(received)
        self.events.of_progress(upload)

    # -- inside another request

    def stage(self, name: str, length: int, expect: Precondition) -> StagedData:
        """Return staged bytes for a file that a worker thread receives in one go, inside another request. Blocks.

        Raises:
            ProblemError: TOO_LARGE, BAD_NAME, FILE_EXISTS, PRECONDITION_FAILED, NO_SPACE.
        """
        self.check_length(length)
        only = None if expect.etags is None else sorted(expect.etags)
        record = UploadRecord(
            "put", name, time.time(), length=length, overwrite=not expect.absent, only=only, present=expect.present
        )
        return self.registry.create(secrets.token_hex(16), record)

    def announce(self, stat: FileStat, kind: str) -> None:
        """Emit the event of a file that was published inside another request, and count it."""
        self._publication.announce(stat, kind)

    # -- the end of a request

    async def publish(self, upload: Upload) -> None:
        """Publish an upload if it lacks nothing else. Raises what `finish` raises."""
        if upload.is_ready_to_publish:
            await self.finish(await self.acquire(upload))

    async def finish(self, writer: Writer, *, last: bool = False) -> Upload:
        """Write the rest of a request whose body is whole, publish the upload if nothing is missing, and release it.

        `last` says that the upload ends here.

        Raises:
            ProblemError: what `Writer.finish` and `StagedData.publish` raise, or INCONSISTENT_LENGTH when it can't end
                here; the bytes are kept.
        """
        upload = writer.upload
        try:
            ends_here = last and upload.record.length is None
            shows = upload.record.in_view and not ends_here and not upload.has_length(writer.received)
            await writer.finish(self._publication.exposure(upload) if shows else None)
            if ends_here:
                await self.set_length(upload, upload.offset)
            if upload.has_all and not upload.complete and (last or upload.is_ready_to_publish):
                await self._publication.publish(upload)
                if not upload.record.is_kept:  # the file alone says now how it stands
                    self._removal.forget(upload)
            if last and not upload.has_all:
                raise problems.INCONSISTENT_LENGTH(
                    f"the upload can't end at byte {upload.offset} of {upload.record.length}. Send the rest",
                    bytes_read=upload.offset,
                )
        finally:
            if writer.failure is not None:
                await self._end_overrun(writer)
            writer.release()
            await self._clean_up(upload)
        return upload

    async def _end_overrun(self, writer: Writer) -> None:
        """Mark an upload of the IETF draft broken when its content went past its length (section 4.4)."""
        upload = writer.upload
        if writer.overran and upload.record.kind == "draft" and not upload.broken:
            await self.registry.mark_broken(upload, f"its content went past its length of {upload.record.length} bytes")

    async def abandon(self, writer: Writer, why: str) -> None:
        """Keep the bytes of a request that was cut, unless nobody can resume the upload, and release it.

        When only the response was still to come, the upload is finished all the same.
        """
        if writer.ended:
            return  # whoever has ended it does the rest
        await writer.abandon(why)
        await self._end_overrun(writer)
        await self._clean_up(writer.upload)
        if writer.failure is None:
            await self.finish_quietly(writer.upload)

    async def roll_back(self, writer: Writer) -> None:
        """Remove the bytes of a request whose body is invalid; also the upload, if it was created for the request.

        Raises:
            ProblemError: BROKEN when the bytes can't be removed.
        """
        upload = writer.upload
        try:
            await writer.roll_back("the body is not what it says")
        finally:
            if writer.creates_upload and not writer.release_requested and not upload.removed:
                await self.cancel_quietly(upload)

    async def finish_quietly(self, upload: Upload) -> None:
        """Publish an upload that lacks nothing else. A refusal is logged; whoever appends gets it as the answer."""
        if not upload.is_ready_to_publish or self.leases.holder(upload.id) is not None:
            return
        try:
            await self.publish(upload)
        except problems.ProblemError as error:
            log.warning("upload %s can't be published as %r: %s", upload.id, upload.record.name, error.detail)
        except OSError:
            log.exception("upload %s can't be published as %r", upload.id, upload.record.name)

    async def _clean_up(self, upload: Upload) -> None:
        """End a request: emit its progress, remove an upload that nobody can resume, join what waited for a part."""
        if upload.removed:
            return
        is_complete = upload.complete
        if not is_complete:
            self.events.of_progress(upload, is_pause=True)
        if upload.record.is_one_request:
            await self.cancel_quietly(upload)
        is_whole_part = is_complete and upload.record.name is None
        if is_whole_part and self.registry.takes_place(upload.id):
            self.events.of_upload(upload, "finished")  # a part is never published
        self.registry.recount(upload)
        if is_whole_part:
            self.concatenation.part_is_complete(upload)

    # -- idle uploads

    async def expire(self, upload: Upload) -> None:
        """End an upload that has expired. A file that grew in view is closed as it stands: its users see it."""
        if upload.record.in_view and not upload.complete and not upload.broken:
            await self.finish(await self.acquire(upload), last=True)
        else:
            await self.cancel(upload, expired=True)

    def _keep_open(self, upload: Upload) -> None:
        """Keep the descriptors of the uploads written to last open, and close older ones."""
        idle = self.registry.keep_open(upload, self.leases)
        if idle is not None:
            self.spawn(self._removal.close(idle))
