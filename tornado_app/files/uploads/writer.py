"""One request that writes to an upload: a bounded queue on the event loop, emptied by a worker thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.buffers import POOL
from tornado_app.files.store.interface import Piece
from tornado_app.files.uploads.lease import locked

if TYPE_CHECKING:
    from tornado_app.files.uploads.service import Uploads
    from tornado_app.files.uploads.upload import Upload

MIB = 1 << 20
QUEUED = 8 * MIB
QUEUED_BY_ALL = 24 * MIB


class Check(Protocol):
    """A digest that the sender gave for the bytes of this request."""

    def update(self, data: Piece) -> None:
        """The next bytes; called in a worker thread."""
        ...

    def verify(self) -> None:
        """Raises a `ProblemError` when the bytes are not the ones that were meant."""
        ...


class Writer:
    """The right to write to an upload, until it is released or a newer request ends it. Made by `Uploads.write`.

    Receiving overlaps writing: while less than `QUEUED` bytes wait (or its share of `QUEUED_BY_ALL`), the sender does
    not. With a `check` the bytes are on trial: they count once `finish` has verified them, and a cut request or a crash
    takes them back.
    """

    def __init__(
        self,
        uploads: Uploads,
        upload: Upload,
        on_release_requested: Callable[[], None] | None = None,
        check: Check | None = None,
    ) -> None:
        self.upload = upload
        self.release_requested = False
        self.ended = False
        self.creates_upload = False  # the upload was made for this request
        self.on_progress: Callable[[int], None] | None = None
        self.began = self.moved = time.monotonic()
        self._released: asyncio.Event | None = None
        self._uploads = uploads
        self._on_release_requested = on_release_requested
        self.check = check
        self._base = upload.offset
        self._received = upload.offset  # counted here alone: `offset` moves in a worker thread while bytes are queued
        self._guarded = False
        self._unsafe = False
        self._pieces: list[Piece] = []
        self._queued = 0
        self._draining: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._overrun: problems.ProblemError | None = None
        uploads.writers += 1
        if upload.digest is not None:
            upload.digest.mark()

    def request_release(self) -> None:
        """A newer request wants the upload: let the sender know, by ending its connection."""
        if not self.release_requested:
            self.release_requested = True
            if not self.ended and self._on_release_requested is not None:
                metrics.CUTS.labels("newer request").inc()
                self._on_release_requested()

    @property
    def is_internal(self) -> bool:
        """No request: the server itself does something that is soon done."""
        return self._on_release_requested is None

    @property
    def failure(self) -> BaseException | None:
        """Why the rest of the body will not be kept."""
        return self._failure or self._overrun

    @property
    def overran(self) -> bool:
        """The body went past the length of the upload."""
        return self._overrun is not None and self.upload.record.length is not None

    @property
    def is_full(self) -> bool:
        """The sender waits for us."""
        return self._room is not None

    def write(self, data: Piece) -> Awaitable[None] | None:
        """Take the next bytes; await the answer, if there is one, before sending more.

        A failure (a full disk, bytes past the length) is kept for `finish` to raise; what follows it is dropped.
        """
        self.moved = time.monotonic()
        if self.ended or self.failure is not None:
            return None
        limit = self.upload.limit
        if limit is not None and self._received + len(data) > limit:
            data = data[: limit - self._received]
            self._overrun = self._past(limit)
        if data:
            self._pieces.append(data)
            self._queued += len(data)
            self._received += len(data)
        share = min(QUEUED, QUEUED_BY_ALL // (self._uploads.writers + 1))
        if self._queued >= share // 4 and self._draining is None:
            self._draining = asyncio.create_task(self._drain(share // 4))
        if self._queued < share:
            return None
        self._room = asyncio.get_running_loop().create_future()
        return self._room

    def _past(self, limit: int) -> problems.ProblemError:
        if self.upload.record.length is not None:
            return problems.BAD_BODY(
                f"the body goes past the upload's end at {limit} bytes; nothing after it was kept", bytes_read=limit
            )
        return problems.TOO_LARGE(
            f"the body goes past the {limit} bytes that this server takes (--max-upload-size); "
            "nothing after them was kept",
            bytes_read=limit,
            max_size=limit,
        )

    async def finish(self) -> None:
        """Return when every byte is down, verified, and safe from what the settings say.

        Raises:
            ProblemError: why not all of it; `upload.offset` tells what is kept. LOCKED when the request has been
                abandoned: what it brought is settled, and another may be writing.
        """
        if self.ended:
            raise locked()
        self.ended = True
        await self._drained()
        if self._failure is None:
            await self._attempt(self._settle)
        if self.failure is not None:
            await self._make_good()
            raise self.failure

    async def abandon(self, why: str) -> None:
        """The request was cut: keep what came, unless it was on trial; then release. Nothing happens after `finish`."""
        if self.ended:
            return
        self.ended = True
        if not self.release_requested:
            metrics.CUTS.labels(why).inc()
        await self._drained()
        if self.check is None and self._failure is None:
            await self._attempt(self._settle)
        if self.check is not None or self._failure is not None:
            await self._make_good()
        self.release()

    async def roll_back(self, why: str) -> None:
        """Take back what this request brought, and release. Raises BROKEN when that fails."""
        self.ended = True
        await self._drained()
        try:
            failure = await self._take_back(why)
        finally:
            self.release()
        if failure is not None:
            raise failure

    def release(self) -> None:
        """Let the next one write."""
        self.ended = True
        if self.upload.writer is self:
            self.upload.lease.writer = None
            self._uploads.writers -= 1
        if self._released is not None:
            self._released.set()

    async def released(self, timeout: float | None = None) -> None:
        """Return once another may write, or after `timeout` seconds."""
        if self.upload.writer is self:
            self._released = self._released or asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._released.wait()

    async def _make_good(self) -> None:
        """After a failure: what was on trial or is not safe is taken back, what is kept is safe.

        Why it failed stays what it was, unless the upload is broken by what follows.
        """
        why = self._failure
        if self.check is None and not self._unsafe:
            unsafe = await self._tried(self._secure)
            why = why or unsafe
        if self.check is not None or self._unsafe:
            why = await self._take_back(str(why or self._overrun)) or why
        self._failure = why

    async def _take_back(self, why: str) -> problems.ProblemError | None:
        """Cut back to where the request began; what is wrong with the upload if that fails."""
        error = await self._tried(self._roll_back)
        if error is None:
            return None
        broken = f"{why}; and what came could not be taken back: {error or type(error).__name__}"
        await self._uploads.mark_broken(self.upload, broken, error)
        return problems.BROKEN(f"{broken}; delete the upload and create another")

    async def _tried(self, step: Callable[[list[Piece]], None]) -> BaseException | None:
        """Why a step failed, if it did, whatever has failed before."""
        self._failure = None
        await self._attempt(step)
        return self._failure

    async def _drained(self) -> None:
        if self._draining is not None:
            await self._draining

    async def _drain(self, little: int) -> None:
        """Write what is queued, until little is: one task at a time."""
        while self._queued >= little and self._failure is None:
            await self._attempt(self._put)
            if self._room is not None and self._queued < 4 * little:
                self._room.set_result(None)
                self._room = None
        self._draining = None
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    async def _attempt(self, step: Callable[[list[Piece]], None]) -> None:
        """Hand what is queued to a worker thread; a failure is kept, and what was queued dropped."""
        pieces, self._pieces = self._pieces, []
        size = sum(map(len, pieces))
        before = self.upload.offset
        try:
            await self._uploads.run(step, pieces)
        except Exception as error:
            self._failure = error
            self._pieces.clear()
            self._queued = size = 0
        self._queued -= size
        if self.upload.offset != before:
            self._uploads.moved(self.upload, before)
            if self.on_progress is not None:
                self.on_progress(self.upload.offset)

    # -- in a worker thread

    def _put(self, pieces: list[Piece]) -> None:
        upload = self.upload
        if self.check is not None:
            if not self._guarded:
                upload.staged.guard()
                self._guarded = True
            for piece in pieces:
                self.check.update(piece)
        self._write(pieces)

    def _write(self, pieces: list[Piece]) -> None:
        if not pieces:
            return
        upload = self.upload
        self._uploads.check_space(0)
        start = upload.offset
        upload.staged.write(pieces)
        if upload.digest is not None:
            upload.digest.feed(start, pieces)
        for piece in pieces:
            POOL.give(piece)

    def _settle(self, pieces: list[Piece]) -> None:
        if self.check is not None:
            for piece in pieces:
                self.check.update(piece)
            try:
                if self._overrun is not None:
                    raise self._overrun
                self.check.verify()
            except problems.ProblemError as error:
                if error is not self._overrun:
                    metrics.DIGEST_FAILURES.inc()
                raise
        self._write(pieces)
        self._secure([])
        if self._guarded:
            self.upload.staged.settle()

    def _secure(self, pieces: list[Piece]) -> None:
        """Make safe what was written; `pieces` were not and are dropped."""
        if self._uploads.durable and self.upload.offset > self._base:
            try:
                self.upload.staged.sync()
            except Exception:
                self._unsafe = True  # asked again, a kernel may say that all is well, without those bytes
                raise

    def _roll_back(self, pieces: list[Piece]) -> None:
        """Take back what came; `pieces` were not written and are dropped."""
        upload = self.upload
        if upload.offset > self._base:
            upload.staged.truncate(self._base)
            if upload.digest is not None:
                upload.digest.cut(self._base)
        if self._guarded:
            upload.staged.settle()
