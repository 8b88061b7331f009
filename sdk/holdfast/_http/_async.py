"""Async driver: plans run on the asyncio loop, blocking functions on threads, whole transfers on a thread each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar, cast

import httpcore
import httpx

from holdfast import errors, plans
from holdfast._endpoints.call import Call
from holdfast._http._common import (
    AsyncTransport,
    Connection,
    Requests,
    ResponseBody,
    answer_of,
    read_answer,
    translated,
)
from holdfast._http._sync import session
from holdfast._http._threads import all_ended, in_thread, on_own_thread
from holdfast.plans import Close, Do, Emit, Open, Plan, Read, Sleep, Together

T = TypeVar("T")

_SMALL_READ = 64 << 10
"""Size of a read after which more bytes are probably there. They are collected and written by one call on a thread."""

MOST_THREADS = 64
"""Transfers that run at once; a program that starts thousands would otherwise have as many threads and connections."""

_GATHER_TIMEOUT = 0.05
"""Seconds to wait for more bytes before those that are there are returned."""


class _AsyncStream(plans.Stream):
    def __init__(self, response: httpx.Response) -> None:
        self.answer = answer_of(response)
        self._response = response
        self._chunks = response.aiter_raw()
        self._body = ResponseBody(response)
        self._network: Any = None
        self._timeout: float = response.request.extensions["timeout"]["read"]

    async def read(self, size: int) -> bytes:
        if self._network is not None:
            return await self._receive(size)
        with translated():
            chunk = await anext(self._chunks, b"")
        self._body.consumed(chunk)
        if chunk and self._body.may_bypass_h11():
            self._network = self._response.extensions.get("network_stream")
        return chunk

    async def _receive(self, size: int) -> bytes:
        """Read from httpcore's stream, without h11. The socket itself belongs to the loop's transport."""
        most = min(size, self._body.left or 0)
        pieces: list[bytes] = []
        received = 0
        while received < most:
            try:
                data: bytes = await self._network.read(most - received, _GATHER_TIMEOUT if pieces else self._timeout)
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                if pieces:
                    break  # the next read gets the same error
                raise errors.ConnectionBroken(f"the connection broke within the body: {error}") from error
            if not data and not pieces:
                raise errors.ConnectionBroken(f"the connection ended {most} bytes before the body did")
            pieces.append(data)
            received += len(data)
            if len(data) < _SMALL_READ:
                break
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._body.consumed(data)
        return data

    async def close(self) -> None:
        await self._response.aclose()


class AsyncDriver(Requests):
    """Runs plans on the asyncio loop; blocking functions run on threads."""

    def __init__(self, connection: Connection, transport: AsyncTransport | None = None) -> None:
        super().__init__(connection)
        self._has_own_transport = transport is None
        self._threads = asyncio.Semaphore(MOST_THREADS)
        options = self._client_options()
        if transport is None and connection.socket is not None:
            transport = httpx.AsyncHTTPTransport(uds=connection.socket, limits=options["limits"], verify=False)
        self._client = httpx.AsyncClient(transport=transport, **options)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def run(self, plan: Plan[T]) -> T:
        """Run a plan and return its result. Raises what the plan raises."""
        results: list[T] = []
        async for _ in self.iterate(plan, results.append):
            pass
        return results[0]

    async def transfer(self, plan: Plan[T]) -> T:
        """Run the plan of a transfer on a thread, by blocking sockets: no byte passes through the loop.

        If cancelled, shut its connections down, and raise `CancelledError` after it has ended. A transport of the user
        can be used on the loop only, so the plan then runs there.
        """
        if not self._has_own_transport:
            return await self.run(plan)
        stop = plans.Stop()

        def work() -> T:
            with session(self.connection, stop) as driver:
                return driver.run(plan, stop)

        async with self._threads:
            return await on_own_thread(work, stop.set, "holdfast-transfer")

    async def iterate(self, plan: Plan[T], done: Callable[[T], None] = lambda result: None) -> AsyncIterator[Any]:
        """Iterate over the values that a plan emits; `done` is called with its result."""
        streams: set[_AsyncStream] = set()
        value: Any = None
        failure: BaseException | None = None
        try:
            while True:
                try:
                    effect = plan.send(value) if failure is None else plan.throw(failure)
                except StopIteration as end:
                    done(end.value)
                    return
                value = failure = None
                if isinstance(effect, Emit):
                    yield effect.value
                    continue
                try:
                    value = await self._carry_out(effect, streams)
                except BaseException as error:
                    failure = error
        finally:
            for stream in streams:
                await stream.close()
            plan.close()

    async def _carry_out(self, effect: plans.Effect, streams: set[_AsyncStream]) -> Any:
        match effect:
            case Read(stream, size):
                return await cast("_AsyncStream", stream).read(size)
            case Do(function):
                return await in_thread(function)
            case Call():
                return await self._send(effect)
            case Open(call):
                opened = await self._open(call)
                streams.add(opened)
                return opened
            case Close(stream):
                await cast("_AsyncStream", stream).close()
                streams.discard(cast("_AsyncStream", stream))
            case Sleep(seconds):
                self.connection.report_retry(effect)
                await asyncio.sleep(seconds)
            case Together():
                await self._together(effect)
            case _:
                raise TypeError(f"not an effect: {effect!r}")
        return None

    async def _together(self, effect: Together) -> None:
        """Run each plan as a task. The first failure cancels the others and is raised once they have ended."""
        running = {asyncio.create_task(self.run(plan)) for plan in effect.plans}
        failures: list[BaseException] = []
        try:
            while running and not failures:
                ended, running = await asyncio.wait(running, timeout=effect.every, return_when=asyncio.FIRST_COMPLETED)
                failures = [error for task in ended if (error := task.exception()) is not None]
                if not failures:
                    running |= {asyncio.create_task(self.run(plan)) for plan in effect.more()}
        finally:
            for task in running:
                task.cancel()
            await all_ended(running)
            for task in running:
                task.cancelled() or task.exception()  # asyncio would log further failures as never retrieved
        if failures:
            raise failures[0]

    async def _request(self, call: Call[Any]) -> httpx.Request:
        if self.connection.must_read_token:
            await in_thread(self.connection.read_local_token)
        body = call.content
        content = body if body is None or isinstance(body, bytes) else _off_the_loop(body.pieces())
        return self._client.build_request(call.method, self._url(call), content=content, **self._options(call))

    async def _send(self, call: Call[T]) -> T:
        with translated():
            response = self._note_reached(await self._client.send(await self._request(call)))
        return read_answer(call, response)

    async def _open(self, call: Call[Any]) -> _AsyncStream:
        with translated():
            response = self._note_reached(await self._client.send(await self._request(call), stream=True))
            if response.status_code >= 300:
                await response.aread()
                await response.aclose()
        if response.is_closed:
            read_answer(call, response)
        return _AsyncStream(response)


async def _off_the_loop(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        piece = await in_thread(next, pieces, None)
        if piece is None:
            return
        yield piece
