"""One request that writes to an upload: a bounded queue on the event loop, emptied by a worker thread."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.buffers import POOL
from tornado_app.files.store import powers
from tornado_app.files.store.interface import Piece
from tornado_app.files.uploads.digest_check import Check
from tornado_app.files.uploads.lease.interface import Lease, UploadLeases, locked, never
from tornado_app.files.uploads.upload import Upload

MIB = 1 << 20
QUEUED = 8 * MIB
QUEUED_BY_ALL = 24 * MIB

_UNKNOWN = -1


@dataclass(eq=False, slots=True)
class WriterContext:
    """Resources that all writers of a server share, and callbacks for what they do.

    `check_space` raises NO_SPACE, in a worker thread. `on_written` gets an upload whose offset changed, and the offset
    before. `mark_broken` records that the bytes of an upload are not what they are taken for. `reload` reads an upload
    again that another server may have changed.
    """

    executor: BlockingExecutor
    leases: UploadLeases
    durable: bool
    check_space: Callable[[int], None]
    on_written: Callable[[Upload, int], None]
    mark_broken: Callable[[Upload, str, BaseException | None], Awaitable[None]]
    reload: Callable[[Upload], Awaitable[None]]
    active: int = 0
    """The number of writers that hold a lease: they share the memory for queued bytes."""


class Writer:
    """One request with its lease on an upload, from `acquire` to `release`. Made by `Uploads.write`.

    Receiving overlaps writing: the sender waits only while `QUEUED` bytes (or this writer's share of `QUEUED_BY_ALL`)
    are queued. With a `check` the bytes are provisional: they count once `finish` has verified them, and a cut request
    or a crash removes them again.
    """

    def __init__(
        self,
        context: WriterContext,
        upload: Upload,
        on_release_requested: Callable[[], None] | None = None,
        check: Check | None = None,
    ) -> None:
        """`on_release_requested` ends the request; None for the server itself, which is done soon."""
        self.upload = upload
        self.check = check
        self.lease: Lease | None = None
        self.ended = False
        self.creates_upload = False  # the upload was made for this request
        self.on_progress: Callable[[int], None] | None = None
        self.received = 0  # where the bytes that came end: `offset` moves in a worker thread while bytes are queued
        self.failure: BaseException | None = None  # why the rest of the body will not be kept
        self._context = context
        self._on_release_requested = on_release_requested
        self._received_at = -math.inf
        self._base = 0
        self._limit: int | None = _UNKNOWN
        self._overrun: problems.ProblemError | None = None
        self._step_failure: BaseException | None = None
        self._then: Callable[[], None] | None = None
        self._then_failure: Exception | None = None
        self._is_released = False
        self._is_taken_over = False
        self._provisional = False
        self._unsafe = False
        self._pieces: list[Piece] = []
        self._queued = 0
        self._draining: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None

    # -- the lease

    async def acquire(self, is_lost: Callable[[], bool] = never, *, preempt: bool = False) -> None:
        """Get the lease on the upload: see `UploadLeases.acquire`. Raises LOCKED."""
        self.lease = await self._context.leases.acquire(self.upload.id, self, is_lost, preempt=preempt)
        self._context.active += 1
        if self.lease.from_other_server:
            try:
                await self._context.reload(self.upload)
            except BaseException:
                self.release()
                raise
        self._received_at = self.lease.acquired_at
        self._base = self.received = self.upload.staged.offset
        self.upload.digest.mark()

    def release(self) -> None:
        """Let the next request write. May be called twice."""
        self.ended = True
        if self.lease is not None and not self._is_released:
            self._is_released = True
            self._context.active -= 1
            self._context.leases.release(self.lease)

    @property
    def release_requested(self) -> bool:
        """Return whether somebody else wants the upload, or did when it was released."""
        return self.lease is not None and self.lease.release_requested

    @property
    def is_internal(self) -> bool:
        """Return whether this is the server itself and no request."""
        return self._on_release_requested is None

    @property
    def active_at(self) -> float:
        """Return when bytes came last; now while the sender waits for us; `-inf` once nothing more is taken."""
        if self.ended:
            return -math.inf
        return self._received_at if self._room is None else time.monotonic()

    def on_release_requested(self) -> None:
        """End the request, since somebody else wants the upload. Called by the lease."""
        if not self.ended and self._on_release_requested is not None:
            metrics.CUTS.labels("newer request").inc()
            self._on_release_requested()

    # -- the body

    @property
    def overran(self) -> bool:
        """Return whether the body went past the length of the upload."""
        return self._overrun is not None and self.upload.record.length is not None

    @property
    def is_full(self) -> bool:
        """Return whether the sender waits for us."""
        return self._room is not None

    def write(self, data: Piece) -> Awaitable[None] | None:
        """Take the next bytes; await the result, if there is one, before sending more.

        A failure (a full disk, bytes past the length) is kept for `finish` to raise; what follows it is dropped.
        """
        self._received_at = time.monotonic()
        if self.ended or self.failure is not None:
            return None
        if self._limit == _UNKNOWN:
            self._limit = self.upload.limit
        if self._limit is not None and self.received + len(data) > self._limit:
            data = data[: self._limit - self.received]
            self.failure = self._overrun = self._past(self._limit)
        if data:
            self._pieces.append(data)
            self._queued += len(data)
            self.received += len(data)
        share = min(QUEUED, QUEUED_BY_ALL // (self._context.active + 1))
        if self._queued >= share // 4 and self._draining is None:
            self._draining = asyncio.create_task(self._drain(share // 4))
        if self._queued < share:
            return None
        self._room = asyncio.get_running_loop().create_future()
        return self._room

    def _past(self, limit: int) -> problems.ProblemError:
        if self.upload.record.length is not None:
            return problems.BAD_BODY(
                f"the body goes past the upload's end at {limit} bytes. Send no more: nothing after it was kept",
                bytes_read=limit,
            )
        return problems.TOO_LARGE(
            f"the body goes past the {limit} bytes that this server takes (--max-upload-size). "
            "Send no more: nothing after them was kept",
            bytes_read=limit,
            max_size=limit,
        )

    async def finish(self, then: Callable[[], None] | None = None) -> None:
        """Return when every byte is written, verified, and as durable as the settings say.

        `then` is called once they are, in the same call to a worker thread.

        Raises:
            ProblemError: why not all of it; `upload.offset` is where what is kept ends. LOCKED when the request was
                abandoned: its bytes are committed or removed already, and another may be writing. What `then` raises:
                all bytes are kept.
        """
        if self.ended:
            raise locked()
        self.ended = True
        self._then = then
        if self._draining is not None:
            await self._draining
        if self._step_failure is None and (self._is_commit_needed or then is not None):
            await self._run(self._commit)
        if self.failure is not None:
            await self._recover()
            raise self.failure
        if self._then_failure is not None:
            raise self._then_failure

    async def abandon(self, why: str) -> None:
        """End a request that was cut: keep its bytes unless they are provisional, and release. No-op after `finish`."""
        if self.ended:
            return
        self.ended = True
        if not self.release_requested:
            metrics.CUTS.labels(why).inc()
        await self._end_draining()
        if self.check is None and self._step_failure is None and self._is_commit_needed:
            await self._run(self._commit)
        if self.check is not None or self._step_failure is not None:
            await self._recover()
        self.release()

    async def roll_back(self, why: str) -> None:
        """Remove the bytes of this request, and release. Raises BROKEN when that fails."""
        self.ended = True
        await self._end_draining()
        try:
            failure = await self._try_roll_back(why)
        finally:
            self.release()
        if failure is not None:
            raise failure

    async def _recover(self) -> None:
        """After a failure: remove bytes that are provisional or may not be durable, and make the others durable.

        `failure` stays what it was, unless the upload is broken by what follows.
        """
        why = self._step_failure
        if self._is_taken_over:
            return  # the upload is another's now
        if self.check is None and not self._unsafe:
            unsafe = await self._try(self._sync)
            why = why or unsafe
        if self.check is not None or self._unsafe:
            why = await self._try_roll_back(str(why or self._overrun)) or why
        self._fail(why)

    async def _try_roll_back(self, why: str) -> problems.ProblemError | None:
        """Cut back to where the request began; return what is wrong with the upload if that fails."""
        error = await self._try(self._truncate)
        if error is None or self._is_taken_over:
            return None
        first = why.partition(". ")[0]  # the advice that follows does not hold any more
        broken = f"{first}, and what came could not be removed: {error or type(error).__name__}"
        await self._context.mark_broken(self.upload, broken, error)
        return problems.BROKEN(f"{broken}. Delete the upload and create another")

    async def _try(self, step: Callable[[list[Piece]], None]) -> BaseException | None:
        """Run a step whatever has failed before, and return why it failed, if it did."""
        self._fail(None)
        await self._run(step)
        return self._step_failure

    def _fail(self, error: BaseException | None) -> None:
        self._step_failure = error
        self.failure = error or self._overrun

    async def _end_draining(self) -> None:
        if self._draining is not None:
            await self._draining

    async def _drain(self, little: int) -> None:
        """Write what is queued until less than `little` is: one task at a time."""
        while self._queued >= little and self._step_failure is None:
            await self._run(self._write_provisionally if self.check is not None else self._write)
            if self._room is not None and self._queued < 4 * little:
                self._room.set_result(None)
                self._room = None
        self._draining = None
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    async def _run(self, step: Callable[[list[Piece]], None]) -> None:
        """Hand what is queued to a worker thread; keep a failure, and drop what was queued then."""
        pieces, self._pieces = self._pieces, []
        size = sum(map(len, pieces))
        staged = self.upload.staged
        before = staged.offset
        try:
            await self._context.executor.run(step, pieces)
        except Exception as error:
            self._fail(error)
            self._pieces.clear()
            self._queued = size = 0
        self._queued -= size
        if staged.offset != before:
            self._context.on_written(self.upload, before)
            if self.on_progress is not None:
                self.on_progress(staged.offset)

    @property
    def _is_commit_needed(self) -> bool:
        return bool(self._pieces) or self.check is not None or self._context.durable

    # -- in a worker thread

    def _check_lease(self) -> None:
        """Raise LOCKED when another server has taken the lease over: nothing may be written then."""
        if self.lease is not None and not self._context.leases.renew(self.lease):
            self._is_taken_over = True
            raise locked()

    def _write_provisionally(self, pieces: list[Piece]) -> None:
        if not self._provisional:
            self.upload.staged.begin()
            self._provisional = True
        self._update_check(pieces)
        self._write(pieces)

    def _update_check(self, pieces: list[Piece]) -> None:
        if self.check is not None:
            for piece in pieces:
                self.check.update(piece)

    def _write(self, pieces: list[Piece]) -> None:
        if not pieces:
            return
        self._check_lease()
        self._context.check_space(0)
        upload = self.upload
        start = upload.staged.offset
        upload.staged.write(pieces)
        upload.digest.feed(start, pieces)
        POOL.give(pieces)

    def _commit(self, pieces: list[Piece]) -> None:
        """Verify and write what is left, and make all of it count."""
        if self.check is not None:
            self._update_check(pieces)
            if self._overrun is not None:
                raise self._overrun
            try:
                self.check.verify()
            except problems.ProblemError:
                metrics.DIGEST_FAILURES.inc()
                raise
        self._write(pieces)
        if self._context.durable:
            self._sync([])
        if self._provisional:
            self.upload.staged.commit()
        if self._then is not None and self._overrun is None:
            try:
                self._then()
            except Exception as error:
                self._then_failure = error

    def _sync(self, pieces: list[Piece]) -> None:
        """Make durable what was written; `pieces` were not and are dropped."""
        if self._context.durable and self.upload.staged.offset > self._base:
            try:
                self.upload.staged.sync()
            except Exception:
                self._unsafe = True  # asked again, a kernel may say that all is well, without those bytes
                raise

    def _truncate(self, pieces: list[Piece]) -> None:
        """Remove what this request wrote; `pieces` were not written and are dropped."""
        self._check_lease()
        upload = self.upload
        if self._provisional:
            upload.staged.rollback()
        else:
            powers.truncate(upload.staged, self._base)
        upload.digest.cut(self._base)
