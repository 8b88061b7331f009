"""Uploads by blocks where the limits, the disk, the client or the clock say no."""

from __future__ import annotations

import asyncio
import dataclasses
import resource
from collections.abc import Callable

import httpx
import pytest

from holdfast.digests import BLOCK
from tests.support.blocks import content, create, end, put
from tests.support.servers import ServerProcess
from tests.support.uploads import Raw, shown, until
from tornado_app.app import App
from tornado_app.files.store.local.blocks.block_data import LocalBlockData
from tornado_app.settings import Settings

Spawn = Callable[..., ServerProcess]

DATA = content(2 * BLOCK + 5)
ORIGIN = "https://page.example"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(
        settings, reserve_space=0, max_upload_size=3 * BLOCK, max_uploads_each=2, allow_origin=(ORIGIN,)
    )


async def test_the_limits_are_those_of_all_uploads(http: httpx.AsyncClient) -> None:
    refused = await create(http, "a", bytes(3 * BLOCK + 1))
    assert (refused.status_code, refused.json()["max_size"]) == (413, 3 * BLOCK)
    first = await create(http, "a", DATA)
    await create(http, "b", DATA)
    assert (await create(http, "c", DATA)).status_code == 429
    url = first.headers["Location"]
    await put(http, url, DATA, 0, 3)
    await end(http, url, DATA)
    assert (await create(http, "c", DATA)).status_code == 201, "a published one takes no place"


async def test_a_page_of_an_allowed_origin_may_send_blocks_and_read_where(http: httpx.AsyncClient) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}
    url = (await create(http, "a", DATA)).headers["Location"]
    for path, method in (
        ("/v1/block-uploads", "POST"),
        (url, "DELETE"),
        (f"{url}/blocks/0", "PUT"),
        (f"{url}/end", "POST"),
    ):
        preflight = await http.options(path, headers=asked)
        assert method in preflight.headers["Access-Control-Allow-Methods"]
        assert "Content-Type" in preflight.headers["Access-Control-Allow-Headers"]
    answer = await http.put(f"{url}/blocks/0", headers={"Origin": ORIGIN}, content=DATA[:BLOCK])
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Location" in answer.headers["Access-Control-Expose-Headers"]
    other = await http.put(f"{url}/blocks/1", headers={"Origin": "https://other"}, content=DATA[BLOCK : 2 * BLOCK])
    assert other.status_code == 403
    assert (await http.get(url)).json()["missing"] == [[1, 3]]


async def test_more_requests_than_are_received_at_once_wait_for_their_turn(
    app: App, http: httpx.AsyncClient, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.services.files.block_uploads, "slots", asyncio.Semaphore(1))
    url = (await create(http, "a", DATA)).headers["Location"]
    raw = Raw(base_url)
    await raw.send(f"PUT {url}/blocks/0", {"Content-Length": 2 * BLOCK}, DATA[: BLOCK + 1])

    async def has_first() -> bool:
        return bool((await http.get(url)).json()["missing"] == [[1, 3]])

    await until(has_first)
    waiting = asyncio.ensure_future(put(http, url, DATA, 2))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    raw.close()
    assert (await waiting).json()["missing"] == [[1, 2]]


class TestDurable:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, durable=True)

    async def test_blocks_that_could_not_be_synced_are_missing(
        self, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        url = (await create(http, "a", DATA)).headers["Location"]
        assert (await put(http, url, DATA, 1)).status_code == 200
        with monkeypatch.context() as patched:

            def fail(self: LocalBlockData) -> None:
                raise OSError(5, "the disk is broken")

            patched.setattr(LocalBlockData, "sync", fail)
            assert (await put(http, url, DATA, 0)).status_code == 500
        assert (await http.get(url)).json()["missing"] == [[0, 1], [2, 3]]
        assert (await put(http, url, DATA, 0)).status_code == 200
        assert (await put(http, url, DATA, 2)).status_code == 200
        assert (await end(http, url, DATA)).status_code == 201
        assert shown(settings.files_dir) == {"a": DATA}


class TestIdle:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, idle_timeout=0.1)

    async def test_a_sender_that_is_silent_is_cut_and_its_whole_blocks_are_kept(
        self, http: httpx.AsyncClient, base_url: str
    ) -> None:
        url = (await create(http, "a", DATA)).headers["Location"]
        raw = Raw(base_url)
        await raw.send(f"PUT {url}/blocks/0", {"Content-Length": len(DATA)}, DATA[: BLOCK + 10])
        assert await raw.is_closed()
        raw.close()
        assert (await http.get(url)).json()["missing"] == [[1, 3]]


@pytest.mark.slow
def test_a_full_disk_is_a_507_and_loses_nothing_that_is_there(spawn_server: Spawn) -> None:
    """The limit on the size of a file stands for a full disk: the kernel refuses more bytes in the same way."""
    server = spawn_server("--reserve-space", "0")
    with httpx.Client(base_url=server.url, timeout=60) as http:
        url = create(http, "a", DATA).headers["Location"]
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (BLOCK + 1000, resource.RLIM_INFINITY))
        assert put(http, url, DATA, 0).status_code == 200
        refused = put(http, url, DATA, 1, 2)
        assert (refused.status_code, refused.json()["type"]) == (507, "/problems/no-space")
        assert http.get(url).json()["missing"] == [[1, 3]]
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert put(http, url, DATA, 1, 2).json()["missing"] == []
        assert end(http, url, DATA).status_code == 201
    assert shown(server.files_dir) == {"a": DATA}


@pytest.mark.slow
def test_nobody_comes_in_without_the_token(spawn_server: Spawn) -> None:
    server = spawn_server(HOLDFAST_TOKEN="t0ken")
    with httpx.Client(base_url=server.url, headers={"Authorization": "Bearer t0ken"}, timeout=60) as http:
        url = create(http, "a", DATA).headers["Location"]
    with httpx.Client(base_url=server.url, timeout=60) as anyone:
        answers = [create(anyone, "b", DATA), anyone.get(url), put(anyone, url, DATA, 0), end(anyone, url, DATA)]
        answers += [anyone.get(f"{url}/digests"), anyone.delete(url)]
        assert {answer.status_code for answer in answers} == {401}
