"""Archives on sockets that are slow, or that sendfile can't be used with."""

from __future__ import annotations

import errno
import io
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.uploads import Raw
from tornado_app.server import archives
from tornado_app.settings import Settings

CONTENT = os.urandom(100_000)
TREE = {f"{number:03}": CONTENT + bytes([number]) for number in range(100)}


@pytest.fixture
def files(settings: Settings) -> Path:
    (settings.files_dir / "many").mkdir()
    for name, content in TREE.items():
        (settings.files_dir / "many" / name).write_bytes(content)
    return settings.files_dir / "many"


async def get(http: httpx.AsyncClient) -> dict[str, bytes]:
    data = (await http.get("/v1/archives/many.zip", headers={"Accept-Encoding": "identity"})).content
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def dup(self: socket.socket) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "dup", dup)


def no_sendfile_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, sendfile = 0, os.sendfile

    def fail(*args: int) -> int:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise OSError(errno.EINVAL, "Invalid argument")
        return sendfile(*args)

    monkeypatch.setattr(os, "sendfile", fail)


def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every full socket is waited for on the event loop."""
    monkeypatch.setattr(archives, "_PATIENCE_MS", 0)


def short_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_TRIP", 1)


@pytest.mark.parametrize("way", [no_descriptor, no_sendfile_after_a_while, no_patience, short_trips])
async def test_an_archive_is_whole_in_every_way(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[pytest.MonkeyPatch], None]
) -> None:
    assert await get(http) == TREE
    way(monkeypatch)
    assert await get(http) == TREE


async def test_clients_that_read_nothing_hold_no_thread(http: httpx.AsyncClient, base_url: str, files: Path) -> None:
    assert await get(http) == TREE
    waiting = [Raw(base_url) for _ in range(40)]
    try:
        for raw in waiting:
            await raw.send("GET /v1/archives/many.tar", {})
            await raw.reader.readuntil(b"\r\n\r\n")
        assert await get(http) == TREE
        assert (await http.get("/v1/files?prefix=many/")).json()["items"][-1]["name"] == "many/099"
    finally:
        for raw in waiting:
            raw.close()


async def test_the_last_bytes_do_not_wait_for_more(base_url: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet that is not full waits while the kernel is told that more follows: 40 ms, or 200."""
    options: list[tuple[int, ...]] = []
    before = socket.socket.setsockopt

    def setsockopt(self: socket.socket, *args: int) -> None:
        options.append(args)
        before(self, *args)

    monkeypatch.setattr(socket.socket, "setsockopt", setsockopt)
    raw = Raw(base_url)
    await raw.send("GET /v1/archives/many.zip", {"Range": "bytes=5-9"})
    assert (await raw.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 206")
    await raw.reader.readexactly(5)
    raw.close()
    assert options[-1] == (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
