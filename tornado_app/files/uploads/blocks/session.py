"""The lease on one upload by blocks, which all requests that send blocks share, and the open bytes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Protocol

from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store.blocks import BlockData
from tornado_app.files.uploads.lease.interface import Lease, UploadLeases, locked


class Member(Protocol):
    """A request that sends blocks, or the server itself, which copies them."""

    @property
    def active_at(self) -> float:
        """Return when it last made progress, by `time.monotonic`."""
        ...

    def on_release_requested(self) -> None:
        """Begin to end: somebody else wants the upload. Must not block."""
        ...


class BlockSession:
    """`Holder` of the lease for everybody who writes blocks at the same time. The last one to leave releases it.

    Whoever wants the upload for something else (to end or to cancel it) asks for the lease, and all members end.
    """

    is_internal = False

    def __init__(
        self,
        id: str,
        leases: UploadLeases,
        executor: BlockingExecutor,
        open_data: Callable[[], BlockData],
        reload: Callable[[BlockData], Awaitable[None]],
    ) -> None:
        """`open_data` is called in a worker thread, under the lease; `reload` when another server has had it since."""
        self.is_over = False  # who comes now needs another session
        self.members: set[Member] = set()
        self._id = id
        self._leases = leases
        self._executor = executor
        self._open_data = open_data
        self._reload = reload
        self._lease: Lease | None = None
        self._data: BlockData | None = None
        self._opening: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Return whether `data` is there."""
        return self._data is not None

    @property
    def data(self) -> BlockData:
        """Return the open bytes. For members."""
        if self._data is None:
            raise RuntimeError("the session is not open")
        return self._data

    @property
    def active_at(self) -> float:
        """See `Holder`."""
        return max((member.active_at for member in self.members), default=-math.inf)

    def on_release_requested(self) -> None:
        """See `Holder`."""
        self.is_over = True
        for member in [*self.members]:
            member.on_release_requested()

    async def join(self, member: Member) -> None:
        """Become a member, once the session has the lease and the bytes are open. Raises LOCKED, NO_SUCH_UPLOAD."""
        self.members.add(member)
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        try:
            await asyncio.shield(self._opening)
            if self.is_over:
                raise locked()
        except BaseException:
            await self.leave(member)
            raise

    async def _open(self) -> None:
        self._lease = await self._leases.acquire(self._id, self)
        self._data = await self._executor.run(self._open_data)
        if self._lease.from_other_server:
            await self._reload(self._data)

    async def leave(self, member: Member) -> None:
        """End membership. May be called twice."""
        self.members.discard(member)
        if self.members or self._opening is None or not self._opening.done():
            return
        self.is_over = True
        data, self._data = self._data, None
        lease, self._lease = self._lease, None
        try:
            if data is not None:
                await self._executor.run(data.close)
        finally:
            if lease is not None:
                self._leases.release(lease)

    def check(self) -> None:
        """Raise LOCKED when another server has taken the lease over: nothing may be written then. Blocks."""
        if self._lease is None or not self._leases.renew(self._lease):
            raise locked()
