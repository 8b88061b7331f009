"""The SHA-256 service: makes the digests that files lack, and lets requests wait for one.

Lives on the event loop; one task hashes one piece at a time. Files that somebody waits for come first, in the order in
which they were asked for. Else it is the turn of files that were published without a digest, when `Pacing` says so; the
store remembers them, also for the next server. A digest is recorded only for the version that was read: where a file
was changed meanwhile, it is read again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tornado_app import fault_points, problems
from tornado_app.clocks import steady
from tornado_app.files import metrics
from tornado_app.files.sha256.hasher import STEP, FileInHand, Hasher, HasherFailedError, RunInThread
from tornado_app.files.sha256.pacing import Pacing, TrafficPacing
from tornado_app.files.store.interface import UNKNOWN, FileDigests, FileReader, FileStat, FileStore
from tornado_app.files.store.optional_powers import KeepsDigests, MarksDigests, PendingDigest

log = logging.getLogger("holdfast.files")

RATE = 400_000_000
"""Bytes a second that are expected of a processor without SHA instructions."""

_REMEMBERED_S = 120.0  # seconds that a file stays in front after the last request for it
_MOST_ASKED = 10_000
_BATCH = 256
_TRIES = 5  # of a file that is changed again and again
_AGAIN_S = 1.0
_LONGEST_PAUSE_S = 60.0
_POLL_S = 60.0  # seconds after which files are found that were published without a word, or could not be read before
_FAILED_S = 3600.0
_LINGER_S = 5.0  # seconds without work after which the child processes end


@dataclass(eq=False, slots=True)
class _Job:
    """A file that lacks its digest. `until`: by `steady`, how long it stays in front since it was asked for."""

    name: str
    pending: PendingDigest | None = None
    began: float = field(default_factory=time.time)
    until: float = 0.0
    not_before: float = 0.0
    tries: int = 0
    failures: int = 0
    file: FileInHand | None = None
    size: int = 0
    waiters: dict[object, asyncio.Future[None]] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Return how many bytes are to be read."""
        return self.size - (0 if self.file is None else self.file.offset)


class Sha256Service:
    """Makes digests from `open` to `close`, on a store that keeps them; on another, and when not `enabled`, none."""

    def __init__(
        self,
        store: FileStore,
        run: RunInThread,
        on_digest: Callable[[FileStat], None],
        *,
        enabled: bool = True,
        pacing: Pacing | None = None,
    ) -> None:
        """`on_digest` gets each file whose digest was recorded."""
        self._store: KeepsDigests | None = store if enabled and isinstance(store, KeepsDigests) else None
        self._marks: MarksDigests | None = store if self._store and isinstance(store, MarksDigests) else None
        self._run = run
        self._on_digest = on_digest
        self._pacing = pacing or TrafficPacing()
        self._share = metrics.Share(metrics.DIGESTS_PENDING)
        self._asked: dict[str, _Job] = {}
        self._current: _Job | None = None
        self._batch: deque[PendingDigest] = deque()
        self._postponed: dict[str, float] = {}  # marks by key, and until when they are left alone
        self._wake = asyncio.Event()
        self._idle, self._eager = Hasher(run, idle=True), Hasher(run, idle=False)
        self._task: asyncio.Task[None] | None = None
        self.is_open = False

    # -- life of the service

    def open(self) -> None:
        """Begin with what an earlier server left."""
        if self._store is not None:
            self.is_open = True
            self._task = asyncio.ensure_future(self._work(self._store))

    async def close(self) -> None:
        """Let every waiting request go on, and stop at once; what is pending is made by the next server."""
        self.is_open = False
        for job in self._asked.values():
            _release(job)
        self._wake.set()
        self._idle.abort()
        self._eager.abort()
        task, self._task = self._task, None
        if task is not None:
            await task
        for job in self._jobs():
            await self._put_down(job)
        self._asked.clear()
        self._current = None
        await self._idle.close()
        await self._eager.close()
        self._share.set(0)

    @property
    def is_pending(self) -> bool:
        """Return whether a digest is being made, or is to be made now; those that failed are tried again later."""
        if not self.is_open:
            return False
        marked = 0 if self._marks is None else self._marks.pending_count - len(self._postponed)
        return bool(self._current or self._asked or self._batch) or marked > 0

    # -- requests

    def published(self) -> None:
        """Note that a file was published without a digest."""
        if self.is_open:
            self._count()
            if self._current is None:
                self._wake.set()

    def ask(self, stat: FileStat, client: object) -> asyncio.Future[None] | None:
        """Return a future that is done when the digest of a file is recorded, or can't be made; None if none is made.

        The file moves to the front. `client` identifies the request, for `leave`.
        """
        if not self.is_open:
            return None
        job = self._asked.get(stat.name)
        if job is None:
            if len(self._asked) >= _MOST_ASKED:
                return None
            current = self._current
            job = current if current is not None and current.name == stat.name else _Job(stat.name, size=stat.size)
            self._asked[stat.name] = job
        job.until = steady() + _REMEMBERED_S
        future = job.waiters.get(client)
        if future is None:
            future = job.waiters[client] = asyncio.get_running_loop().create_future()
        self._wake.set()
        return future

    def leave(self, client: object) -> None:
        """Note that a request has ended before its time: a file that nobody else waits for loses its place."""
        for job in self._asked.values():
            future = job.waiters.pop(client, None)
            if future is not None:
                if not future.done():
                    future.set_result(None)
                if not job.waiters:
                    job.until = 0.0

    def expire(self, name: str, client: object) -> None:
        """Note that a request waits no longer. The file keeps its place for a while: it may be asked for again."""
        job = self._asked.get(name)
        if job is not None:
            job.waiters.pop(client, None)

    def is_asked(self, name: str) -> bool:
        """Return whether the digest of a file is being made because it was asked for."""
        return name in self._asked

    def seconds_left(self, name: str) -> float:
        """Return about how many seconds it takes until the digest of a file that was asked for is there."""
        left = 0
        for job in self._asked.values():
            left += job.left
            if job.name == name:
                break
        return left / RATE

    # -- the work

    async def _work(self, store: KeepsDigests) -> None:
        while self.is_open:
            self._wake.clear()
            try:
                job = await self._next_asked() or await self._next_pending()
                if job is None:
                    await self._rest()
                elif job.name in self._asked or await self._may_go_on(job):
                    await self._advance(store, job)
            except Exception:
                log.exception("the SHA-256 of files can't be made for now")
                await self._woken(_AGAIN_S)

    async def _next_asked(self) -> _Job | None:
        """Return the first file that was asked for, without those that nobody wants any more."""
        now = steady()
        for job in [*self._asked.values()]:
            if job.until <= now:
                del self._asked[job.name]
                if job is not self._current:
                    await self._put_down(job)
            elif job.not_before <= now:
                return job
        return None

    async def _next_pending(self) -> _Job | None:
        """Return the file that is in hand, or the next one that was published without a digest."""
        if self._current is not None:
            return self._current if self._current.not_before <= steady() else None
        if self._marks is None:
            return None
        if not self._batch:
            now = steady()
            self._postponed = {key: until for key, until in self._postponed.items() if until > now}
            self._batch.extend(await self._run(self._marks.pending_digests, _BATCH, frozenset(self._postponed)))
            self._count()
        if not self._batch:
            return None
        pending = self._batch.popleft()
        self._current = self._asked.get(pending.name) or _Job(pending.name)
        self._current.pending, self._current.began = pending, pending.since
        return self._current

    async def _rest(self) -> None:
        """Wait until something is asked for or published, or may be tried again; end the children after a while."""
        jobs = self._jobs()
        if jobs:
            await self._woken(max(0.0, min(job.not_before for job in jobs) - steady()))
        elif not await self._woken(_LINGER_S):
            await self._idle.close()
            await self._eager.close()
            await self._woken(_POLL_S)

    def _jobs(self) -> set[_Job]:
        return {*self._asked.values(), *([] if self._current is None else [self._current])}

    async def _woken(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _may_go_on(self, job: _Job) -> bool:
        """Wait for the turn of background work; return False as soon as something else may be more urgent."""
        turn = asyncio.ensure_future(self._pacing.turn(job.began))
        wake = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({turn, wake}, return_when=asyncio.FIRST_COMPLETED)
            return turn.done()
        finally:
            turn.cancel()
            wake.cancel()

    async def _advance(self, store: KeepsDigests, job: _Job) -> None:
        """Hash the next piece of a file, and record the digest after the last."""
        try:
            file = job.file
            if file is None:
                file = await self._take_up(store, job)
                if file is None:
                    return
            elif await self._run(store.record_digests, file.reader, UNKNOWN) is None:
                await self._begin_again(job)  # replaced, removed or changed: the rest of it is of no use
                return
            hasher = file.hasher or (self._eager if job.name in self._asked else self._idle)
            began = time.monotonic()
            before = file.offset
            digest = await hasher.step(file, STEP)
            metrics.HASHED.inc(file.offset - before)
            metrics.HASHING_SECONDS.inc(time.monotonic() - began)
            fault_points.point("sha256.step")
            if digest is not None:
                stat = await self._run(store.record_digests, file.reader, FileDigests(sha256=digest))
                if stat is None:
                    await self._begin_again(job)
                else:
                    await self._end(job, stat)
        except HasherFailedError as error:
            await self._put_down(job)
            job.failures += 1
            job.not_before = steady() + min(_LONGEST_PAUSE_S, _AGAIN_S * job.failures)
            if self.is_open:
                log.warning("the process that makes SHA-256 digests failed: %s", error)
        except problems.ProblemError as error:
            if error.kind is not problems.NO_SUCH_FILE:
                log.warning("the SHA-256 of %r can't be made: %s", job.name, error.detail)
            await self._give_up(job)
        except OSError as error:
            log.warning("the SHA-256 of %r can't be made: %s", job.name, error)
            await self._give_up(job)

    async def _take_up(self, store: KeepsDigests, job: _Job) -> FileInHand | None:
        """Open the file of a job; None when it needs no digest any more, or can't be read yet."""
        reader: FileReader | None
        if job.pending is not None and self._marks is not None and job.name not in self._asked:
            reader = await self._run(self._marks.open_pending, job.pending)
        else:
            reader = await self._run(store.open_for_digest, job.name)
        if reader is None:
            await self._end(job, None)
            return None
        if reader.stat.sha256 is not None:
            await self._run(reader.close)
            await self._end(job, None)
            return None
        if reader.stat.unconfirmed is not None:  # the store reads it first: digests are added to a version it knows
            await self._run(reader.close)
            job.not_before = steady() + _AGAIN_S
            if job.name not in self._asked:
                await self._give_up(job, _POLL_S)
            return None
        job.size, job.file = reader.stat.size, FileInHand(reader)
        return job.file

    async def _begin_again(self, job: _Job) -> None:
        """Read a file from its start, unless that was tried too often."""
        await self._put_down(job)
        job.tries += 1
        job.not_before = steady() + min(_AGAIN_S, 0.05 * job.tries)
        if job.tries >= _TRIES:
            await self._give_up(job)

    async def _give_up(self, job: _Job, seconds: float = _FAILED_S) -> None:
        """Leave a file without a digest for so long, unless somebody asks for it."""
        if job.pending is not None:
            self._postponed[job.pending.key] = steady() + seconds
        await self._end(job, None)

    async def _end(self, job: _Job, stat: FileStat | None) -> None:
        await self._put_down(job)
        if job is self._current:
            self._current = None
        if self._asked.get(job.name) is job:
            del self._asked[job.name]
        if stat is not None:
            metrics.HASHED_FILES.inc()
            metrics.DIGEST_SECONDS.observe(max(0.0, time.time() - job.began))
            self._on_digest(stat)
        self._count()
        _release(job)

    async def _put_down(self, job: _Job) -> None:
        file, job.file = job.file, None
        if file is not None:
            await file.close(self._run)

    def _count(self) -> None:
        marked = 0 if self._marks is None else self._marks.pending_count
        self._share.set(max(marked, len(self._asked)))


def _release(job: _Job) -> None:
    for future in job.waiters.values():
        if not future.done():
            future.set_result(None)
    job.waiters.clear()
