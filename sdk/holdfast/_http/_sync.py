"""Sync driver: plans run in the calling thread, long bodies are read from the socket."""

from __future__ import annotations

import queue
import socket
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import httpx

from holdfast import errors, plans
from holdfast._endpoints.call import Call
from holdfast._http._common import (
    BUFFER,
    NEW_CONNECTION,
    Connection,
    Requests,
    ResponseBody,
    SyncTransport,
    answer_of,
    read_answer,
    translated,
)
from holdfast.plans import Close, Do, Emit, Open, Plan, Read, Sleep, Together

T = TypeVar("T")


class _SyncStream(plans.Stream):
    def __init__(self, response: httpx.Response) -> None:
        self.answer = answer_of(response)
        self._response = response
        self._chunks = response.iter_raw()
        self._body = ResponseBody(response)
        self._socket: socket.socket | None = None
        self._buffer = memoryview(b"")

    def read(self, size: int) -> bytes | memoryview:
        if self._socket is not None:
            return self._receive(self._socket, size)
        with translated():
            chunk = next(self._chunks, b"")
        self._body.consumed(chunk)
        if chunk and self._body.may_bypass_h11() and (network := self._response.extensions.get("network_stream")):
            self._socket = network.get_extra_info("socket")
            self._buffer = memoryview(bytearray(BUFFER))
        return chunk

    def _receive(self, connection: socket.socket, size: int) -> memoryview:
        """Read from the socket directly; httpcore has set its timeout."""
        left = self._body.left or 0
        try:
            count = connection.recv_into(self._buffer, min(size, left, BUFFER))
        except TimeoutError as error:
            raise errors.RequestTimeout("no byte received within the timeout") from error
        except OSError as error:
            raise errors.ConnectionBroken(f"the connection broke within the body: {error}") from error
        if not count and left:
            raise errors.ConnectionBroken(f"the connection ended {left} bytes before the body did")
        data = self._buffer[:count]
        self._body.consumed(data)
        return data

    def close(self) -> None:
        self._response.close()


class _Connections:
    """Connections of a session, from all of its threads.

    The pool does not know a connection that is still being opened, so closing the pool would leave it open. Here such a
    connection is shut down as soon as it is there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._stopped = False

    def add(self, connection: Any) -> None:
        with self._lock:
            self._open.add(connection)
            late = self._stopped
        if late:
            _shut_down(connection)

    def shut_down(self) -> None:
        """Shut all connections down. Threads that wait on one get an error."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _shut_down(connection)

    def stop(self) -> None:
        """Shut down all connections, also those that are opened later."""
        self._stopped = True
        self.shut_down()

    def close(self) -> None:
        """Close the connections that the pool did not know, after it was closed."""
        self.stop()
        for connection in list(self._open):
            connection.close()


def _shut_down(connection: Any) -> None:
    try:
        connection.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    except OSError:  # closed already
        pass


class SyncDriver(Requests):
    """Runs plans in the calling thread; `Together` starts further ones."""

    def __init__(self, connection: Connection, transport: SyncTransport | None = None) -> None:
        super().__init__(connection)
        self._transport = transport
        options = self._client_options()
        if transport is None and connection.socket is not None:
            transport = httpx.HTTPTransport(uds=connection.socket, limits=options["limits"], verify=False)
        self._client = httpx.Client(transport=transport, **options)
        self._connections: _Connections | None = None

    def close(self) -> None:
        """Close every connection."""
        self._client.close()
        if self._connections is not None:
            self._connections.close()

    @contextmanager
    def session(self, stop: plans.Stop) -> Iterator[SyncDriver]:
        """Return a driver with connections of its own, which `stop` shuts down at once.

        If the user passed a transport, that one is shared and stays open.
        """
        if self._transport is not None:
            yield self
            return
        with session(self.connection, stop) as driver:
            yield driver

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Add a new connection (the `trace` extension of httpcore)."""
        if event in NEW_CONNECTION and self._connections is not None:
            self._connections.add(info["return_value"])

    def run(self, plan: Plan[T], stop: plans.Stop | None = None) -> T:
        """Run a plan and return its result. Raises what the plan raises, and `Stopped`."""
        steps = self.iterate(plan, stop)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return cast("T", end.value)

    def iterate(self, plan: Plan[T], stop: plans.Stop | None = None) -> Generator[Any, None, T]:
        """Iterate over the values that a plan emits. Closing the iterator closes the plan."""
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
                    if stop is not None and not (isinstance(effect, Do) and effect.always):
                        stop.check()
                    value = self._carry_out(effect, streams, stop)
                except BaseException as error:
                    # A connection that `stop` has shut down is no failure.
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
                self.connection.report_retry(effect)
                stop.sleep(seconds) if stop is not None else time.sleep(seconds)
            case Together():
                self._together(effect, stop)
            case _:
                raise TypeError(f"not an effect: {effect!r}")
        return None

    def _together(self, effect: Together, stop: plans.Stop | None) -> None:
        """Run each plan on a thread. The first failure stops the others and is raised once they have ended."""
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
                    if self._connections is not None:
                        self._connections.shut_down()
            except queue.Empty:
                pass
            fresh = [] if inner.is_set() else list(effect.more())
        if failure is not None:
            raise failure

    def _request(self, call: Call[Any]) -> httpx.Request:
        body = call.content
        content = body if body is None or isinstance(body, bytes) else body.pieces()
        request = self._client.build_request(call.method, self._url(call), content=content, **self._options(call))
        if self._connections is not None:
            request.extensions["trace"] = self._trace
        return request

    def _send(self, call: Call[T]) -> T:
        with translated():
            response = self._note_reached(self._client.send(self._request(call)))
        return read_answer(call, response)

    def _open(self, call: Call[Any]) -> _SyncStream:
        with translated():
            response = self._note_reached(self._client.send(self._request(call), stream=True))
            if response.status_code >= 300:
                response.read()
                response.close()
        if response.is_closed:
            read_answer(call, response)
        return _SyncStream(response)


@contextmanager
def session(connection: Connection, stop: plans.Stop) -> Iterator[SyncDriver]:
    """Return a driver with connections of its own, which `stop` shuts down at once."""
    driver = SyncDriver(connection)
    driver._connections = _Connections()
    stop.then(driver._connections.stop)
    try:
        yield driver
    finally:
        driver.close()
