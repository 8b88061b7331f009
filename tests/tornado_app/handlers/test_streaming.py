"""Bodies that stream to the store: slow, idle, ill-formed and cut ones."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.servers import ServerProcess
from tests.support.uploads import OCTETS, TUS, Raw, open_upload, shown, until
from tornado_app.app import App
from tornado_app.settings import Settings

Spawn = Callable[..., ServerProcess]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, reserve_space=0, idle_timeout=0.1)


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


@pytest.mark.slow
class TestSlowSenders:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, idle_timeout=1.0)

    @pytest.mark.slow
    async def test_one_that_trickles_is_not_cut(self, http: httpx.AsyncClient, base_url: str) -> None:
        url = (await open_upload(http, 8, "a")).headers["Location"]
        raw = Raw(base_url)
        await raw.send(f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "8"})
        for number in range(8):
            raw.writer.write(b"%d" % number)
            await asyncio.sleep(0.2)  # altogether longer than the idle timeout
        assert (await raw.head())[0] == 204
        raw.close()


class TestLies:
    """Bodies that are not what they said."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, idle_timeout=30.0)

    async def test_what_follows_a_body_is_not_of_it(self, http: httpx.AsyncClient, base_url: str, files: Path) -> None:
        url = (await open_upload(http, 6, "a")).headers["Location"]
        raw = Raw(base_url)
        await raw.send(f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "3"}, b"abcdef\r\n\r\n")
        status, headers = await raw.head()
        assert (status, headers["Upload-Offset"]) == (204, "3")
        status, headers = await raw.head()
        assert status == 400, "it is no request either"
        assert b"is not HTTP/1.1" in await raw.body(headers)
        assert await raw.is_closed()
        raw.close()
        assert (await http.head(url, headers=TUS)).headers["Upload-Offset"] == "3"
        assert shown(files) == {}

    async def test_a_chunk_that_is_none_ends_the_request_and_what_was_taken_before_stays(
        self, http: httpx.AsyncClient, base_url: str, app: App, files: Path
    ) -> None:
        url = (await open_upload(http, 6, "a")).headers["Location"]
        upload = app.services.files.uploads.get(url.rpartition("/")[2])
        raw = Raw(base_url)
        chunked = {**OCTETS, "Upload-Offset": "0", "Transfer-Encoding": "chunked"}
        await raw.send(f"PATCH {url}", chunked, b"3\r\nabc\r\n")

        async def taken() -> bool:
            writer = app.services.files.uploads.current_writer(upload)
            return writer is not None and writer.received == 3

        await until(taken)
        raw.writer.write(b"no size\r\ndef\r\n0\r\n\r\n")
        status, headers = await raw.head()
        assert status == 400
        assert b"is not HTTP/1.1" in await raw.body(headers)
        assert await raw.is_closed()
        raw.close()
        assert (await http.head(url, headers=TUS)).headers["Upload-Offset"] == "3"
        assert shown(files) == {}

    @pytest.mark.parametrize("start", ["PUT /v1/files/a", "POST /v1/uploads"])
    async def test_of_a_whole_that_ends_early_nothing_stays(
        self, http: httpx.AsyncClient, base_url: str, files: Path, start: str
    ) -> None:
        raw = Raw(base_url)
        await raw.send(start, {"Content-Length": "10"}, b"abc")
        raw.writer.write_eof()
        assert await raw.is_closed()
        raw.close()

        async def gone() -> bool:
            return os.listdir(files / ".holdfast/uploads") == []

        await until(gone)
        assert shown(files) == {}


class TestSlowClients:
    async def test_a_silent_sender_is_cut_and_its_bytes_stay(self, http: httpx.AsyncClient, base_url: str) -> None:
        url = (await open_upload(http, 10, "a")).headers["Location"]
        raw = Raw(base_url)
        await raw.send(f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "10"}, b"abc")
        assert await raw.is_closed()
        raw.close()
        assert (await http.head(url, headers=TUS)).headers["Upload-Offset"] == "3"

    @pytest.mark.slow
    async def test_a_server_that_was_held_up_blames_no_sender(
        self, http: httpx.AsyncClient, base_url: str, app: App
    ) -> None:
        url = (await open_upload(http, 6, "a")).headers["Location"]
        upload = app.services.files.uploads.get(url.rpartition("/")[2])
        raw = Raw(base_url)
        await raw.send(f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "6"}, b"abc")

        async def taken() -> bool:
            writer = app.services.files.uploads.current_writer(upload)
            return writer is not None and writer.received == 3

        await until(taken)
        raw.writer.write(b"def")
        time.sleep(0.3)  # noqa: ASYNC251 - the loop stands still for longer than the idle timeout
        assert (await raw.head())[0] == 204
        raw.close()

    @pytest.mark.slow
    async def test_many_that_trickle_keep_nobody_out(self, http: httpx.AsyncClient, base_url: str, files: Path) -> None:
        trickling = []
        for number in range(60):
            url = (await open_upload(http, 1000, f"slow-{number}")).headers["Location"]
            raw = Raw(base_url)
            await raw.send(f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "1000"}, b"x")
            trickling.append(raw)
        url = (await open_upload(http, 3_000_000, "quick")).headers["Location"]
        answer = await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=b"y" * 3_000_000)
        assert answer.status_code == 204
        assert [await raw.is_closed() for raw in trickling] == [True] * 60  # each in its time
        for raw in trickling:
            raw.close()
        assert list(shown(files)) == ["quick"]

    async def test_a_client_that_resets_is_only_a_cut(self, http: httpx.AsyncClient, base_url: str) -> None:
        url = (await open_upload(http, 10, "a")).headers["Location"]
        raw = Raw(base_url)
        await raw.send(f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "10"}, b"abc")

        async def arrived() -> bool:
            connection = raw.writer.get_extra_info("socket")
            return bool(connection)

        await until(arrived)
        raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.writer.transport.abort()
        head = await http.head(url, headers=TUS)
        assert head.status_code == 200
        assert int(head.headers["Upload-Offset"]) in (0, 3)
