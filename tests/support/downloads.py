"""Helpers for downloads: two files, requests for them, and a download that stops halfway."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import random
import socket

import httpx

SMALL = bytes(range(256)) * 4
BIG = random.Random(4).randbytes(20 * (1 << 20) + 3)  # more than two windows of sendfile

Fields = dict[str, str]


async def get(http: httpx.AsyncClient, name: str, **headers: str) -> httpx.Response:
    fields = {field.replace("_", "-"): value for field, value in headers.items()}
    return await http.get(f"/v1/files/{name}", headers={"Accept-Encoding": "identity"} | fields)


def parts(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Content-Range and bytes of each part of a multipart/byteranges answer."""
    head = b"Content-Type: " + answer.headers["Content-Type"].encode() + b"\r\n\r\n"
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    return [(part["Content-Range"], part.get_payload(decode=True)) for part in message.iter_parts()]


class Halfway:
    """A download that has begun and reads no further until told."""

    def __init__(self, base_url: str, path: str = "/v1/files/big.bin") -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(("127.0.0.1", int(base_url.rpartition(":")[2])))
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        self.sock.setblocking(False)

    async def begin(self) -> bytes:
        """The first bytes, head included."""
        return await asyncio.get_running_loop().sock_recv(self.sock, 2048)

    async def rest(self) -> bytes:
        """Everything else, until the connection ends."""
        got = []
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.get_running_loop().sock_recv(self.sock, 1 << 20):
                got.append(piece)
        return b"".join(got)


async def validators(http: httpx.AsyncClient, name: str = "small.bin") -> tuple[str, str]:
    head = await http.head(f"/v1/files/{name}")
    return head.headers["ETag"], head.headers["Last-Modified"]


async def raw(base_url: str, request: str) -> bytes:
    """Return the answer of the server until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
    writer.write(request.encode("latin-1"))
    try:
        return await reader.read()
    finally:
        writer.close()
