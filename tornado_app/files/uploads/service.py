"""Uploads in the making: who may write, what is kept, and when one becomes a file. All ways in meet here.

This lives on the event loop; every touch of the disk is a trip to a worker thread. An upload has one writer at a time
and the newest request wins: it tells the older one to let go, waits until that one's bytes are down, and goes on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import msgspec

from holdfast.wire import Event, UploadInfo, UploadPage
from tornado_app import problems
from tornado_app.clocks import AgeClock, steady
from tornado_app.files import metrics, workspace
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store.interface import FileStat, FileStore, GrowsInView, StagedData
from tornado_app.files.uploads.concatenation import Concatenation
from tornado_app.files.uploads.events import UploadEvents
from tornado_app.files.uploads.hashing import digest_of
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.files.uploads.writer import Check, Writer
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.files")

_OPEN = 128  # uploads whose descriptors stay open while nobody writes
_RETRY_S = 10  # after which one of too many uploads may have ended
_SEE_EVERY = 600.0  # seconds after which it is noted how late it is
_EXPIRED = 10_000  # ids of expired uploads that are remembered
EMPTY_EXPIRY_S = 900.0
"""How long an upload without a byte, or one that can't go on, is kept at most: it holds a place, and nothing else."""

JOINED_EXPIRY_S = 3600.0
"""What a part is kept at most, once it has become part of a file: a client may use it again."""

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
    ) -> None:
        self.durable = settings.durable
        self.digests = settings.digest_uploads  # the SHA-256 of each is made as it comes
        self.writers = 0  # how many there are at once
        self._settings = settings
        self._store = store
        self._executor = executor
        self.events = UploadEvents(emit)
        self._all: dict[str, Upload] = {}
        self._making: dict[str, str] = {}  # whose they are, by id
        self._per_client: Counter[str] = Counter()
        self._open: OrderedDict[str, Upload] = OrderedDict()
        self._expired: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.clock = AgeClock(None)
        self._seen = 0.0
        self.concatenation = Concatenation(self)

    # -- life of the service

    async def open(self) -> None:
        """Find the uploads that an earlier server left."""
        found, seen = await self.run(self._find)
        if seen is None and found:  # by an earlier version, which did not note it
            seen = min(time.time(), max(staged.modified for _, _, staged in found))
        self.clock = AgeClock(seen)
        for id, record, staged in found:
            self._add(id, record, staged)
        await self.see()
        for upload in self:
            if upload.record.parts and not upload.complete:
                self.concatenation.wait(upload)

    async def close(self) -> None:
        """Wait until every writer has let go; what they brought is kept."""
        for upload in self._all.values():
            if upload.writer is not None:
                upload.writer.request_release()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.see(at_least=0.0)
        await self.run(self._close_all)

    async def see(self, at_least: float = _SEE_EVERY) -> None:
        """Note now and then how late it is: a server that follows knows by it what it slept through."""
        now = self.clock.now()
        if now - self._seen >= at_least:
            self._seen = now
            try:
                await self.run(self._store.see, now)
            except (problems.ProblemError, OSError) as error:
                log.warning("the time could not be noted, uploads may be kept longer for it: %s", error)

    def _close_all(self) -> None:
        for upload in self._all.values():
            upload.staged.close()

    def _find(self) -> tuple[list[tuple[str, UploadRecord, StagedData]], float | None]:
        self._store.start()
        found = []
        for id in self._store.staged():
            if id.startswith(workspace.PREFIX):
                continue
            try:
                staged = self._store.load(id)
                staged.close()
                record = msgspec.json.decode(staged.info, type=UploadRecord)
            except (problems.ProblemError, msgspec.MsgspecError, OSError) as error:
                log.error("what is kept of upload %s can't be read, and is left as it is: %s", id, error)
                continue
            if record.is_one_request or (staged.published is not None and not record.is_kept):
                staged.discard()  # nobody will come back to it
            else:
                found.append((id, record, staged))
        return found, self._store.seen()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Call a blocking function in a worker thread."""
        return self._executor.run(function, *args, **kwargs)

    def spawn(self, work: Any) -> None:
        """Run a coroutine that `close` waits for."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- making and finding

    async def create(self, record: UploadRecord, id: str | None = None, *, client: str = "") -> Upload:
        """A new, empty upload. Without a name it will be published under its id, unless it is a part.

        `client` tells those who send apart; "" is the server itself.

        Raises:
            ProblemError: BAD_NAME, FILE_EXISTS, TOO_LARGE, TOO_MANY, NO_SPACE; then nothing was made.
        """
        id = id or secrets.token_hex(16)
        if record.name == "":
            record = msgspec.structs.replace(record, name=id)
        if id in self._all:
            raise problems.CONFLICT(f"there is an upload {id!r} already")
        self.check_length(record.length)
        if len(self._making) >= self._settings.max_uploads:
            raise problems.TOO_MANY(
                f"{len(self._making)} uploads are in the making, as many as this server takes (--max-uploads); "
                "finish or cancel one, or try again later",
                headers={"Retry-After": str(_RETRY_S)},
            )
        self._check_share(client)
        self._occupy(id, client)
        try:
            upload = self._add(id, record, await self.run(self._make, id, record), client)
        except BaseException:
            self._vacate(id)
            raise
        self._keep_open(upload)
        metrics.CREATED.labels(record.kind).inc()
        self.events.of_upload(upload, "created")
        return upload

    def _check_share(self, client: str) -> None:
        """Raises TOO_MANY for a client that has its share of the places."""
        count, most = self._per_client[client], self._settings.max_uploads_each
        if client and count >= most:
            raise problems.TOO_MANY(
                f"{count} uploads of yours are in the making, as many as one token at one address may have "
                "(--max-uploads-each); finish or cancel one, or try again later",
                headers={"Retry-After": str(_RETRY_S)},
            )

    def _occupy(self, id: str, client: str) -> None:
        self._making[id] = client
        self._per_client[client] += 1

    def _vacate(self, id: str) -> None:
        client = self._making.pop(id)
        self._per_client[client] -= 1
        if not self._per_client[client]:
            del self._per_client[client]

    def _make(self, id: str, record: UploadRecord) -> StagedData:
        if record.name is not None:
            record.expect.check(record.name, self._store.check_target(record.name))
        self.check_space(record.length or 0)
        return self._store.create(id, msgspec.json.encode(record))

    def _add(self, id: str, record: UploadRecord, staged: StagedData, client: str = "") -> Upload:
        most = self._settings.max_upload_size or None
        upload = Upload(id, record, staged, digest=self._settings.digest_uploads, most=most, client=client)
        upload.idle_since = self.clock.since(max(staged.modified, record.created))
        self._all[id] = upload
        self._recount(upload)
        return upload

    def get(self, id: str, *, broken: bool = False) -> Upload:
        """Raises NO_SUCH_UPLOAD, GONE for one that expired, and BROKEN for one that can't go on unless those count."""
        upload = self._all.get(id)
        if upload is not None:
            if not broken:
                self._check_usable(upload)
            return upload
        if id in self._expired:
            raise problems.GONE(f"the upload {id!r} has expired: create another")
        raise problems.NO_SUCH_UPLOAD(f"there is no upload {id[:128]!r}; it was cancelled, has expired or never was")

    def find(self, id: str) -> Upload | None:
        """The upload of this id, or None."""
        return self._all.get(id)

    def __iter__(self) -> Iterator[Upload]:
        return iter([*self._all.values()])

    def expires(self, upload: Upload) -> float:
        """When it will be removed unless bytes come, in seconds since the epoch."""
        return self.clock.on_the_wall(self._expires(upload))

    def is_expired(self, upload: Upload) -> bool:
        """Whether nobody has gone on with it for as long as it is kept, as far as servers were there to see."""
        return self._expires(upload) <= self.clock.now()

    def _expires(self, upload: Upload) -> float:
        """When that is, by the clock of uploads."""
        kept = self._settings.upload_expiry
        if upload.is_empty or upload.broken:
            kept = min(kept, EMPTY_EXPIRY_S)
        expires = upload.idle_since + kept
        return min(expires, upload.record.joined + JOINED_EXPIRY_S) if upload.record.joined else expires

    def info(self, upload: Upload) -> UploadInfo:
        """As it crosses the wire."""
        return UploadInfo(
            id=upload.id,
            name=upload.record.name or "",
            offset=upload.offset,
            length=upload.record.length,
            created=datetime.fromtimestamp(upload.record.created, UTC),
            expires=datetime.fromtimestamp(self.expires(upload), UTC),
            complete=upload.complete,
        )

    def page(self, after: str = "", limit: int = 100) -> UploadPage:
        """Uploads in the order of their ids, from the one after `after`."""
        ids = sorted(id for id in self._all if id > after)
        items = [self.info(self._all[id]) for id in ids[:limit]]
        return UploadPage(items, next=items[-1].id if len(ids) > limit else None)

    # -- writing

    async def write(
        self,
        upload: Upload,
        offset: int,
        on_release_requested: Callable[[], None] | None = None,
        check: Check | None = None,
        *,
        is_lost: Callable[[], bool] = lambda: False,
    ) -> Writer:
        """The right to append at `offset`, taken from whoever had it; `finish` or `abandon` it after use.

        `on_release_requested` is called when a newer request wants the upload; it ends the connection. `is_lost`
        returns whether the client has gone.

        Raises:
            ProblemError: OFFSET_MISMATCH, with where it stands; LOCKED when a still newer request took over.
        """
        writer = await self.acquire(upload, on_release_requested, check, is_lost=is_lost)
        if offset != upload.offset:
            writer.release()
            raise problems.OFFSET_MISMATCH(
                f"the upload stands at byte {upload.offset}, not at {offset}; go on from there",
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
        is_lost: Callable[[], bool] = lambda: False,
    ) -> Writer:
        """Make every other request let go of an upload, and keep it so until the writer is released."""
        await upload.lease.wait(is_lost)
        self._check_usable(upload)
        return self._grant(upload, on_release_requested, check)

    @staticmethod
    def _check_usable(upload: Upload) -> None:
        if upload.broken:
            raise problems.BROKEN(
                f"the upload {upload.id!r} can't go on: {upload.broken}; delete it and create another"
            )

    async def mark_broken(self, upload: Upload, why: str, error: BaseException | None = None) -> None:
        """Nothing but deleting an upload is possible from here on: its bytes are not what they are taken for."""
        upload.broken = why
        log.error("upload %s can't go on: %s", upload.id, why, exc_info=error)
        try:
            await self.update_record(upload, broken=why)
        except (problems.ProblemError, OSError):
            log.exception("that upload %s can't go on could not be written down", upload.id)
        self._recount(upload)

    def _grant(
        self, upload: Upload, on_release_requested: Callable[[], None] | None = None, check: Check | None = None
    ) -> Writer:
        """The right to write to an upload that nobody writes to. Raises NO_SUCH_UPLOAD."""
        if upload.removed:
            raise problems.NO_SUCH_UPLOAD(f"the upload {upload.id!r} is gone")
        upload.lease.writer = writer = Writer(self, upload, on_release_requested, check)
        self._keep_open(upload)
        return writer

    async def request_release(self, upload: Upload, is_lost: Callable[[], bool] = lambda: False) -> None:
        """Return when nobody writes any more: the offset is then true until the next request writes.

        Any number may wait at once. An upload that lacks only its publication, or the joining of its parts, gets it
        first; a refusal of that is no answer to the question, and is logged. What comes in one request can't be gone
        on with, and is left alone.

        Raises:
            ProblemError: NO_SUCH_UPLOAD when it was removed meanwhile.
        """
        if not upload.record.is_one_request:
            await upload.lease.settled(is_lost)
            await self.concatenation.join_quietly(upload)
            while upload.is_ready_to_publish and upload.writer is not None and upload.writer.is_internal:
                await upload.lease.settled(is_lost)  # another is about to publish it
            await self.finish_quietly(upload)
        self._check_usable(upload)
        if upload.removed:
            raise problems.NO_SUCH_UPLOAD(f"the upload {upload.id!r} is gone")

    async def publish(self, upload: Upload) -> None:
        """Make a file of an upload that lacks nothing else. Raises what `finish` raises."""
        if upload.is_ready_to_publish:
            await self.finish(await self.acquire(upload))

    async def finish(self, writer: Writer, *, last: bool = False) -> Upload:
        """The body of a request is whole: write it down, and publish the upload if nothing is missing. Releases.

        `last` says that the upload ends here.

        Raises:
            ProblemError: what `Writer.finish` and `StagedData.publish` raise, or INCONSISTENT_LENGTH when it can't end
                here; the bytes are kept.
        """
        upload = writer.upload
        try:
            await writer.finish()
            if last and upload.record.length is None:
                await self.set_length(upload, upload.offset)
            if upload.is_ready_to_publish or (last and upload.has_all and not upload.complete):
                await self._publish(upload)
            elif upload.record.in_view and upload.published is None:
                await self._show(upload)
            if last and not upload.has_all:
                raise problems.INCONSISTENT_LENGTH(
                    f"the upload can't end at byte {upload.offset} of {upload.record.length}; send the rest",
                    bytes_read=upload.offset,
                )
        finally:
            await self._note_overrun(writer)
            writer.release()
            await self._tidy(upload)
        return upload

    async def _note_overrun(self, writer: Writer) -> None:
        """Content that went past the length while it came ends an upload by the draft for good (section 4.4)."""
        upload = writer.upload
        if writer.overran and upload.record.kind == "draft" and not upload.broken:
            await self.mark_broken(upload, f"its content went past its length of {upload.record.length} bytes")

    async def abandon(self, writer: Writer, why: str) -> None:
        """The body of a request was cut: what came is kept, unless nobody could go on with it. Releases.

        When only the answer was still to come, the upload is finished all the same.
        """
        if writer.ended:
            return  # whoever has ended it does the rest
        await writer.abandon(why)
        await self._note_overrun(writer)
        await self._tidy(writer.upload)
        if writer.failure is None:
            await self.finish_quietly(writer.upload)

    async def roll_back(self, writer: Writer) -> None:
        """The body of a request is not what it says: the upload stands where it stood, or is gone if it began here.

        Raises:
            ProblemError: BROKEN when what came can't be taken back.
        """
        upload = writer.upload
        try:
            await writer.roll_back("the body is not what it says")
        finally:
            if writer.creates_upload and not writer.release_requested and not upload.removed:
                await self.cancel_quietly(upload)

    async def finish_quietly(self, upload: Upload) -> None:
        """Publish an upload that lacks nothing else; a refusal is logged, and told to whoever appends."""
        if not upload.is_ready_to_publish or upload.writer is not None:
            return
        try:
            await self.publish(upload)
        except problems.ProblemError as error:
            log.warning("upload %s can't be published as %r: %s", upload.id, upload.record.name, error.detail)
        except OSError:
            log.exception("upload %s can't be published as %r", upload.id, upload.record.name)

    async def _tidy(self, upload: Upload) -> None:
        """A request has ended, and with it what nobody can go on with; those who watch or wait get to know."""
        if not upload.complete and not upload.removed:
            self.events.of_progress(upload, is_pause=True)
        if upload.record.is_one_request and not upload.removed:
            await self.cancel_quietly(upload)
        is_whole_part = upload.record.name is None and upload.complete
        if is_whole_part and upload.id in self._making:
            self.events.of_upload(upload, "finished")  # it is never published, which would tell it
        self._recount(upload)
        if is_whole_part:
            self.concatenation.part_is_complete(upload)

    def check_length(self, length: int | None) -> None:
        """Raises TOO_LARGE for more than this server takes."""
        limit = self._settings.max_upload_size
        if length is not None and limit and length > limit:
            raise problems.TOO_LARGE(
                f"{length} bytes are more than the {limit} that this server takes (--max-upload-size)", max_size=limit
            )

    async def set_length(self, upload: Upload, length: int) -> None:
        """The length of an upload is known now. Raises INCONSISTENT_LENGTH for one that can't be, TOO_LARGE."""
        if upload.record.length == length:
            return
        if upload.record.length is not None or length < upload.offset:
            stands = f"{upload.record.length}" if upload.record.length is not None else f"at least {upload.offset}"
            raise problems.INCONSISTENT_LENGTH(
                f"the length can't be {length}: it is {stands}", bytes_read=upload.offset
            )
        self.check_length(length)
        await self.update_record(upload, length=length)

    async def update_record(self, upload: Upload, **changes: Any) -> None:
        """Change an upload's record, durably as everything about it."""
        record = msgspec.structs.replace(upload.record, **changes)
        await self.run(upload.staged.set_info, msgspec.json.encode(record))
        upload.record = record

    async def cancel(self, upload: Upload, *, expired: bool = False) -> None:
        """Forget an upload and its bytes; a file that it became stays."""
        was_complete = upload.complete
        await upload.lease.clear()
        if upload.removed:
            return  # another has removed it meanwhile
        writer = self._grant(upload)
        try:
            await self.run(self._discard, upload)
            self._forget(upload)
        finally:
            writer.release()
        if expired:
            self._expired[upload.id] = None
            if len(self._expired) > _EXPIRED:
                self._expired.popitem(last=False)
        if not was_complete:
            self.events.of_upload(upload, "expired" if expired else "cancelled")
            if expired:
                metrics.EXPIRED.inc()

    async def cancel_quietly(self, upload: Upload) -> None:
        """As `cancel`, where something else is to be told: a failure is logged; what is left goes at the next start."""
        try:
            await self.cancel(upload)
        except (problems.ProblemError, OSError):
            log.exception("upload %s could not be removed", upload.id)
            if upload.record.is_one_request:
                self._forget(upload)

    def _discard(self, upload: Upload) -> None:
        staged, name = upload.staged, upload.record.name
        if upload.record.in_view and name is not None and upload.published is None and isinstance(staged, GrowsInView):
            staged.withdraw(name)
        staged.discard()

    async def _publish(self, upload: Upload) -> None:
        stat = await self.run(self._publish_now, upload)
        metrics.PUBLISHED.labels(upload.record.kind).inc()
        metrics.DURATION.observe(max(0.0, time.time() - upload.record.created))
        self.events.of_upload(upload, "finished", sha256=stat.sha256, etag=stat.etag)
        self.events.of_file(stat.name, "published", size=stat.size, sha256=stat.sha256, etag=stat.etag)
        if not upload.record.is_kept:  # its status is the file's own
            try:
                await self.run(upload.staged.discard)
            except (problems.ProblemError, OSError):  # it is published all the same
                log.exception("what is left of upload %s could not be removed", upload.id)
            self._forget(upload)

    def _publish_now(self, upload: Upload) -> FileStat:
        name = upload.record.name
        if name is None:
            raise ValueError(f"{upload.id} is a part and never becomes a file")
        sha256 = upload.digest.result() if upload.digest is not None else None
        for algorithm, digest in upload.record.digests.items():
            known = bytes.fromhex(sha256) if sha256 and algorithm == "sha-256" else digest_of(upload.staged, algorithm)
            if known != digest:
                metrics.DIGEST_FAILURES.inc()
                raise problems.CHECKSUM_MISMATCH(
                    f"the {algorithm} of the whole upload is {known.hex()} and was to be {digest.hex()}: nothing was "
                    f"published; {'' if upload.record.is_one_request else 'cancel it and '}send it again"
                )
        return upload.staged.publish(name, sha256, upload.record.expect)

    async def _show(self, upload: Upload) -> None:
        staged, name = upload.staged, upload.record.name
        if isinstance(staged, GrowsInView) and name is not None:
            await self.run(staged.expose, name, upload.record.expect)

    # -- what the writers report

    def moved(self, upload: Upload, before: int) -> None:
        """Bytes went down, or back."""
        upload.idle_since, upload.moved = self.clock.now(), steady()
        if upload.offset > before:
            metrics.RECEIVED.inc(upload.offset - before)
        self.events.of_progress(upload)

    def check_space(self, size: int) -> None:
        """Refuse before the disk is full; blocks. Raises NO_SPACE."""
        free = self._store.free_space()
        reserve = self._settings.reserve_space
        if free is not None and free < size + reserve:
            raise problems.NO_SPACE(
                f"{free} bytes are free, and {reserve} of them stay so (--reserve-space); "
                "make room, then go on from where the upload stands"
            )

    def _recount(self, upload: Upload) -> None:
        is_making = not (upload.complete or upload.removed or upload.broken)
        if is_making != (upload.id in self._making):
            if is_making:
                self._occupy(upload.id, upload.client)
            else:
                self._vacate(upload.id)
        metrics.IN_THE_MAKING.set(len(self._making))

    def _forget(self, upload: Upload) -> None:
        upload.removed = True
        self._all.pop(upload.id, None)
        self._open.pop(upload.id, None)
        self._recount(upload)

    def _keep_open(self, upload: Upload) -> None:
        """Descriptors of the uploads written to last stay open; older ones are closed."""
        self._open[upload.id] = upload
        self._open.move_to_end(upload.id)
        if len(self._open) > _OPEN:
            idle = next((other for other in self._open.values() if other.writer is None), None)
            if idle is not None:
                del self._open[idle.id]
                # Held meanwhile: a descriptor must not be closed, and its number given away, while one writes to it.
                idle.lease.writer = writer = Writer(self, idle)
                self.spawn(self._close(writer))

    async def _close(self, writer: Writer) -> None:
        try:
            await self.run(writer.upload.staged.close)
        finally:
            writer.release()
