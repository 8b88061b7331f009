"""The only module that imports httpx: one sync and one async driver of the plans.

A driver carries out the effects that a plan yields, turns httpx's exceptions into those of `holdfast.errors`, and
closes what a plan left open. Both are safe to share: the sync one between threads, the async one between the tasks of
a loop.
"""

# ruff: noqa: E402 - what has to happen before httpx is imported is explained there

from __future__ import annotations

import asyncio
import os
import queue
import socket
import ssl
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar, cast
from urllib.parse import urlsplit

# httpx imports click, rich and pygments for its own command line, where they are: four fifths of its import time.
# None makes that one import fail, as it does where they are not, which httpx is prepared for.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # the import system's own sign
import httpcore
import httpx

if sys.modules.get("httpx._main") is None:
    sys.modules.pop("httpx._main", None)

from holdfast import errors, plans
from holdfast._call import Answer, Call
from holdfast.plans import STUBBORN, Close, Do, Emit, Open, Plan, Read, Retries, Sleep, Together

T = TypeVar("T")

BUFFER = 1 << 20
WORTH_IT = 256 << 10  # bytes; a new connection costs about as much as reading so many through h11
CONNECT = 10.0  # seconds: who does not take a connection within so many won't take it at all
NEW_WIRE = frozenset(
    {"connection.connect_tcp.complete", "connection.connect_unix_socket.complete", "connection.start_tls.complete"}
)
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
        seconds = self.connection.timeout
        timeout = httpx.Timeout(seconds, read=seconds + call.wait, connect=min(seconds, CONNECT))
        return {"params": call.query, "headers": headers, "timeout": timeout}

    def _client_options(self) -> dict[str, Any]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=15.0)
        return {"limits": limits, "verify": self.connection.tls(), "follow_redirects": False}

    def _url(self, call: Call[Any]) -> str:
        return self.connection.base_url + call.path


class _Body:
    """How much of a body of known length is still to come, and whether it may be read past h11.

    h11 hands out all that it holds with the first piece of a body (`h11._readers.ContentLengthReader`), so after it the
    rest of a long body can be taken from the socket as it is. The connection can't be used again afterwards.
    """

    def __init__(self, response: httpx.Response) -> None:
        length = response.headers.get("content-length")
        self.left = int(length) if length is not None and length.isdigit() else None
        self._plain = response.http_version == "HTTP/1.1" and "transfer-encoding" not in response.headers

    def took(self, data: bytes | memoryview) -> None:
        """So much more has come."""
        if self.left is not None:
            self.left -= len(data)

    def worth_it(self) -> bool:
        """Whether the rest is long enough to pay for another connection later."""
        return self._plain and self.left is not None and self.left >= WORTH_IT


# -- sync


class _SyncStream(plans.Stream):
    def __init__(self, response: httpx.Response) -> None:
        self.answer = _answer(response)
        self._response = response
        self._chunks = response.iter_raw()
        self._body = _Body(response)
        self._socket: socket.socket | None = None
        self._buffer = memoryview(b"")

    def read(self, size: int) -> bytes | memoryview:
        if self._socket is not None:
            return self._receive(self._socket, size)
        with _translated():
            chunk = next(self._chunks, b"")
        self._body.took(chunk)
        if chunk and self._body.worth_it() and (network := self._response.extensions.get("network_stream")):
            self._socket = network.get_extra_info("socket")
            self._buffer = memoryview(bytearray(BUFFER))
        return chunk

    def _receive(self, connection: socket.socket, size: int) -> memoryview:
        """Straight from the socket, whose timeout httpcore has set."""
        left = self._body.left or 0
        try:
            count = connection.recv_into(self._buffer, min(size, left, BUFFER))
        except TimeoutError as error:
            raise errors.RequestTimeout("nothing came for as long as the timeout") from error
        except OSError as error:
            raise errors.ConnectionBroken(f"the connection broke in the body: {error}") from error
        if not count and left:
            raise errors.ConnectionBroken(f"the connection ended {left} bytes before the body did")
        data = self._buffer[:count]
        self._body.took(data)
        return data

    def close(self) -> None:
        self._response.close()


class SyncDriver(_Requests):
    """Runs plans in the calling thread; `Together` starts further ones."""

    def __init__(self, connection: Connection, transport: SyncTransport | None = None) -> None:
        super().__init__(connection)
        self._transport = transport
        self._client = httpx.Client(transport=transport, **self._client_options())
        self._wires: weakref.WeakSet[Any] | None = None

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    @contextmanager
    def session(self, stop: plans.Stop) -> Iterator[SyncDriver]:
        """A driver with connections of its own, which `stop` cuts whatever they are doing.

        A transport that the user gave is shared, and left alone.
        """
        if self._transport is not None:
            yield self
            return
        driver = SyncDriver(self.connection)
        driver._wires = weakref.WeakSet()
        stop.then(driver.cut)
        try:
            yield driver
        finally:
            driver.close()

    def cut(self) -> None:
        """Shut down every connection of a session: whoever waits on one wakes up with an error."""
        for wire in list(self._wires or ()):
            connection = wire.get_extra_info("socket")
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed already
                pass

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """httpcore tells of each new connection (its `trace` extension)."""
        if event in NEW_WIRE and self._wires is not None:
            self._wires.add(info["return_value"])

    def run(self, plan: Plan[T], stop: plans.Stop | None = None) -> T:
        """The plan's result. Raises what the plan raises, and `Stopped`."""
        steps = self.iterate(plan, stop)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return cast("T", end.value)

    def iterate(self, plan: Plan[T], stop: plans.Stop | None = None) -> Generator[Any, None, T]:
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
                    # A connection that `stop` has cut is no failure.
                    failure = plans.Stopped() if stop is not None and stop.is_set() else error
        finally:
            for stream in streams:
                stream.close()
            plan.close()

    def _carry_out(self, effect: plans.Effect, streams: set[_SyncStream], stop: plans.Stop | None) -> Any:
        match effect:
            case Read(stream, size):
                return cast("_SyncStream", stream).read(size)
            case Do(function):
                return function()
            case Call():
                return self._send(effect)
            case Open(call):
                opened = self._open(call)
                streams.add(opened)
                return opened
            case Close(stream):
                cast("_SyncStream", stream).close()
                streams.discard(cast("_SyncStream", stream))
            case Sleep(seconds):
                stop.sleep(seconds) if stop is not None else time.sleep(seconds)
            case Together():
                self._together(effect, stop)
            case _:
                raise TypeError(f"not an effect: {effect!r}")
        return None

    def _together(self, effect: Together, stop: plans.Stop | None) -> None:
        """A thread a plan. The first failure stops the others and is raised once they have ended."""
        inner = plans.Stop()
        if stop is not None:
            stop.then(inner.set)
        ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def work(plan: Plan[Any]) -> None:
            try:
                self.run(plan, inner)
                ended.put(None)
            except BaseException as error:
                ended.put(error)

        running = 0
        failure: BaseException | None = None
        fresh = list(effect.plans)
        while fresh or running:
            for plan in fresh:
                threading.Thread(target=work, args=(plan,), name="holdfast-worker", daemon=True).start()
                running += 1
            try:
                outcome = ended.get(timeout=effect.every)
                running -= 1
                if outcome is not None:
                    failure = failure or outcome
                    inner.set()
                    self.cut()
            except queue.Empty:
                pass
            fresh = [] if inner.is_set() else list(effect.more())
        if failure is not None:
            raise failure

    def _request(self, call: Call[Any]) -> httpx.Request:
        body = call.content
        content = body if body is None or isinstance(body, bytes) else body.pieces()
        request = self._client.build_request(call.method, self._url(call), content=content, **self._options(call))
        if self._wires is not None:
            request.extensions["trace"] = self._trace
        return request

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
        self._body = _Body(response)
        self._network: Any = None
        self._timeout: float = response.request.extensions["timeout"]["read"]

    async def read(self, size: int) -> bytes:
        if self._network is not None:
            return await self._receive(size)
        with _translated():
            chunk = await anext(self._chunks, b"")
        self._body.took(chunk)
        if chunk and self._body.worth_it():
            self._network = self._response.extensions.get("network_stream")
        return chunk

    async def _receive(self, size: int) -> bytes:
        """Past h11 through httpcore's stream: the socket itself belongs to the loop's transport."""
        left = self._body.left or 0
        if not left:
            return b""
        try:
            data: bytes = await self._network.read(min(size, left), self._timeout)
        except (httpcore.NetworkError, httpcore.TimeoutException) as error:
            raise errors.ConnectionBroken(f"the connection broke in the body: {error}") from error
        if not data:
            raise errors.ConnectionBroken(f"the connection ended {left} bytes before the body did")
        self._body.took(data)
        return data

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
        match effect:
            case Read(stream, size):
                return await cast("_AsyncStream", stream).read(size)
            case Do(function):
                return await asyncio.to_thread(function)
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
                await asyncio.sleep(seconds)
            case Together():
                await self._together(effect)
            case _:
                raise TypeError(f"not an effect: {effect!r}")
        return None

    async def _together(self, effect: Together) -> None:
        """A task a plan. The first failure cancels the others and is raised once they have ended."""
        running = {asyncio.create_task(self.run(plan)) for plan in effect.plans}
        try:
            while running:
                ended, running = await asyncio.wait(running, timeout=effect.every, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
                running |= {asyncio.create_task(self.run(plan)) for plan in effect.more()}
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

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
