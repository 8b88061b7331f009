"""Downloads that take a while: files that change, and every kind of connection."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.downloads import BIG, SMALL, Halfway, get, raw, validators
from tests.support.servers import ServerProcess, wait_until
from tornado_app.app import App
from tornado_app.files import metrics
from tornado_app.server import sendfile
from tornado_app.settings import Settings

pytestmark = pytest.mark.usefixtures("both_ways")


# -- while the file changes


@pytest.mark.slow
async def test_a_download_of_a_file_that_is_replaced_ends_with_the_old_bytes(
    halfway: Halfway, http: httpx.AsyncClient, files: Path, way_out: str
) -> None:
    begun = await halfway.begin()
    assert (await http.put("/v1/files/big.bin", content=BIG[::-1])).status_code == 200
    body = (begun + await halfway.rest()).partition(b"\r\n\r\n")[2]
    assert body == BIG
    assert (await get(http, "big.bin")).content == BIG[::-1]


@pytest.mark.slow
async def test_a_download_of_a_file_that_is_written_to_breaks_before_its_end(
    halfway: Halfway, files: Path, way_out: str
) -> None:
    begun = await halfway.begin()
    (files / "big.bin").write_bytes(BIG[::-1] + b"and more")
    body = (begun + await halfway.rest()).partition(b"\r\n\r\n")[2]
    assert len(body) < len(BIG)


@pytest.mark.slow
async def test_a_download_of_a_file_that_is_cut_short_breaks(halfway: Halfway, files: Path, way_out: str) -> None:
    begun = await halfway.begin()
    os.truncate(files / "big.bin", 15 << 20)
    body = (begun + await halfway.rest()).partition(b"\r\n\r\n")[2]
    assert len(body) <= 15 << 20


async def test_a_small_file_that_is_written_to_while_it_is_read_is_read_again(
    http: httpx.AsyncClient, files: Path, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = type(app.services.files.store.open("small.bin"))
    really, times = reader.read, 1

    def read(self: Any, offset: int, count: int) -> bytes:
        nonlocal times
        data: bytes = really(self, offset, count)
        if times:
            times -= 1
            (files / "small.bin").write_bytes(SMALL[::-1])
        return data

    for kind in (reader, *reader.__subclasses__()):
        monkeypatch.setattr(kind, "read", read)
    answer = await get(http, "small.bin")
    assert answer.content == SMALL[::-1]
    assert answer.headers["ETag"] == (await validators(http))[0]
    times = 10**6
    (files / "small.bin").write_bytes(b"x")
    answer = await get(http, "small.bin")
    assert answer.status_code == 200 or answer.headers["Retry-After"] == "1"


# -- connections


async def test_many_bytes_go_by_sendfile_on_a_plain_socket(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    really = os.sendfile

    def counted(out: int, source: int, offset: int, count: int) -> int:
        done = really(out, source, offset, count)
        sent.append(done)
        return done

    monkeypatch.setattr(os, "sendfile", counted)
    assert (await get(http, "big.bin")).content == BIG
    assert sum(sent) == len(BIG)
    assert max(sent) <= sendfile.STEP


async def test_tornado_still_counts_a_body_where_sendfile_tells_it_to(http: httpx.AsyncClient, files: Path) -> None:
    """The guard of the one private attribute: without it every download would go by pieces, slowly but rightly."""
    streams = []
    really = sendfile.plain_stream

    def plain_stream(connection: Any) -> Any:
        streams.append(really(connection))
        return streams[-1]

    sendfile.plain_stream = plain_stream  # type: ignore[assignment]
    try:
        await get(http, "big.bin")
    finally:
        sendfile.plain_stream = really
    assert streams
    assert all(stream is not None for stream in streams), "Tornado has changed: see tornado_app/server/sendfile.py"


async def test_where_sendfile_does_not_work_pieces_do(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sendfile(*_: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", sendfile)
    assert (await get(http, "big.bin")).content == BIG


async def test_connections_are_kept_alive_and_pipelined_requests_answered_in_order(
    base_url: str, files: Path, way_out: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
    wanted = [("big.bin", BIG), ("small.bin", SMALL), ("big.bin", BIG), ("small.bin", SMALL)]
    for name, _ in wanted:
        writer.write(f"GET /v1/files/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    for _, content in wanted:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(len(content)) == content
    writer.close()


async def test_a_client_of_http_1_0_gets_a_file_and_the_end_of_the_connection(base_url: str, files: Path) -> None:
    answer = await raw(base_url, "GET /v1/files/big.bin HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == BIG


async def test_a_client_that_goes_away_leaves_no_descriptor_open(
    base_url: str, files: Path, way_out: str, http: httpx.AsyncClient
) -> None:
    await get(http, "small.bin")  # what is opened once and kept is open now
    before = len(os.listdir("/proc/self/fd"))
    cuts = metrics.DOWNLOADS.labels("cut")._value.get()
    for _ in range(5):
        download = Halfway(base_url)
        await download.begin()
        download.sock.close()
    await asyncio.to_thread(wait_until, lambda: len(os.listdir("/proc/self/fd")) <= before, what="descriptors closed")
    assert metrics.DOWNLOADS.labels("cut")._value.get() == cuts + 5


@pytest.mark.slow
def test_a_slow_reader_costs_a_socket_not_memory(spawn_server: Any) -> None:
    server: ServerProcess = spawn_server()
    with (server.files_dir / "huge.bin").open("wb") as file:
        file.truncate(1 << 30)
    httpx.get(f"{server.url}/v1/files/huge.bin", headers={"Range": "bytes=0-30000000"})

    def resident() -> int:
        return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    with contextlib.ExitStack() as stack:
        downloads = [Halfway(server.url, "/v1/files/huge.bin") for _ in range(50)]
        for download in downloads:
            stack.enter_context(download.sock)
        descriptors = Path(f"/proc/{server.pid}/fd")
        wait_until(lambda: len(list(descriptors.iterdir())) > 150, what="50 downloads with their files open")
        assert resident() - before < 16 << 20
    wait_until(lambda: len(list(descriptors.iterdir())) < 100, what="the descriptors closed")


class TestStalled:
    """A reader that takes nothing for `--send-timeout` is cut; one that takes a little is not."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, send_timeout=0.2)

    @pytest.mark.slow
    async def test_a_reader_that_takes_nothing_is_cut(self, halfway: Halfway, way_out: str) -> None:
        stalled = metrics.DOWNLOADS.labels("stalled")._value
        before = stalled.get()
        await halfway.begin()
        await asyncio.to_thread(wait_until, lambda: stalled.get() == before + 1, what="the cut")
        assert len(await halfway.rest()) < len(BIG)

    @pytest.mark.slow
    async def test_a_reader_that_takes_a_little_is_not(self, halfway: Halfway, way_out: str) -> None:
        body = (await halfway.begin()).partition(b"\r\n\r\n")[2]
        for _ in range(10):  # five times as long as the timeout
            await asyncio.sleep(0.1)
            body += await asyncio.get_running_loop().sock_recv(halfway.sock, 100_000)
        assert body + await halfway.rest() == BIG


async def test_bytes_and_ends_are_counted(http: httpx.AsyncClient, files: Path) -> None:
    sent, complete = metrics.SENT._value.get(), metrics.DOWNLOADS.labels("complete")._value.get()
    await get(http, "big.bin")
    await get(http, "small.bin")
    await get(http, "small.bin", Range="bytes=0-9")
    assert metrics.SENT._value.get() - sent == len(BIG) + len(SMALL) + 10
    assert metrics.DOWNLOADS.labels("complete")._value.get() - complete == 3
    assert "holdfast_download_bytes_total" in (await http.get("/metrics")).text
