"""The body of one request that sends blocks: a bounded queue on the event loop, emptied by a worker thread."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from holdfast.digests import BLOCK, SIZE, BlockHasher
from tornado_app import problems
from tornado_app.files import metrics
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.buffers import POOL
from tornado_app.files.store.interface import Piece
from tornado_app.files.uploads.blocks.session import BlockSession
from tornado_app.files.uploads.blocks.state import BlockMap

QUEUED = 8 << 20
QUEUED_BY_ALL = 24 << 20

_MOST_AT_ONCE = 4
_NAMED = 1000  # wrong blocks that a refusal names


@dataclass(eq=False, slots=True)
class BodyContext:
    """Resources that the bodies of all requests share, and what they check.

    `check_space` raises NO_SPACE, in a worker thread.
    """

    executor: BlockingExecutor
    durable: bool
    check_space: Callable[[int], None]
    active: int = 0


@dataclass(slots=True)
class _Blocks:
    """Whole blocks on their way to the disk. `buffers` are the pieces after which their buffers are free."""

    first: int
    blocks: list[list[Piece]] = field(default_factory=list)
    buffers: list[Piece] = field(default_factory=list)
    size: int = 0
    written: list[int] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)


class BlockBody:
    """One request that sends blocks from `first` on. Made by `BlockUploads.receive`.

    Only whole blocks are written. A block that has another digest than it should have is dropped and named in the
    refusal; the others stay.
    """

    def __init__(
        self,
        context: BodyContext,
        session: BlockSession,
        blocks: BlockMap,
        first: int,
        on_written: Callable[[int], None],
        on_release_requested: Callable[[], None],
    ) -> None:
        """`on_written` gets the bytes of each step, `on_release_requested` ends the request."""
        self.failure: BaseException | None = None  # why the rest of the body will not be kept
        self.session = session
        self._context = context
        self._blocks = blocks
        self._next = first  # the block that the bytes at the head of the queue belong to
        self._left = blocks.size - first * BLOCK
        self._on_written = on_written
        self._on_release_requested = on_release_requested
        self._ended = False
        self._received_at = time.monotonic()
        self._pieces: deque[Piece] = deque()
        self._queued = 0
        self._wrong: list[int] = []
        self._written: list[int] = []
        self._draining: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        context.active += 1

    @property
    def ended(self) -> bool:
        """Return whether nothing more is taken."""
        return self._ended

    # -- for the session

    @property
    def active_at(self) -> float:
        """See `Member`; now while the sender waits for us."""
        if self._ended:
            return -math.inf
        return self._received_at if self._room is None else time.monotonic()

    def on_release_requested(self) -> None:
        """See `Member`."""
        if not self._ended:
            metrics.CUTS.labels("newer request").inc()
            self._on_release_requested()

    # -- the body

    @property
    def is_full(self) -> bool:
        """Return whether the sender waits for us."""
        return self._room is not None

    def write(self, data: Piece) -> Awaitable[None] | None:
        """Take the next bytes; await the result, if there is one, before sending more.

        A failure (a full disk, bytes past the end) is kept for `finish` to raise; what follows it is dropped.
        """
        self._received_at = time.monotonic()
        if self._ended or self.failure is not None:
            return None
        if len(data) > self._left:
            data = data[: self._left]
            self.failure = problems.BAD_BODY(
                f"the body goes past the end of the upload at {self._blocks.size} bytes. Send whole blocks, and no more"
            )
        if data:
            self._pieces.append(data)
            self._queued += len(data)
            self._left -= len(data)
        share = max(2 * BLOCK, min(QUEUED, QUEUED_BY_ALL // (self._context.active + 1)))
        if self._has_block and self._draining is None:
            self._draining = asyncio.create_task(self._drain(share))
        if self._queued < share:
            return None
        self._room = asyncio.get_running_loop().create_future()
        return self._room

    async def finish(self) -> None:
        """Return when every block is written, as durably as the settings say. The session goes on until `leave`.

        Raises:
            ProblemError: BAD_BODY for what is no whole block, DIGEST_MISMATCH for wrong blocks, NO_SPACE. Whole
                blocks that are right are kept.
        """
        await self._end()
        if self.failure is not None:
            raise self.failure
        if self._queued:
            raise problems.BAD_BODY(
                f"the body ends inside of block {self._next}, of which {self._queued} bytes came. Send whole blocks"
            )
        if self._wrong:
            metrics.DIGEST_FAILURES.inc()
            raise problems.DIGEST_MISMATCH(
                f"{len(self._wrong)} blocks have another digest than the upload was created with. Send them again: the "
                "others were kept",
                blocks=self._wrong[:_NAMED],
            )

    async def abandon(self, why: str) -> None:
        """End a request that was cut: keep its whole blocks."""
        if not self.session.is_over:
            metrics.CUTS.labels(why).inc()
        await self._end()

    async def _end(self) -> None:
        self._ended = True
        if self._draining is not None:
            await self._draining
        await self._drain(0)
        self._context.active -= 1
        if self._context.durable and self._written:
            try:
                await self._context.executor.run(self._sync)
            except Exception as error:
                self.failure = error
                for index in self._written:  # asked again, a kernel may say that all is well, without those bytes
                    self._blocks.remove(index)

    @property
    def _has_block(self) -> bool:
        return self._next < self._blocks.count and self._queued >= self._blocks.length(self._next)

    async def _drain(self, share: int) -> None:
        """Write the whole blocks that are queued: one task at a time."""
        while self._has_block:
            work = self._take()
            try:
                await self._context.executor.run(self._write, work)
            except Exception as error:
                self.failure = error
                self._pieces.clear()
                self._queued = work.size
            for index in work.written:
                self._blocks.add(index)
            self._written += work.written
            self._wrong += work.wrong
            self._queued -= work.size
            self._on_written(work.size)
            if self._room is not None and self._queued < share:
                self._wake()
        self._draining = None
        self._wake()

    def _wake(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.set_result(None)

    def _take(self) -> _Blocks:
        """Take whole blocks from the queue; `_queued` still counts them."""
        work = _Blocks(self._next)
        available = self._queued
        while len(work.blocks) < _MOST_AT_ONCE and self._next < self._blocks.count:
            length = self._blocks.length(self._next)
            if available < length:
                break
            available -= length
            work.size += length
            work.blocks.append(self._take_block(length, work.buffers))
            self._next += 1
        return work

    def _take_block(self, length: int, buffers: list[Piece]) -> list[Piece]:
        pieces: list[Piece] = []
        while length:
            piece = self._pieces.popleft()
            if len(piece) > length:  # its buffer is free once the rest of it is written, too
                view = memoryview(piece)
                self._pieces.appendleft(view[length:])
                piece = view[:length]
            else:
                buffers.append(piece)
            pieces.append(piece)
            length -= len(piece)
        return pieces

    # -- in a worker thread

    def _write(self, work: _Blocks) -> None:
        """Hash blocks, and write those that are right."""
        self.session.check()
        self._context.check_space(0)
        data = self.session.data
        expected = data.expected
        for index, pieces in enumerate(work.blocks, work.first):
            hasher = BlockHasher()
            hasher.feed(pieces)
            digest = hasher.blocks()
            if expected is not None and expected[index * SIZE : (index + 1) * SIZE] != digest:
                work.wrong.append(index)
                continue
            data.write(index, pieces, digest)
            work.written.append(index)
        POOL.give(work.buffers)

    def _sync(self) -> None:
        try:
            self.session.data.sync()
        except Exception:
            for index in self._written:
                self.session.data.drop(index)
            raise
