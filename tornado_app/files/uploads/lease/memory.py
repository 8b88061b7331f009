"""Leases kept in the memory of the one server that serves the uploads."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tornado_app.files.uploads.lease.fairness import SILENT_S, Fairness
from tornado_app.files.uploads.lease.interface import Holder, Lease, locked, never


class _Contest:
    """The requests for the lease on one upload: the lease that is held, and the newest request's number."""

    __slots__ = ("fairness", "lease", "newest", "waiting")

    def __init__(self) -> None:
        self.lease: _HeldLease | None = None
        self.newest = 0
        self.waiting = 0
        self.fairness: Fairness | None = None  # until somebody has to wait


class _HeldLease(Lease):
    """A lease that knows where it is held."""

    __slots__ = ("contest",)
    contest: _Contest


class MemoryLeases:
    """`UploadLeases` for one server. Nothing outlives it, and no lease expires."""

    def __init__(self) -> None:
        self._contests: dict[str, _Contest] = {}
        self._epochs = itertools.count(1)

    def __len__(self) -> int:
        """Return how many uploads something is kept about."""
        return len(self._contests)

    async def acquire(
        self, upload: str, holder: Holder, is_lost: Callable[[], bool] = never, *, preempt: bool = False
    ) -> Lease:
        """See `UploadLeases`. Does not suspend when nobody holds the lease."""
        contest = self._contests.get(upload)
        if contest is None:
            contest = self._contests[upload] = _Contest()
        if not preempt:
            contest.newest += 1
        if contest.lease is not None:
            await self._wait_turn(contest, contest.newest, is_lost, preempt=preempt)
        contest.lease = lease = _HeldLease(upload, holder, next(self._epochs))
        lease.contest = contest
        return lease

    async def request_release(self, upload: str, is_lost: Callable[[], bool] = never) -> bool:
        """See `UploadLeases`. There is no other server."""
        contest = self._contests.get(upload)
        if contest is not None and contest.lease is not None:
            await self._hand_over(contest, contest.lease, is_lost)
        return False

    def release_all(self) -> None:
        """See `UploadLeases`."""
        for contest in [*self._contests.values()]:
            if contest.lease is not None:
                contest.lease.request_release()

    def renew(self, lease: Lease) -> bool:
        """See `UploadLeases`. Does not block."""
        return isinstance(lease, _HeldLease) and lease.contest.lease is lease

    def release(self, lease: Lease) -> None:
        """See `UploadLeases`."""
        if isinstance(lease, _HeldLease) and lease.contest.lease is lease:
            lease.contest.lease = None
            lease.mark_released()
            self._drop_idle(lease.upload, lease.contest)

    def _drop_idle(self, upload: str, contest: _Contest) -> None:
        """Drop a contest that has no history: the upload may be removed, and then nobody would."""
        is_idle = not contest.waiting and (contest.fairness is None or contest.fairness.is_calm)
        if is_idle and self._contests.get(upload) is contest:
            del self._contests[upload]

    def holder(self, upload: str) -> Holder | None:
        """See `UploadLeases`."""
        contest = self._contests.get(upload)
        return None if contest is None or contest.lease is None else contest.lease.holder

    def waiting(self, upload: str) -> int:
        """See `UploadLeases`."""
        contest = self._contests.get(upload)
        return 0 if contest is None else contest.waiting

    def forget(self, upload: str) -> None:
        """See `UploadLeases`. Those who still wait get the lease in turn."""
        self._contests.pop(upload, None)

    async def _wait_turn(self, contest: _Contest, number: int, is_lost: Callable[[], bool], *, preempt: bool) -> None:
        """Return when nobody holds the lease, for a caller that takes it at once."""
        while (lease := contest.lease) is not None:
            if preempt:
                lease.request_release()
                await self._wait_released(contest, lease)
                continue
            await self._hand_over(contest, lease, lambda: number != contest.newest or is_lost())
            if number != contest.newest:
                raise locked()
            if is_lost():
                raise locked("the client has gone")

    async def _hand_over(self, contest: _Contest, lease: Lease, gives_up: Callable[[], bool]) -> None:
        """Interrupt the holder when its time is up, and return once it has released the lease.

        Returns at once, without suspending, while `gives_up()` is true: a caller that loops must look at that itself.
        """
        fairness = contest.fairness = contest.fairness or Fairness()
        while contest.lease is lease and not gives_up():
            remaining = fairness.remaining(lease)
            if remaining > 0:
                await self._wait_released(contest, lease, min(remaining, SILENT_S))
            else:
                fairness.interrupt(lease)
                await self._wait_released(contest, lease)

    @staticmethod
    async def _wait_released(contest: _Contest, lease: Lease, timeout: float | None = None) -> None:
        if contest.lease is not lease:
            return
        contest.waiting += 1
        try:
            await lease.wait_released(timeout)
        finally:
            contest.waiting -= 1
