"""The faulty proxy does what its faults say: other tests stand on it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import PATIENCE

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Origin(ThreadingHTTPServer):
    """GET answers with `CONTENT`; PUT and PATCH keep what arrived, also when it broke off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []
        self.arrived = threading.Condition()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # resets are what these tests are about


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def do_PATCH(self) -> None:
        body = b""
        wanted = int(self.headers["Content-Length"])
        try:
            while len(body) < wanted and (piece := self.rfile.read1(wanted - len(body))):
                body += piece
        except ConnectionError:
            pass
        with self.server.arrived:
            self.server.bodies.append(body)
            self.server.arrived.notify_all()
        if len(body) == wanted:
            self.send_response_only(103)
            self.end_headers()
            self.send_response(204)
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def origin() -> Iterator[Origin]:
    server = Origin()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def received(proxy: FaultyProxy) -> bytes:
    """Return the bytes that a GET brings before it ends or breaks."""
    content = b""
    with httpx.Client(timeout=PATIENCE) as client, client.stream("GET", proxy.url) as response:
        try:
            for piece in response.iter_raw():
                content += piece
        except httpx.TransportError:
            pass
    return content


def patch(url: str, content: bytes) -> int:
    return httpx.patch(url, content=content, timeout=PATIENCE).status_code


def bodies(origin: Origin, count: int) -> list[bytes]:
    with origin.arrived:
        assert origin.arrived.wait_for(lambda: len(origin.bodies) >= count, 10)
    return origin.bodies


def test_without_faults_everything_passes(origin: Origin) -> None:
    with FaultyProxy(origin.server_port) as proxy:
        assert received(proxy) == CONTENT
        assert patch(proxy.url, b"x" * 100_000) == 204
        assert proxy.connections == 2
        assert proxy.bytes_down > len(CONTENT)
        assert proxy.happened == 0


@pytest.mark.parametrize("reset", [True, False])
def test_an_answer_is_cut_after_so_many_bytes_and_the_next_one_passes(origin: Origin, reset: bool) -> None:
    with FaultyProxy(origin.server_port, Fault(cut_down=300_000, reset=reset)) as proxy:
        content = received(proxy)
        assert len(content) < 300_000
        assert CONTENT.startswith(content)
        assert proxy.bytes_down == 300_000
        assert received(proxy) == CONTENT


def test_a_request_is_cut_after_so_many_bytes(origin: Origin) -> None:
    with FaultyProxy(origin.server_port, Fault(when=b"PATCH ", cut_up=200_000, reset=False)) as proxy:
        with pytest.raises(httpx.TransportError):
            patch(proxy.url, CONTENT)
        assert 190_000 < len(bodies(origin, 1)[0]) < 200_000


@pytest.mark.parametrize("at", [1000, 70_000, len(CONTENT) // 2])
def test_a_bit_flips_each_way_and_the_connection_goes_on(origin: Origin, at: int) -> None:
    faults = (Fault(when=b"PATCH ", flip_up=at), Fault(when=b"GET ", flip_down=at))
    with FaultyProxy(origin.server_port, *faults) as proxy, httpx.Client() as client:
        client.patch(proxy.url, content=CONTENT)
        found = client.get(proxy.url).content
        assert client.get(proxy.url).content == CONTENT
        assert proxy.happened == 2
    for arrived in (origin.bodies[0], found):
        [wrong] = [index for index, (a, b) in enumerate(zip(arrived, CONTENT, strict=True)) if a != b]
        assert at - 1000 < wrong <= at  # the headers count, too
        assert arrived[wrong] ^ CONTENT[wrong] == 1


def test_a_fault_waits_for_the_request_it_is_meant_for(origin: Origin) -> None:
    with (
        FaultyProxy(origin.server_port, Fault(when=b"PATCH ", swallow_answer=True)) as proxy,
        httpx.Client(base_url=proxy.url, timeout=PATIENCE) as client,
    ):
        assert client.get("/").content == CONTENT
        assert proxy.used == []
        with pytest.raises(httpx.TransportError):
            client.patch("/", content=b"abc")
        assert proxy.connections == 1
        assert len(proxy.used) == 1


def test_an_answer_is_swallowed_after_the_server_had_the_whole_request(origin: Origin) -> None:
    with FaultyProxy(origin.server_port, Fault(swallow_answer=True)) as proxy:
        with pytest.raises(httpx.TransportError):
            patch(proxy.url, b"y" * 100_000)
        assert bodies(origin, 1) == [b"y" * 100_000]


def test_a_request_reaches_the_server_twice_before_the_first_answer(origin: Origin) -> None:
    with FaultyProxy(origin.server_port, Fault(duplicate=True)) as proxy:
        assert patch(proxy.url, b"z" * 100_000) == 204
        assert origin.bodies == [b"z" * 100_000] * 2
        assert proxy.happened == 1


def test_a_stalled_connection_stays_open_until_it_is_released(origin: Origin) -> None:
    with FaultyProxy(origin.server_port, Fault(stall_down=5000)) as proxy, socket.socket() as client:
        client.connect(("127.0.0.1", proxy.port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        proxy.wait_for(lambda p: p.happened == 1)
        assert proxy.bytes_down == 5000
        proxy.release()
        client.settimeout(10)
        got = b""
        while piece := client.recv(1 << 20):
            got += piece
        assert got.endswith(CONTENT)


@pytest.mark.slow
def test_a_slow_connection_keeps_to_its_rate_and_a_delay_is_kept(origin: Origin) -> None:
    with FaultyProxy(origin.server_port, Fault(rate_down=4 * len(CONTENT)), Fault(delay=0.1)) as proxy:
        start = time.monotonic()
        assert received(proxy) == CONTENT
        assert time.monotonic() - start > 0.2
        start = time.monotonic()
        assert patch(proxy.url, b"abc") == 204
        assert time.monotonic() - start > 0.15


def test_all_connections_can_be_cut_at_once(origin: Origin) -> None:
    with FaultyProxy(origin.server_port, Fault(stall_up=0)) as proxy, socket.socket() as client:
        client.connect(("127.0.0.1", proxy.port))
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        proxy.wait_for(lambda p: p.happened == 1)
        proxy.cut_all()
        client.settimeout(10)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_server_that_is_not_there_is_a_broken_connection() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with FaultyProxy(nobody.getsockname()[1]) as proxy, pytest.raises(httpx.TransportError):
            httpx.get(proxy.url, timeout=PATIENCE)


def test_waiting_for_what_does_not_come_says_how_things_stand(origin: Origin) -> None:
    with FaultyProxy(origin.server_port) as proxy, pytest.raises(TimeoutError, match="0 connections"):
        proxy.wait_for(lambda p: p.connections == 1, timeout=0.01)
