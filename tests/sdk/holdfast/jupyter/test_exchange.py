"""One exchange with a server, over a connection that may end at any time."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tornado.httputil import HTTPHeaders, ResponseStartLine

from holdfast.jupyter.exchange import Exchange, NoServerError, connect, fetch
from tests.support.jupyter_server import FakeServer

HEAD = HTTPHeaders({"Host": "localhost", "Connection": "close"})


class Seen:
    """Callbacks of an exchange, and all that they were called with."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.body = b""
        self.interim: list[bytes] = []

    async def head(self, start_line: ResponseStartLine, headers: HTTPHeaders) -> None:
        self.codes.append(start_line.code)

    async def piece(self, piece: bytes) -> None:
        self.body += piece

    async def get(self, port: int) -> None:
        """Make one exchange."""
        stream = await connect(f"127.0.0.1:{port}")
        exchange = Exchange(stream, self.head, self.piece, self.interim.append)
        exchange.begin("GET", "/", HEAD)
        exchange.end_request()
        await exchange.response()
        assert exchange.is_over
        assert stream.closed()


async def test_interim_responses_are_handed_out_and_the_final_one_follows() -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        for n in range(30):
            connection.sendall(b"HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Offset: %d\r\n\r\n" % n)
        connection.sendall(
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )

    seen = Seen()
    with FakeServer(answer) as server:
        await seen.get(server.port)
    assert (seen.codes, seen.body, len(seen.interim)) == ([201], b"abcde", 30)
    assert seen.interim[7].endswith(b"Upload-Offset: 7\r\n\r\n")


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"nonsense\r\n\r\n",
    ],
)
async def test_a_response_that_is_not_whole_is_none(response: bytes) -> None:
    answer = FakeServer(lambda connection, _: connection.sendall(response))
    with answer as server, pytest.raises(NoServerError, match="the server closed the connection"):
        await Seen().get(server.port)


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NoServerError):
        await connect(str(tmp_path / "none.sock"))
    with FakeServer() as server:
        pass
    with pytest.raises(NoServerError):
        await connect(f"127.0.0.1:{server.port}")


async def test_a_short_response_is_fetched_and_a_long_one_is_not() -> None:
    def short(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")

    def long(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + bytes(9_999_999))

    with FakeServer(short, long) as server:
        assert await fetch(f"127.0.0.1:{server.port}", "/x?y=1") == (404, b"{}")
        with pytest.raises(NoServerError):
            await fetch(f"127.0.0.1:{server.port}", "/")
    assert server.heads[0].startswith(b"GET /x?y=1 HTTP/1.1\r\n")
