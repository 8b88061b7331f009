"""The interface of upload leases: the right to write to one upload, which one holder has at a time.

A lease belongs to a server and carries an epoch, so that an implementation can share leases between servers: whoever
takes a lease over raises the epoch, and a write under an older epoch is refused. Every coroutine here runs on the event
loop; `renew` is called in a worker thread, just before bytes are written.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol

from tornado_app import problems

RETRY_S = 1


def never() -> bool:
    """Return False: the requester can't be lost."""
    return False


def locked(detail: str = "a newer request for this upload took over") -> problems.ProblemError:
    """Return LOCKED: another request writes, and the client may ask again."""
    return problems.LOCKED(f"{detail}. Ask again where the upload stands", headers={"Retry-After": str(RETRY_S)})


class Holder(Protocol):
    """The party that asks for a lease and then holds it: a request that writes, or the server itself."""

    @property
    def is_internal(self) -> bool:
        """Return whether it is the server itself, which is done soon and is no second client."""
        ...

    @property
    def active_at(self) -> float:
        """Return when it last made progress, by `time.monotonic`; `-inf` once it takes no more bytes."""
        ...

    def on_release_requested(self) -> None:
        """Begin to end: somebody else wants the upload. Called once, on the event loop; must not block."""
        ...


class Lease:
    """One lease, from `UploadLeases.acquire` to `UploadLeases.release`."""

    __slots__ = (
        "_released",
        "acquired_at",
        "epoch",
        "from_other_server",
        "holder",
        "release_requested",
        "server",
        "upload",
    )

    def __init__(self, upload: str, holder: Holder, epoch: int, server: str = "") -> None:
        """`upload` is its id; `epoch` is greater than that of any earlier lease on it; `server` runs the holder."""
        self.upload = upload
        self.holder = holder
        self.epoch = epoch
        self.server = server
        self.acquired_at = time.monotonic()
        self.release_requested = False
        self.from_other_server = False  # another one had it since: what this server knows of the upload may be old
        self._released: asyncio.Event | None = None

    def request_release(self) -> None:
        """Ask the holder to release the lease, unless it was asked already."""
        if not self.release_requested:
            self.release_requested = True
            self.holder.on_release_requested()

    async def wait_released(self, timeout: float | None = None) -> None:
        """Return once the lease is released, or after `timeout` seconds. For a lease that is held."""
        if self._released is None:
            self._released = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._released.wait()

    def mark_released(self) -> None:
        """Wake those who wait. For implementations of `UploadLeases`."""
        if self._released is not None:
            self._released.set()


class UploadLeases(Protocol):
    """The leases of every upload, as one server sees them."""

    async def acquire(
        self, upload: str, holder: Holder, is_lost: Callable[[], bool] = never, *, preempt: bool = False
    ) -> Lease:
        """Return a lease for `holder`, as soon as whoever has it has released it.

        The present holder is asked to release it: at once, or after a while if it and others interrupt each other
        (`Fairness`). Of several that wait the newest gets it. `preempt` is for short work of the server itself: the
        holder is asked at once, and none of those that wait is refused for it.

        Raises:
            ProblemError: LOCKED when a newer request asks for the same lease meanwhile, or `is_lost()` is true.
        """
        ...

    async def request_release(self, upload: str, is_lost: Callable[[], bool] = never) -> bool:
        """Ask the present holder to release its lease, and return when it has, or when `is_lost()` is true.

        Any number may ask at once: none of them wants the lease, and none is refused. Returns whether another server
        had the lease last: what this server knows of the upload may be old then.
        """
        ...

    def release_all(self) -> None:
        """Ask every holder on this server to release its lease, at once."""
        ...

    def renew(self, lease: Lease) -> bool:
        """Extend a lease, and return whether it is still the newest one on its upload. May block."""
        ...

    def release(self, lease: Lease) -> None:
        """Give the lease to the next one who asks. Does nothing for a lease that is released or was taken over."""
        ...

    def holder(self, upload: str) -> Holder | None:
        """Return who holds the lease on this server; None when nobody here does."""
        ...

    def waiting(self, upload: str) -> int:
        """Return how many on this server wait for the holder to release the lease."""
        ...

    def forget(self, upload: str) -> None:
        """Drop all that is kept about an upload which is removed."""
        ...
