"""Helpers for uploads: requests by hand, and the files that a user would see."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.servers import PATIENCE
from tornado_app.handlers.uploads.messages import Receiver, UploadResponse
from tornado_app.handlers.uploads.protocol import UploadProtocol

TUS = {"Tus-Resumable": "1.0.0"}
OCTETS = {**TUS, "Content-Type": "application/offset+octet-stream"}
PARTIAL = {"Content-Type": "application/partial-upload"}


def metadata(**values: str) -> dict[str, str]:
    """An Upload-Metadata header."""
    pairs = [f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items()]
    return {"Upload-Metadata": ",".join(pairs)}


def shown(files: Path) -> dict[str, bytes]:
    """Every file that a user would see."""
    return {
        str(path.relative_to(files)): path.read_bytes()
        for path in sorted(files.rglob("*"))
        if path.is_file() and path.relative_to(files).parts[0] != ".holdfast"
    }


async def until(condition: Callable[[], Awaitable[Any]], within: float = PATIENCE) -> Any:
    """The first true value of an async condition."""
    async with asyncio.timeout(within):
        while not (value := await condition()):
            await asyncio.sleep(0.005)
        return value


class Raw:
    """A connection on which requests are written by hand."""

    def __init__(self, base_url: str) -> None:
        self.port = int(base_url.rpartition(":")[2])

    async def send(self, start: str, headers: dict[str, Any], body: bytes = b"") -> None:
        """Begin a request; `start` is its method and target."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"{start} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *(f"{k}: {v}" for k, v in headers.items())]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self.writer.drain()

    async def head(self) -> tuple[int, httpx.Headers]:
        """The next status line and headers."""
        block = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = block.strip().split("\r\n")
        return int(status.split(" ")[1]), httpx.Headers([line.split(": ", 1) for line in lines])

    async def body(self, headers: httpx.Headers) -> bytes:
        """Return the body that follows such headers."""
        return await self.reader.readexactly(int(headers["Content-Length"]))

    async def is_closed(self) -> bool:
        """Return whether the server has ended the connection without another byte."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Cut it."""
        self.writer.close()


async def receive(protocol: UploadProtocol, receiver: Receiver, body: bytes) -> None:
    """Give a body to where a protocol wants it, as the handler does."""
    writer = receiver.writer
    if writer is None and receiver.form is not None:
        body = receiver.form.feed(body)
        writer = await protocol.begin_file(receiver.form.file_name or "")
    assert writer is not None
    room = writer.write(body)
    if room is not None:
        await room


async def create(protocol: UploadProtocol, body: bytes = b"") -> UploadResponse:
    """Answer a POST."""
    receiver = await protocol.begin_creation()
    if body:
        await receive(protocol, receiver, body)
    return await protocol.created()


async def append(protocol: UploadProtocol, id: str, body: bytes = b"") -> UploadResponse:
    """Answer a PATCH."""
    receiver = await protocol.begin_append(id)
    if body:
        await receive(protocol, receiver, body)
    return await protocol.appended()


def open_upload(http: httpx.Client | httpx.AsyncClient, length: int, name: str) -> Any:
    """Create an upload by tus; awaited where the client is async."""
    return http.post("/v1/uploads", headers={**TUS, "Upload-Length": str(length), **metadata(filename=name)})
