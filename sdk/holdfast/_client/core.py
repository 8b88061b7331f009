"""Core of a client: its connection, its driver, its policies of retries, and whether it was closed.

Clients, files, transfers, processes and notebook views share one core; none of them needs the client itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol

from holdfast import plans
from holdfast._endpoints.call import Call, T
from holdfast._http import AsyncDriver, Connection, SyncDriver
from holdfast.plans import Retries, Stop


class Values(Iterator[Any]):
    """Iterator over the values of a plan. A notebook shows what to do with it."""

    def __init__(self, values: Iterator[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return self._values

    def __next__(self) -> Any:
        return next(self._values)

    def close(self) -> None:
        """End the plan."""
        close: Callable[[], None] | None = getattr(self._values, "close", None)
        if close is not None:
            close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: loop over them, or call list() on them>"


class AsyncValues(AsyncIterator[Any]):
    """Async iterator over the values of a plan."""

    def __init__(self, values: AsyncIterator[Any]) -> None:
        self._values = values

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._values

    async def __anext__(self) -> Any:
        return await anext(self._values)

    async def aclose(self) -> None:
        """End the plan."""
        close: Callable[[], Awaitable[None]] | None = getattr(self._values, "aclose", None)
        if close is not None:
            await close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: loop over them with `async for`>"


class ClientCore:
    """Part of the core that is the same in sync and async."""

    def __init__(self, client_name: str, connection: Connection) -> None:
        self.client_name = client_name
        self.connection = connection
        self.closed = Stop()
        """Set when the client is closed; notebook views stop updating then."""
        self.page_url: str | None = None
        """URL by which the page of the notebook reaches the server, if it differs from `base_url`."""

    @property
    def base_url(self) -> str:
        """URL of the server, without a slash at the end."""
        return self.connection.base_url

    @property
    def retries(self) -> Retries:
        """Policy of single requests."""
        return self.connection.retries

    @property
    def patience(self) -> Retries:
        """Policy of what runs for long: transfers, waits and event streams."""
        return self.connection.patience

    def __repr__(self) -> str:
        return f"<{self.client_name} {self.connection.shown_url}>"


class SyncCore(ClientCore):
    """Core of `Client`: runs plans in the calling thread."""

    def __init__(self, client_name: str, driver: SyncDriver) -> None:
        super().__init__(client_name, driver.connection)
        self.driver = driver

    def run(self, plan: plans.Plan[plans.T]) -> plans.T:
        """Run a plan and return its result."""
        return self.driver.run(plan)

    def iterate(self, plan: plans.Plan[None]) -> Iterator[Any]:
        """Iterate over the values that a plan emits."""
        return Values(self.driver.iterate(plan))

    def request(self, call: Call[T]) -> T:
        """Send one call, repeated as `retries` allows."""
        return self.driver.run(plans.request(call, self.retries))

    def close(self) -> None:
        """Close every connection."""
        self.closed.set()
        self.driver.close()


class AsyncCore(ClientCore):
    """Core of `AsyncClient`: runs plans on the caller's asyncio loop."""

    def __init__(self, client_name: str, driver: AsyncDriver) -> None:
        super().__init__(client_name, driver.connection)
        self.driver = driver

    async def run(self, plan: plans.Plan[plans.T]) -> plans.T:
        """Run a plan and return its result."""
        return await self.driver.run(plan)

    def iterate(self, plan: plans.Plan[None]) -> AsyncIterator[Any]:
        """Iterate over the values that a plan emits."""
        return AsyncValues(self.driver.iterate(plan))

    async def request(self, call: Call[T]) -> T:
        """Send one call, repeated as `retries` allows."""
        return await self.driver.run(plans.request(call, self.retries))

    async def close(self) -> None:
        """Close every connection."""
        self.closed.set()
        await self.driver.close()


AnyCore = SyncCore | AsyncCore


class AnyClient(Protocol):
    """A client of either face: `holdfast.Client` or `holdfast.AsyncClient`."""

    @property
    def _core(self) -> AnyCore: ...


def core_of(client: AnyClient | AnyCore) -> AnyCore:
    """Return the core of a client."""
    return client if isinstance(client, SyncCore | AsyncCore) else client._core
