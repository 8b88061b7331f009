"""The only module that imports httpx: one sync and one async driver of the plans.

A driver carries out the effects that a plan yields, turns httpx's exceptions into those of `holdfast.errors`, and
closes what a plan left open. Both are safe to share: the sync one between threads, the async one between the tasks of
a loop.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar, cast
from urllib.parse import urlsplit

import httpx

from holdfast import errors, plans
from holdfast.calls import Answer, Call
from holdfast.plans import STUBBORN, Close, Do, Emit, Open, Plan, Read, Retries, Sleep, Stop

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
SyncTransport = httpx.BaseTransport
AsyncTransport = httpx.AsyncBaseTransport
Token = str | Callable[[], str | None] | None


@dataclass
class Connection:
    """Where the server is and how to talk to it.

    `token` may be changed at any time, or be a function that gives it. `patience` is the policy of what runs on for
    itself, transfers and event streams; `retries` is that of everything else.
    """

    base_url: str
    token: Token = None
    timeout: float = 30.0
    retries: Retries = field(default_factory=Retries)
    patience: Retries = STUBBORN

    @classmethod
    def of(cls, base_url: str | None, token: Token, timeout: float, retries: int | Retries | None) -> Connection:
        """From arguments, then `HOLDFAST_URL` and `HOLDFAST_TOKEN`. Raises `ValueError` for what is no http(s) URL."""
        url = base_url or os.environ.get("HOLDFAST_URL") or DEFAULT_URL
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a server; it should look like {DEFAULT_URL}")
        if token is None:
            token = os.environ.get("HOLDFAST_TOKEN") or None
        policies = Retries.of(retries, Retries()), Retries.of(retries, STUBBORN)
        return cls(url.rstrip("/"), token, timeout, *policies)

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        token = self.token() if callable(self.token) else self.token
        # identity: a compressed body has other offsets and another length than the file.
        headers = {"Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def tls(self) -> ssl.SSLContext | bool:
        """Loading the authorities' certificates takes longer than a request: not for plain http."""
        return httpx.create_ssl_context() if self.base_url.startswith("https:") else False


def plain_client() -> httpx.Client:
    """A client as a server lends it to work."""
    return httpx.Client(timeout=30.0)


@contextmanager
def _translated() -> Iterator[None]:
    """httpx's exceptions as ours, so that no caller has to import httpx."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        _raise(errors.ConnectFailed, error)
    except httpx.TimeoutException as error:
        _raise(errors.RequestTimeout, error)
    except httpx.TransportError as error:
        _raise(errors.ConnectionBroken, error)


def _raise(cls: type[errors.TransportError], error: httpx.HTTPError) -> NoReturn:
    request = error._request  # the property raises when there is none
    where = f"{request.method} {request.url.copy_with(query=None)}: " if request is not None else ""
    raise cls(f"{where}{error or type(error).__name__}") from error


def _answer(response: httpx.Response, body: bytes = b"") -> Answer:
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def _read(call: Call[T], response: httpx.Response) -> T:
    answer = _answer(response, response.content)
    if answer.status >= 400:
        raise errors.from_answer(answer.status, answer.headers, answer.body)
    if answer.status >= 300 and answer.status != 304:
        raise errors.ProtocolError(
            f"redirected to {answer.headers.get('location')}: use that as base_url if it is yours"
        )
    return call.read(answer)


class _Requests:
    """What both drivers make of a call."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _options(self, call: Call[Any]) -> dict[str, Any]:
        headers = self.connection.headers() | call.headers
        if call.content is not None and not isinstance(call.content, bytes) and call.content.length is not None:
            headers["Content-Length"] = str(call.content.length)
        timeout = httpx.Timeout(self.connection.timeout, read=self.connection.timeout + call.wait)
        return {"params": call.query, "headers": headers, "timeout": timeout}

    def _client_options(self) -> dict[str, Any]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=15.0)
        return {"limits": limits, "verify": self.connection.tls(), "follow_redirects": False}

    def _url(self, call: Call[Any]) -> str:
        return self.connection.base_url + call.path


# -- sync


class _SyncStream(plans.Stream):
    def __init__(self, response: httpx.Response) -> None:
        self.answer = _answer(response)
        self._response = response
        self._chunks = response.iter_raw()

    def read(self, size: int) -> bytes:
        with _translated():
            return next(self._chunks, b"")

    def close(self) -> None:
        self._response.close()


class SyncDriver(_Requests):
    """Runs plans in the calling thread."""

    def __init__(self, connection: Connection, transport: SyncTransport | None = None) -> None:
        super().__init__(connection)
        self._client = httpx.Client(transport=transport, **self._client_options())

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def run(self, plan: Plan[T], stop: Stop | None = None) -> T:
        """The plan's result. Raises what the plan raises, and `Stopped`."""
        steps = self.iterate(plan, stop)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return cast("T", end.value)

    def iterate(self, plan: Plan[T], stop: Stop | None = None) -> Generator[Any, None, T]:
        """The values that the plan emits; closing the iterator closes the plan."""
        streams: set[_SyncStream] = set()
        value: Any = None
        failure: BaseException | None = None
        try:
            while True:
                try:
                    effect = plan.send(value) if failure is None else plan.throw(failure)
                except StopIteration as end:
                    return cast("T", end.value)
                value = failure = None
                if isinstance(effect, Emit):
                    yield effect.value
                    continue
                try:
                    if stop is not None:
                        stop.check()
                    value = self._carry_out(effect, streams, stop)
                except BaseException as error:
                    failure = error
        finally:
            for stream in streams:
                stream.close()
            plan.close()

    def _carry_out(self, effect: plans.Effect, streams: set[_SyncStream], stop: Stop | None) -> Any:
        if isinstance(effect, Call):
            return self._send(effect)
        if isinstance(effect, Do):
            return effect.function()
        if isinstance(effect, Read):
            return cast("_SyncStream", effect.stream).read(effect.size)
        if isinstance(effect, Sleep):
            return stop.sleep(effect.seconds) if stop else time.sleep(effect.seconds)
        if isinstance(effect, Open):
            stream = self._open(effect.call)
            streams.add(stream)
            return stream
        if isinstance(effect, Close):
            stream = cast("_SyncStream", effect.stream)
            streams.discard(stream)
            return stream.close()
        raise TypeError(f"not an effect: {effect!r}")

    def _request(self, call: Call[Any]) -> httpx.Request:
        body = call.content
        content = body if body is None or isinstance(body, bytes) else body.pieces()
        return self._client.build_request(call.method, self._url(call), content=content, **self._options(call))

    def _send(self, call: Call[T]) -> T:
        with _translated():
            response = self._client.send(self._request(call))
        return _read(call, response)

    def _open(self, call: Call[Any]) -> _SyncStream:
        with _translated():
            response = self._client.send(self._request(call), stream=True)
            if response.status_code >= 300:
                response.read()
                response.close()
        if response.is_closed:
            _read(call, response)
        return _SyncStream(response)


# -- async


class _AsyncStream(plans.Stream):
    def __init__(self, response: httpx.Response) -> None:
        self.answer = _answer(response)
        self._response = response
        self._chunks = response.aiter_raw()

    async def read(self, size: int) -> bytes:
        with _translated():
            return await anext(self._chunks, b"")

    async def close(self) -> None:
        await self._response.aclose()


class AsyncDriver(_Requests):
    """Runs plans on the asyncio loop; what blocks goes to a thread."""

    def __init__(self, connection: Connection, transport: AsyncTransport | None = None) -> None:
        super().__init__(connection)
        self._client = httpx.AsyncClient(transport=transport, **self._client_options())

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def run(self, plan: Plan[T]) -> T:
        """The plan's result. Raises what the plan raises."""
        results: list[T] = []
        async for _ in self.iterate(plan, results.append):
            pass
        return results[0]

    async def iterate(self, plan: Plan[T], done: Callable[[T], None] = lambda result: None) -> AsyncIterator[Any]:
        """The values that the plan emits; `done` gets its result."""
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
        if isinstance(effect, Call):
            return await self._send(effect)
        if isinstance(effect, Do):
            return await asyncio.to_thread(effect.function)
        if isinstance(effect, Read):
            return await cast("_AsyncStream", effect.stream).read(effect.size)
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Open):
            stream = await self._open(effect.call)
            streams.add(stream)
            return stream
        if isinstance(effect, Close):
            stream = cast("_AsyncStream", effect.stream)
            streams.discard(stream)
            return await stream.close()
        raise TypeError(f"not an effect: {effect!r}")

    def _request(self, call: Call[Any]) -> httpx.Request:
        body = call.content
        content = body if body is None or isinstance(body, bytes) else _off_the_loop(body.pieces())
        return self._client.build_request(call.method, self._url(call), content=content, **self._options(call))

    async def _send(self, call: Call[T]) -> T:
        with _translated():
            response = await self._client.send(self._request(call))
        return _read(call, response)

    async def _open(self, call: Call[Any]) -> _AsyncStream:
        with _translated():
            response = await self._client.send(self._request(call), stream=True)
            if response.status_code >= 300:
                await response.aread()
                await response.aclose()
        if response.is_closed:
            _read(call, response)
        return _AsyncStream(response)


async def _off_the_loop(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        piece = await asyncio.to_thread(next, pieces, None)
        if piece is None:
            return
        yield piece
