"""Several requests for one upload at once: who asks is answered, who writes takes turns, and something gets done."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.uploads import OCTETS, PARTIAL, TUS, Raw, metadata, shown, until
from tornado_app.app import App
from tornado_app.files.uploads.upload import Upload
from tornado_app.settings import Settings

pytestmark = pytest.mark.usefixtures("both_ways")

DRAFT = {"Upload-Complete": "?0"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, reserve_space=0)


async def create(http: httpx.AsyncClient, length: int, name: str = "a", *, draft: bool = False) -> str:
    by = (
        {**DRAFT, "Upload-Length": str(length), "Content-Disposition": f'attachment; filename="{name}"'}
        if draft
        else {**TUS, "Upload-Length": str(length), **metadata(filename=name)}
    )
    answer = await http.post("/v1/uploads", headers=by)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["Location"])


def upload_of(app: App, url: str) -> Upload:
    return app.services.files.uploads.get(url.rpartition("/")[2])


async def stalled_at(app: App, base_url: str, url: str, sent: bytes, *, draft: bool = False) -> Raw:
    """A request that has brought `sent` and says no more."""
    by = {**PARTIAL, **DRAFT} if draft else OCTETS
    stalled = Raw(base_url)
    await stalled.send(f"PATCH {url}", {**by, "Upload-Offset": "0", "Content-Length": "9"}, sent)

    async def is_there() -> bool:
        writer = app.services.files.uploads.current_writer(upload_of(app, url))
        return writer is not None and writer.received == len(sent)

    await until(is_there)
    return stalled


class TestWhoAsks:
    @pytest.mark.parametrize("draft", [False, True], ids=["tus", "draft"])
    async def test_is_answered_with_the_settled_offset_however_many_ask(
        self, app: App, http: httpx.AsyncClient, base_url: str, draft: bool
    ) -> None:
        url = await create(http, 9, draft=draft)
        stalled = await stalled_at(app, base_url, url, b"abc", draft=draft)
        ask = {} if draft else TUS
        heads = [http.head(url, headers=ask) for _ in range(8)]
        gets = [http.get(url, headers={"Upload-Draft-Interop-Version": "8"}) for _ in range(4)]
        answers = await asyncio.gather(*heads, *gets)
        assert {answer.status_code for answer in answers} == ({204, 200} if draft else {200})
        assert {answer.headers["Upload-Offset"] for answer in answers} == {"3"}
        assert await stalled.is_closed()
        stalled.close()

    @pytest.mark.parametrize("draft", [False, True], ids=["tus", "draft"])
    async def test_is_answered_though_others_came_later_while_all_waited(
        self, app: App, http: httpx.AsyncClient, draft: bool
    ) -> None:
        url = await create(http, 9, draft=draft)
        uploads, upload = app.services.files.uploads, upload_of(app, url)
        busy = await uploads.acquire(upload)
        heads = [asyncio.ensure_future(http.head(url, headers={} if draft else TUS)) for _ in range(4)]
        await until(lambda: asyncio.sleep(0, uploads.leases.waiting(upload.id) == len(heads)))
        busy.release()
        answers = await asyncio.gather(*heads)
        assert {answer.status_code for answer in answers} == {204 if draft else 200}
        assert {answer.headers["Upload-Offset"] for answer in answers} == {"0"}

    async def test_is_not_told_what_is_wrong_with_publishing(self, http: httpx.AsyncClient) -> None:
        await http.put("/v1/files/later", content=b"first")
        await http.delete("/v1/files/later")
        for draft in (False, True):
            url = await create(http, 3, "later", draft=draft)
            await http.put("/v1/files/later", content=b"first")
            by = {**PARTIAL, "Upload-Complete": "?1"} if draft else OCTETS
            refused = await http.patch(url, headers={**by, "Upload-Offset": "0"}, content=b"abc")
            assert (refused.status_code, refused.json()["type"]) == (409, "/problems/file-exists")
            answer = await http.head(url, headers={} if draft else TUS)
            assert (answer.status_code, answer.headers["Upload-Offset"]) == (204 if draft else 200, "3")
            answer = await http.get(url, headers={"Upload-Draft-Interop-Version": "8"})
            assert (answer.status_code, answer.json()["complete"]) == (200, False)
            # Whoever appends is told, so that nobody takes it for done.
            again = await http.patch(url, headers={**by, "Upload-Offset": "3"}, content=b"")
            assert (again.status_code, again.json()["type"]) == (409, "/problems/file-exists")
            await http.delete("/v1/files/later")

    async def test_of_a_put_under_way_leaves_it_alone(self, app: App, http: httpx.AsyncClient, base_url: str) -> None:
        put = Raw(base_url)
        await put.send("PUT /v1/files/one", {"Content-Length": "1000000"}, b"abc")  # a small one is no upload

        async def begun() -> list[dict[str, Any]]:
            return list((await http.get("/v1/uploads")).json()["items"])

        (item,) = await until(begun)
        assert (await http.head(f"/v1/uploads/{item['id']}")).status_code == 204
        put.writer.write(bytes(999_997))
        assert (await put.head())[0] == 201
        put.close()


class TestWhoWrites:
    @pytest.mark.parametrize("draft", [False, True], ids=["tus", "draft"])
    async def test_and_is_overtaken_gets_a_423_that_says_when_to_ask_again(
        self, app: App, http: httpx.AsyncClient, draft: bool
    ) -> None:
        url = await create(http, 3, draft=draft)
        upload, leases = upload_of(app, url), app.services.files.uploads.leases
        by = {**PARTIAL, "Upload-Complete": "?1"} if draft else OCTETS

        def patch() -> asyncio.Task[httpx.Response]:
            return asyncio.ensure_future(http.patch(url, headers={**by, "Upload-Offset": "0"}, content=b"abc"))

        busy = await app.services.files.uploads.acquire(upload)  # as while the server itself is at it
        older = patch()
        await until(lambda: asyncio.sleep(0, leases.waiting(upload.id) == 1))
        newer = patch()
        await until(lambda: asyncio.sleep(0, leases.waiting(upload.id) == 2))
        busy.release()
        refused = await older
        assert (refused.status_code, refused.json()["type"]) == (423, "/problems/locked")
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await newer).status_code == (201 if draft else 204)

    async def test_and_goes_while_it_waits_leaves_the_upload_free(
        self, app: App, http: httpx.AsyncClient, base_url: str
    ) -> None:
        url = await create(http, 3)
        upload, leases = upload_of(app, url), app.services.files.uploads.leases
        busy = await app.services.files.uploads.acquire(upload)
        for asked, body in enumerate((b"", b"abc"), 1):
            waiting = Raw(base_url)
            await waiting.send(f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "3"}, body)
            await until(lambda asked=asked: asyncio.sleep(0, leases.waiting(upload.id) == asked))  # type: ignore[misc]
            waiting.close()
            await waiting.writer.wait_closed()
        busy.release()
        answer = await http.head(url, headers=TUS)
        stands = int(answer.headers["Upload-Offset"])
        headers = {**OCTETS, "Upload-Offset": str(stands)}
        assert (await http.patch(url, headers=headers, content=b"abc"[stands:])).is_success
        assert upload.published is not None

    async def test_deletes_at_once_are_all_answered(self, app: App, http: httpx.AsyncClient, base_url: str) -> None:
        url = await create(http, 9)
        stalled = await stalled_at(app, base_url, url, b"abc")
        answers = await asyncio.gather(*(http.delete(url, headers=TUS) for _ in range(4)))
        assert {answer.status_code for answer in answers} <= {204, 404}
        assert (await http.head(url, headers=TUS)).status_code == 404
        stalled.close()

    async def test_a_wrong_offset_is_a_409_before_anything_else_is_looked_at(self, http: httpx.AsyncClient) -> None:
        url = await create(http, 3)
        for more in ({}, {"Upload-Checksum": "nonsense"}, {"Upload-Length": "7"}):
            answer = await http.patch(url, headers={**OCTETS, "Upload-Offset": "2", **more}, content=b"x" * 50)
            assert (answer.status_code, answer.json()["expected-offset"]) == (409, 0)


@pytest.mark.slow
async def test_two_clients_that_interrupt_each_other_get_done(
    http: httpx.AsyncClient, base_url: str, settings: Settings
) -> None:
    """Each asks and writes again as soon as it was interrupted, as two tabs of a browser do."""
    piece, count = b"x" * 1000, 80
    size = len(piece) * count
    url = await create(http, size, "both")
    turns = {"first": 0, "second": 0}

    async def client(name: str) -> None:
        while True:
            answer = await http.head(url, headers=TUS)
            assert answer.status_code == 200
            stands = int(answer.headers["Upload-Offset"])
            if stands == size:
                return
            turns[name] += 1
            tab = Raw(base_url)
            headers = {**OCTETS, "Upload-Offset": str(stands), "Content-Length": str(size - stands)}
            await tab.send(f"PATCH {url}", headers)
            end = asyncio.ensure_future(tab.reader.read(1))
            at = stands
            while at < size and not end.done():
                tab.writer.write(piece[: min(len(piece), size - at)])
                at += len(piece)
                await asyncio.wait([end], timeout=0.02)
            await asyncio.wait([end])
            end.exception()
            tab.close()

    await asyncio.gather(client("first"), client("second"))
    assert shown(Path(settings.files_dir)) == {"both": piece * count}
    assert sum(turns.values()) < 20, turns
