"""A TCP proxy with faults on demand: it cuts, stalls, slows down, delays, flips a bit, repeats, swallows an answer.

It runs on a thread of its own, so that any kind of client can go through it:

    with FaultyProxy(port, Fault(cut_down=1000)) as proxy:
        download(proxy.url)          # the first connection breaks after 1000 bytes of the answer; later ones pass
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from tests.support.servers import PATIENCE

CHUNK = 64 * 1024


@dataclass(frozen=True)
class Fault:
    """Fault of one connection. Counts are bytes since the fault began; rates are bytes a second.

    A fault begins with the connection, or, when `when` is given, with the piece of the request that contains it, such
    as `b"PATCH "`. `up` is from client to server, `down` from server to client. A cut resets both sides, or ends them
    in an orderly way when `reset` is false. A stall lasts until `release()` or the end of the proxy.
    """

    when: bytes = b""
    cut_up: int | None = None
    cut_down: int | None = None
    stall_up: int | None = None
    stall_down: int | None = None
    rate_up: float | None = None
    rate_down: float | None = None
    delay: float = 0.0
    swallow_answer: bool = False
    """The server gets the whole request; in place of its final answer (not of a 1xx) the client gets a cut."""
    flip_up: int | None = None
    """The byte after so many has its lowest bit flipped, as by a broken switch or memory. The connection goes on."""
    flip_down: int | None = None
    duplicate: bool = False
    """The request reaches the server a second time, on another connection, before the first answer is passed on."""
    reset: bool = True
    forget: bytes = b""
    """A header field, such as `b"Range: "`, that does not reach the server."""


CLEAN = Fault()


class FaultyProxy:
    """Listens on a free port of loopback, from `start` to `stop`, or as a context manager.

    Each of `faults` is used once, in order, by the first connection to which it applies; what comes after passes.
    """

    def __init__(self, upstream: int, *faults: Fault, host: str = "127.0.0.1") -> None:
        self.upstream = upstream
        self.host = host
        self.port = 0
        self.connections = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.used: list[Fault] = []
        """The faults that have begun."""
        self.happened = 0
        """How many cuts, stalls, duplicates and swallowed answers there were."""
        self._faults = list(faults)
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._released = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="faulty-proxy", daemon=True)

    @property
    def url(self) -> str:
        """Return the URL for clients, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> FaultyProxy:
        """Listen; `port` is known afterwards."""
        self._listener = socket.create_server((self.host, 0), backlog=256)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._thread.start()
        return self

    def stop(self) -> None:
        """Cut whatever is left, and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(PATIENCE)

    def __enter__(self) -> FaultyProxy:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add(self, *faults: Fault) -> None:
        """More faults for the connections and requests to come."""
        with self._changed:
            self._faults.extend(faults)

    def release(self) -> None:
        """Let every stalled connection go on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def cut_all(self) -> None:
        """Reset every connection that is open now."""
        self._loop.call_soon_threadsafe(self._cut_all)

    def wait_for(self, condition: Callable[[FaultyProxy], bool], timeout: float = PATIENCE) -> None:
        """Block until the condition holds. Raises `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError(
                    f"not within {timeout} s: {self.connections} connections, {self.bytes_up} bytes up, "
                    f"{self.bytes_down} bytes down, {self.happened} faults"
                )

    # -- on the proxy's own thread

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        assert self._listener is not None
        with self._listener:
            self._loop.add_reader(self._listener, self._accept, self._listener)
            await self._stopping.wait()
            self._loop.remove_reader(self._listener)
        self._cut_all()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _cut_all(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _accept(self, listener: socket.socket) -> None:
        """Not `sock_accept`: what that had accepted would be lost, unclosed, when it is cancelled just then."""
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            connection = _Connection(self, client)
            task = self._loop.create_task(connection.run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: connection.close())  # one cancelled before it began closes nothing itself

    def _count(self, *, connections: int = 0, up: int = 0, down: int = 0, happened: int = 0) -> None:
        with self._changed:
            self.connections += connections
            self.bytes_up += up
            self.bytes_down += down
            self.happened += happened
            self._changed.notify_all()

    def _take(self, piece: bytes | None) -> Fault | None:
        """The next fault, if it begins here: with a connection (None), or with a piece of a request."""
        with self._changed:
            when = self._faults[0].when if self._faults else None
            if when is not None and (not when if piece is None else when and when in piece):
                self.used.append(self._faults.pop(0))
                self._changed.notify_all()
                return self.used[-1]
        return None


class _CutError(Exception):
    pass


class _Connection:
    def __init__(self, proxy: FaultyProxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.loop = proxy._loop
        self.client = client
        self.server = socket.socket()
        self.fault = proxy._take(None) or CLEAN
        self.up = 0
        self.down = 0
        self.request = bytearray()

    async def run(self) -> None:
        self.proxy._count(connections=1)
        self.client.setblocking(False)
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        abrupt = True
        try:
            await self._connect(self.server)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump_up())
                group.create_task(self._pump_down())
            abrupt = False
        except* _CutError:
            abrupt = self.fault.reset
            self.proxy._count(happened=1)
        except* OSError:
            pass  # one side broke: so does the other
        finally:
            for end in (self.client, self.server):
                if abrupt:
                    # Linger for no time at all makes close() send a reset.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def close(self) -> None:
        self.client.close()
        self.server.close()

    async def _connect(self, server: socket.socket) -> None:
        server.setblocking(False)
        await self.loop.sock_connect(server, (self.proxy.host, self.proxy.upstream))

    async def _pump_up(self) -> None:
        while piece := await self.loop.sock_recv(self.client, CHUNK):
            fault = self.proxy._take(piece)
            if fault is not None:
                self.fault, self.up, self.down, self.request = fault, 0, 0, bytearray()
            if self.fault.forget:
                piece = re.sub(rb"(?im)^" + re.escape(self.fault.forget), b"X-Forgotten-" + self.fault.forget, piece)
            if self.fault.duplicate:
                self.request += piece
            await self._forward(piece, self.server, "up")
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_WR)

    async def _pump_down(self) -> None:
        while piece := await self.loop.sock_recv(self.server, CHUNK):
            final = piece[_informational(piece) :]
            if self.fault.swallow_answer and final:
                await self._forward(piece.removesuffix(final), self.client, "down")
                raise _CutError
            if self.fault.duplicate and final and self.request:
                await self._send_again(bytes(self.request))
                self.request.clear()
            await self._forward(piece, self.client, "down")
        with contextlib.suppress(OSError):
            self.client.shutdown(socket.SHUT_WR)

    async def _forward(self, piece: bytes, to: socket.socket, way: str) -> None:
        cut: int | None = getattr(self.fault, f"cut_{way}")
        stall: int | None = getattr(self.fault, f"stall_{way}")
        rate: float | None = getattr(self.fault, f"rate_{way}")
        if self.fault.delay:
            await asyncio.sleep(self.fault.delay)
        while piece:
            done: int = getattr(self, way)
            take = len(piece)
            if rate is not None:
                take = min(take, max(1, int(rate / 20)))
            for limit in (cut, stall):
                if limit is not None and done < limit:
                    take = min(take, limit - done)
            if cut is not None and done >= cut:
                raise _CutError
            if stall is not None and done >= stall and not self.proxy._released.is_set():
                self.proxy._count(happened=1)
                await self.proxy._released.wait()
            await self.loop.sock_sendall(to, self._flipped(piece[:take], done, way))
            setattr(self, way, done + take)
            self.proxy._count(**{way: take})
            piece = piece[take:]
            if rate is not None:
                await asyncio.sleep(take / rate)
        if cut is not None and getattr(self, way) >= cut:
            raise _CutError

    def _flipped(self, piece: bytes, done: int, way: str) -> bytes:
        """The piece, with a bit flipped if that is the fault; `done` bytes have passed before it."""
        flip: int | None = getattr(self.fault, f"flip_{way}")
        if flip is None or not done <= flip < done + len(piece):
            return piece
        self.proxy._count(happened=1)
        at = flip - done
        return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]

    async def _send_again(self, request: bytes) -> None:
        """Send the same bytes once more, as a retry on the way does; nobody reads the answer to its end."""
        with socket.socket() as again, contextlib.suppress(OSError):
            await self._connect(again)
            await self.loop.sock_sendall(again, request)
            answer = b""
            while b"\r\n\r\n" not in answer[_informational(answer) :]:
                piece = await self.loop.sock_recv(again, CHUNK)
                if not piece:
                    break
                answer += piece
        self.proxy._count(happened=1)


def _informational(answer: bytes) -> int:
    """Return the offset of the final answer, after all whole 1xx answers."""
    at = 0
    while answer.startswith(b"HTTP/1.1 1", at) and (end := answer.find(b"\r\n\r\n", at)) >= 0:
        at = end + 4
    return at
