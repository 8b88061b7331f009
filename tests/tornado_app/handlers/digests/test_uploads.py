"""An upload whose blocks came wrong: they are found by their digests, and replaced by as many bytes."""

from __future__ import annotations

import base64
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.block_digests import block_digest, block_field, blocks_of
from tests.support.servers import ServerProcess
from tests.support.uploads import OCTETS, PARTIAL, TUS, Raw, metadata, shown, until
from tornado_app.settings import Settings

MIB = 1_048_576
DATA = random.Random(4).randbytes(4 * MIB + 5000)


@pytest.fixture(params=["local", "memory"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return dataclasses.replace(settings, store=request.param)


def flipped(*at: int) -> bytes:
    data = bytearray(DATA)
    for index in at:
        data[index] ^= 4
    return bytes(data)


async def create(http: httpx.AsyncClient, **headers: str) -> str:
    created = {**TUS, "Upload-Defer-Length": "1", **metadata(filename="a"), **headers}
    return str((await http.post("/v1/uploads", headers=created)).headers["Location"])


async def send(http: httpx.AsyncClient, url: str, data: bytes) -> None:
    answer = await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=data)
    assert answer.status_code == 204, answer.text


async def end(http: httpx.AsyncClient, url: str) -> httpx.Response:
    size = str(len(DATA))
    return await http.patch(url, headers={**OCTETS, "Upload-Offset": size, "Upload-Length": size, **block_field(DATA)})


async def digests(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    answer = await http.get(f"{url}/digests")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def wrong_blocks(http: httpx.AsyncClient, url: str) -> list[int]:
    there, right = base64.b64decode((await digests(http, url))["blocks"]), blocks_of(DATA)
    return [at // 32 for at in range(0, len(right), 32) if there[at : at + 32] != right[at : at + 32]]


async def content(http: httpx.AsyncClient, name: str) -> bytes:
    return (await http.get(f"/v1/files/{name}", headers={"Accept-Encoding": "identity"})).content


@pytest.mark.slow
@pytest.mark.parametrize("at", [(5,), (2 * MIB - 1,), (3 * MIB, 4 * MIB + 4999)])
async def test_a_flipped_bit_is_found_at_its_block_and_mended_by_that_block(
    http: httpx.AsyncClient, at: tuple[int, ...]
) -> None:
    url = await create(http)
    await send(http, url, flipped(*at))
    assert (await end(http, url)).status_code == 400
    wrong = await wrong_blocks(http, url)
    assert wrong == [index // MIB for index in at]
    for index in wrong:
        block = DATA[index * MIB : (index + 1) * MIB]
        answer = await http.put(f"{url}/blocks/{index}", content=block)
        assert (answer.status_code, answer.content) == (204, b"")
    assert await wrong_blocks(http, url) == []
    answer = await end(http, url)
    assert answer.status_code == 204, answer.text
    assert answer.headers["Block-Digest"] == block_field(DATA)["Block-Digest"]
    assert await content(http, "a") == DATA


async def test_the_digests_of_an_unfinished_upload_are_those_of_what_came(http: httpx.AsyncClient) -> None:
    url = await create(http)
    nothing = await digests(http, url)
    assert (nothing["size"], nothing["blocks"], nothing["digest"]) == (0, "", block_digest(b""))
    await send(http, url, DATA[: MIB + 3])
    found = await digests(http, url)
    assert (found["name"], found["size"], found["etag"]) == ("a", MIB + 3, None)
    assert found["digest"] == block_digest(DATA[: MIB + 3])
    assert base64.b64decode(found["blocks"]) == blocks_of(DATA[: MIB + 3])


async def test_several_blocks_can_be_replaced_at_once_and_more_be_appended(http: httpx.AsyncClient) -> None:
    url = await create(http)
    await send(http, url, flipped(MIB, 2 * MIB)[: 2 * MIB + 7])
    assert (await http.put(f"{url}/blocks/1", content=DATA[MIB : 2 * MIB + 7])).status_code == 204
    rest = await http.patch(url, headers={**OCTETS, "Upload-Offset": str(2 * MIB + 7)}, content=DATA[2 * MIB + 7 :])
    assert rest.status_code == 204
    assert (await end(http, url)).status_code == 204
    assert await content(http, "a") == DATA


async def test_a_sha256_that_was_announced_is_made_anew(http: httpx.AsyncClient) -> None:
    import hashlib

    digest = hashlib.sha256(DATA).hexdigest()
    url = await create(http, **metadata(filename="a", sha256=digest))
    await send(http, url, flipped(MIB + 1))
    assert (await http.put(f"{url}/blocks/1", content=DATA[MIB : 2 * MIB])).status_code == 204
    assert (await end(http, url)).status_code == 204
    [file] = (await http.get("/v1/files")).json()["items"]
    assert (file["sha256"], file["block_digest"]) == (digest, block_digest(DATA))


@pytest.mark.parametrize(
    ("first", "size"), [(0, 0), (0, 5), (0, MIB + 1), (1, MIB), (2, 5), (3, MIB), (10**30, 5), (1, 501)]
)
async def test_only_whole_blocks_that_came_can_be_replaced(http: httpx.AsyncClient, first: int, size: int) -> None:
    url = await create(http)
    await send(http, url, DATA[: MIB + 500])
    answer = await http.put(f"{url}/blocks/{first}", content=bytes(size))
    assert (answer.status_code, answer.json()["bytes_read"]) == (400, MIB + 500)
    assert "no whole blocks" in answer.json()["detail"]
    assert (await digests(http, url))["digest"] == block_digest(DATA[: MIB + 500])


@pytest.mark.parametrize("first", ["x", "-1", "%C2%B9", "1.5"])
async def test_what_is_no_index_is_refused(http: httpx.AsyncClient, first: str) -> None:
    answer = await http.put(f"{await create(http)}/blocks/{first}", content=bytes(MIB))
    assert (answer.status_code, "is no block" in answer.json()["detail"]) == (400, True)


async def test_too_many_blocks_at_once_are_refused(http: httpx.AsyncClient) -> None:
    url = await create(http)
    assert (await http.put(f"{url}/blocks/0", content=bytes(8 * MIB + 1))).status_code == 413


async def test_what_is_published_or_unknown_has_no_blocks_to_replace(http: httpx.AsyncClient) -> None:
    url = await create(http)
    await send(http, url, DATA)
    assert (await end(http, url)).status_code == 204
    for answer in (await http.get(f"{url}/digests"), await http.put(f"{url}/blocks/0", content=bytes(MIB))):
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
    for path in ("/v1/uploads/nothing/digests", "/v1/uploads/nothing/blocks/0"):
        method = "GET" if path.endswith("digests") else "PUT"
        assert (await http.request(method, path, content=b"x")).status_code == 404
    assert await content(http, "a") == DATA


async def test_a_request_that_still_writes_is_ended_by_it(http: httpx.AsyncClient, base_url: str) -> None:
    url = await create(http)
    raw = Raw(base_url)
    await raw.send(f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "9"}, b"abc")

    async def has_come() -> bool:
        return bool((await digests(http, url))["digest"] == block_digest(b"abc"))

    await until(has_come)
    assert await raw.reader.read() == b"", "the connection was closed"
    raw.writer.close()


async def test_an_upload_of_the_draft_is_mended_too(http: httpx.AsyncClient) -> None:
    named = {"Content-Disposition": 'inline; filename="a"', "Upload-Complete": "?1", **block_field(DATA)}
    answer = await http.post("/v1/uploads", headers=named, content=flipped(7))
    assert answer.status_code == 400
    url = answer.headers["Location"]
    assert await wrong_blocks(http, url) == [0]
    assert (await http.put(f"{url}/blocks/0", content=DATA[:MIB])).status_code == 204
    last = {**PARTIAL, "Upload-Offset": str(len(DATA)), "Upload-Complete": "?1"}
    answer = await http.patch(url, headers=last)
    assert answer.status_code == 201, answer.text
    assert await content(http, "a") == DATA


class TestWithoutCheck:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, check_uploads=False)

    async def test_the_digests_are_made_for_whoever_asks(self, http: httpx.AsyncClient) -> None:
        url = await create(http)
        await send(http, url, flipped(MIB))
        assert await wrong_blocks(http, url) == [1]
        assert (await http.put(f"{url}/blocks/1", content=DATA[MIB : 2 * MIB])).status_code == 204
        assert (await end(http, url)).status_code == 204


@pytest.mark.slow
@pytest.mark.parametrize("point", ["replace.before-bytes", "replace.written"])
def test_a_server_killed_while_a_block_is_replaced_knows_what_is_there(
    spawn_server: Callable[..., ServerProcess], point: str
) -> None:
    server = spawn_server("--reserve-space", "0", HOLDFAST_FAULT=point)
    created = {**TUS, "Upload-Defer-Length": "1", **metadata(filename="a")}
    size = str(len(DATA))
    last = {**OCTETS, "Upload-Offset": size, "Upload-Length": size, **block_field(DATA)}
    with httpx.Client(base_url=server.url, timeout=60) as http:
        url = http.post("/v1/uploads", headers=created).headers["Location"]
        http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=flipped(MIB + 5))
        with pytest.raises(httpx.TransportError):
            http.put(f"{url}/blocks/1", content=DATA[MIB : 2 * MIB])
    server.end()
    server.environment.pop("HOLDFAST_FAULT")
    server.restart()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        there = base64.b64decode(http.get(f"{url}/digests").json()["blocks"])
        wrong = [at // 32 for at in range(0, len(there), 32) if there[at : at + 32] != blocks_of(DATA)[at : at + 32]]
        assert wrong == ([1] if point == "replace.before-bytes" else [])
        assert http.patch(url, headers=last).status_code == (400 if wrong else 204)
        for index in wrong:
            http.put(f"{url}/blocks/{index}", content=DATA[index * MIB : (index + 1) * MIB])
            assert http.patch(url, headers=last).status_code == 204
    assert shown(Path(server.files_dir)) == {"a": DATA}
