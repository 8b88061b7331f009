"""Uploads in the making: who may write, what is kept, and when one becomes a file. All ways in meet here.

This lives on the event loop; every touch of the disk is a trip to a worker thread. An upload has one writer at a time
and the newest request wins: it tells the older one to let go, waits until that one's bytes are down, and goes on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any, Literal, ParamSpec, TypeVar

import msgspec

from holdfast.wire import Event, UploadInfo, UploadPage
from tornado_app import problems
from tornado_app.files import for_work, metrics
from tornado_app.files.running_digest import RunningDigest
from tornado_app.files.store import ABSENT, ANYTHING, Expect, FileStat, FileStore, GrowsInView, StagedData
from tornado_app.files.writer import Check, Writer
from tornado_app.settings import Settings

log = logging.getLogger("holdfast.files")

_OPEN = 128  # uploads whose descriptors stay open while nobody writes
_PROGRESS_S = 0.5

Kind = Literal["seed", "tus", "draft", "plain", "put"]
P = ParamSpec("P")
T = TypeVar("T")


class Record(msgspec.Struct, omit_defaults=True):
    """What is known of an upload besides its bytes; kept on disk beside them.

    `name` is None for a tus partial upload, which never becomes a file. `length` is None while it is not known.
    `in_view`: shown under its name as it grows. `sha256` is what the sender says the digest will be; `metadata` is as
    it was sent (tus). `only` and `present`: it may replace a file with one of these entity tags, or any file, but not
    come to be where there is none.
    """

    kind: Kind
    name: str | None
    created: float
    length: int | None = None
    overwrite: bool = False
    in_view: bool = False
    sha256: str = ""
    metadata: str = ""
    content_type: str = ""
    only: list[str] | None = None
    present: bool = False

    @property
    def expect(self) -> Expect:
        """What may stand under the name at the end."""
        if not self.overwrite:
            return ABSENT
        if self.only is None and not self.present:
            return ANYTHING
        return Expect(etags=None if self.only is None else frozenset(self.only), present=self.present)


class Upload:
    """One upload, as the event loop knows it."""

    def __init__(self, id: str, record: Record, staged: StagedData, *, digest: bool, limit: int | None) -> None:
        self.id = id
        self.record = record
        self.staged = staged
        self.digest = RunningDigest(staged) if digest else None
        self.writer: Writer | None = None
        self.ticket = 0
        self.gone = False
        self.modified = max(staged.modified, record.created)
        self.told = 0.0
        self._limit = limit

    @property
    def offset(self) -> int:
        """Bytes that are down."""
        return self.staged.offset

    @property
    def limit(self) -> int | None:
        """Where it has to end: its length, or what the server takes at most."""
        return self.record.length if self.record.length is not None else self._limit

    @property
    def published(self) -> FileStat | None:
        """The file that it became."""
        return self.staged.published

    @property
    def has_all(self) -> bool:
        """Every byte is there, whether it is a file yet or not."""
        return self.record.length is not None and self.offset >= self.record.length

    @property
    def complete(self) -> bool:
        """Nothing is left to do."""
        return self.published is not None or (self.record.name is None and self.has_all)


class Uploads:
    """Every upload of this server."""

    def __init__(
        self,
        settings: Settings,
        store: FileStore,
        executor: Executor,
        emit: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.durable = settings.durable
        self._settings = settings
        self._store = store
        self._executor = executor
        self._emit = emit
        self._all: dict[str, Upload] = {}
        self._making = 0
        self._open: OrderedDict[str, Upload] = OrderedDict()
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- life of the service

    async def open(self) -> None:
        """Find the uploads that an earlier server left, and finish those that only lacked the last step."""
        for id, record, staged in await self.run(self._find):
            if not self._add(id, record, staged).complete:
                self._count(1)
        for upload in [*self._all.values()]:
            if upload.has_all and not upload.complete:
                self.spawn(self._finish_quietly(upload))

    async def close(self) -> None:
        """Wait until every writer has let go; what they brought is kept."""
        for upload in self._all.values():
            if upload.writer is not None:
                upload.writer.oust()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.run(self._close_all)

    def _close_all(self) -> None:
        for upload in self._all.values():
            upload.staged.close()

    def _find(self) -> list[tuple[str, Record, StagedData]]:
        self._store.start()
        found = []
        for id in self._store.staged():
            if id.startswith(for_work.PREFIX):
                continue
            staged = self._store.load(id)
            staged.close()
            record = msgspec.json.decode(staged.info, type=Record)
            if record.kind == "put":
                staged.discard()  # nobody can come back to it
            else:
                found.append((id, record, staged))
        return found

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in a worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def spawn(self, work: Any) -> None:
        """Run a coroutine that `close` waits for."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- making and finding

    async def create(self, record: Record, id: str | None = None) -> Upload:
        """A new, empty upload.

        Raises:
            ProblemError: BAD_NAME, FILE_EXISTS, TOO_LARGE, TOO_MANY, NO_SPACE; then nothing was made.
        """
        id = id or secrets.token_hex(16)
        if id in self._all:
            raise problems.CONFLICT(f"there is an upload {id!r} already")
        limit = self._settings.max_upload_size
        if record.length is not None and limit and record.length > limit:
            raise problems.TOO_LARGE(
                f"{record.length} bytes are more than the {limit} that this server takes (--max-upload-size)",
                max_size=limit,
            )
        if self._making >= self._settings.max_uploads:
            raise problems.TOO_MANY(
                f"{self._making} uploads are in the making, as many as this server takes (--max-uploads); "
                "finish or cancel one, or try again later"
            )
        self._count(1)
        try:
            staged = await self.run(self._make, id, record)
        except BaseException:
            self._count(-1)
            raise
        upload = self._add(id, record, staged)
        metrics.CREATED.labels(record.kind).inc()
        self._tell(upload, "created")
        return upload

    def _make(self, id: str, record: Record) -> StagedData:
        if record.name is not None:
            record.expect.check(record.name, self._store.check_target(record.name))
        self.check_space(record.length or 0)
        return self._store.create(id, msgspec.json.encode(record))

    def _add(self, id: str, record: Record, staged: StagedData) -> Upload:
        upload = Upload(
            id, record, staged, digest=self._settings.digest_uploads, limit=self._settings.max_upload_size or None
        )
        self._all[id] = upload
        return upload

    def get(self, id: str) -> Upload:
        """Raises NO_SUCH_UPLOAD."""
        upload = self._all.get(id)
        if upload is None:
            raise problems.NO_SUCH_UPLOAD(
                f"there is no upload {id[:128]!r}; it was cancelled, has expired or never was"
            )
        return upload

    def find(self, id: str) -> Upload | None:
        """The upload of this id, or None."""
        return self._all.get(id)

    def expires(self, upload: Upload) -> float:
        """When it will be removed unless bytes come, in seconds since the epoch."""
        return upload.modified + self._settings.upload_expiry

    def info(self, upload: Upload) -> UploadInfo:
        """As it crosses the wire."""
        record = upload.record
        return UploadInfo(
            id=upload.id,
            name=record.name or "",
            offset=upload.offset,
            length=record.length,
            created=datetime.fromtimestamp(record.created, UTC),
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
        self, upload: Upload, offset: int, let_go: Callable[[], None] = lambda: None, check: Check | None = None
    ) -> Writer:
        """The right to append at `offset`, taken from whoever had it; release it after use.

        Raises:
            ProblemError: OFFSET_MISMATCH, with where it stands; CONFLICT when a still newer request took over.
        """
        writer = await self.hold(upload, let_go, check)
        if offset != upload.offset:
            writer.release()
            raise mismatch(offset, upload.offset)
        if offset:
            metrics.RESUMES.inc()
        return writer

    async def hold(
        self, upload: Upload, let_go: Callable[[], None] = lambda: None, check: Check | None = None
    ) -> Writer:
        """Make every other request let go of an upload, and keep it so until the writer is released."""
        upload.ticket = ticket = upload.ticket + 1
        while upload.writer is not None:
            upload.writer.oust()
            await upload.writer.released.wait()
            if ticket != upload.ticket:
                raise problems.CONFLICT("a newer request for this upload took over")
        if upload.gone:
            raise problems.NO_SUCH_UPLOAD(f"the upload {upload.id!r} is gone")
        upload.writer = writer = Writer(self, upload, let_go, check)
        self._keep_open(upload)
        return writer

    async def settled(self, upload: Upload) -> Upload:
        """The upload, with nobody writing: its offset is true until the next request writes.

        One that has every byte is finished first. Raises what `finish` raises.
        """
        if upload.writer is not None or (upload.has_all and not upload.complete):
            writer = await self.hold(upload)
            await self.finish(writer)
        return upload

    async def finish(self, writer: Writer, *, last: bool = False) -> Upload:
        """The body of a request is whole: write it down, and publish the upload if nothing is missing. Releases.

        `last` says that an upload of unknown length ends here.

        Raises:
            ProblemError: what `Writer.finish` and `StagedData.publish` raise; the bytes are kept.
        """
        upload = writer.upload
        try:
            await writer.finish()
            if last and upload.record.length is None:
                await self.declare(upload, upload.offset)
            if upload.has_all and not upload.complete:
                await self._publish(upload)
            elif upload.record.in_view and upload.published is None:
                await self._show(upload)
        finally:
            writer.release()
        return upload

    async def declare(self, upload: Upload, length: int) -> None:
        """The length of an upload is known now. Raises BAD_REQUEST for one that can't be, TOO_LARGE."""
        if upload.record.length == length:
            return
        if upload.record.length is not None or length < upload.offset:
            known = upload.record.length if upload.record.length is not None else f"at least {upload.offset}"
            raise problems.BAD_REQUEST(f"the length can't be {length}: it is {known}", length=upload.record.length)
        record = msgspec.structs.replace(upload.record, length=length)
        await self.run(upload.staged.set_info, msgspec.json.encode(record))
        upload.record = record

    async def cancel(self, upload: Upload) -> None:
        """Forget an upload and its bytes; a file that it became stays."""
        writer = await self.hold(upload)
        try:
            await self.run(self._discard, upload)
            self._forget(upload)
        finally:
            writer.release()
        self._tell(upload, "cancelled")

    def _discard(self, upload: Upload) -> None:
        staged, name = upload.staged, upload.record.name
        if upload.record.in_view and name is not None and upload.published is None and isinstance(staged, GrowsInView):
            staged.withdraw(name)
        staged.discard()

    async def _publish(self, upload: Upload) -> None:
        name = upload.record.name
        if name is None:
            return

        def publish() -> FileStat:
            sha256 = upload.digest.result() if upload.digest is not None else None
            if sha256 is not None and upload.record.sha256 not in ("", sha256):
                metrics.DIGEST_FAILURES.inc()
                raise problems.CHECKSUM_MISMATCH(
                    f"the upload should have SHA-256 {upload.record.sha256} and has {sha256}; cancel it, send it again"
                )
            return upload.staged.publish(name, sha256, upload.record.expect)

        stat = await self.run(publish)
        self._count(-1)
        metrics.PUBLISHED.labels(upload.record.kind).inc()
        metrics.DURATION.observe(max(0.0, time.time() - upload.record.created))
        self._tell(upload, "finished", sha256=stat.sha256, etag=stat.etag)
        self.tell_file(name, "published", size=stat.size, sha256=stat.sha256, etag=stat.etag)
        if upload.record.kind in ("seed", "put"):  # its status is the file's own
            await self.run(upload.staged.discard)
            self._forget(upload)

    async def _show(self, upload: Upload) -> None:
        staged, name = upload.staged, upload.record.name
        if isinstance(staged, GrowsInView) and name is not None:
            await self.run(staged.expose, name, upload.record.expect)

    async def _finish_quietly(self, upload: Upload) -> None:
        """Finish what a crash kept from being finished; a refusal is told to the client when it asks."""
        try:
            await self.settled(upload)
        except problems.ProblemError as error:
            log.warning("upload %s can't be published as %r: %s", upload.id, upload.record.name, error.detail)

    # -- what the writers report

    def moved(self, upload: Upload, before: int) -> None:
        """Bytes went down, or back."""
        upload.modified = time.time()
        if upload.offset > before:
            metrics.RECEIVED.inc(upload.offset - before)
        if upload.modified - upload.told > _PROGRESS_S:
            self._tell(upload, "progress")

    def left(self, upload: Upload) -> None:
        """A request was cut; nobody can come back to the bytes of a PUT."""
        if upload.record.kind == "put":
            self.spawn(self.cancel(upload))

    def check_space(self, size: int) -> None:
        """Refuse before the disk is full; blocks. Raises NO_SPACE."""
        free = self._store.free_space()
        if free is not None and free < size + self._settings.reserve_space:
            raise problems.NO_SPACE(
                f"{free} bytes are free, and {self._settings.reserve_space} of them stay so (--reserve-space); "
                "make room, then go on from where the upload stands"
            )

    def tell_file(self, name: str, what: str, **data: Any) -> None:
        """An event about a published file."""
        self._emit(Event(type="file", id=name, time=datetime.now(UTC), data={"what": what, **data}))

    def _tell(self, upload: Upload, what: str, **data: Any) -> None:
        upload.told = time.time()
        data = {
            "what": what,
            "name": upload.record.name,
            "offset": upload.offset,
            "length": upload.record.length,
            **data,
        }
        self._emit(Event(type="upload", id=upload.id, time=datetime.now(UTC), data=data))

    def _count(self, change: int) -> None:
        self._making += change
        metrics.IN_THE_MAKING.set(self._making)

    def _forget(self, upload: Upload) -> None:
        upload.gone = True
        if self._all.pop(upload.id, None) is not None and not upload.complete:
            self._count(-1)
        self._open.pop(upload.id, None)

    def _keep_open(self, upload: Upload) -> None:
        """Descriptors of the uploads written to last stay open; older ones are closed."""
        self._open[upload.id] = upload
        self._open.move_to_end(upload.id)
        for id in [id for id, other in self._open.items() if other.writer is None][: max(0, len(self._open) - _OPEN)]:
            self._executor.submit(self._open.pop(id).staged.close)


def mismatch(given: int, stands: int) -> problems.ProblemError:
    """Not where the upload stands."""
    members: dict[str, Any] = {"bytes_read": stands, "expected-offset": stands, "provided-offset": given}
    return problems.OFFSET_MISMATCH(f"the upload stands at byte {stands}, not at {given}; go on from there", **members)
