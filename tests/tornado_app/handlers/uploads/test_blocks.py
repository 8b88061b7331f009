"""Uploads by blocks over HTTP: any order, several at once, wrong ones, cut ones, and the end."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import httpx
import pytest

from holdfast.digests import BLOCK, count, of_block
from tests.support.blocks import content, create, end, listed, put, there, whole
from tests.support.uploads import TUS, Raw, shown, until
from tornado_app.files.store.blocks import HINTED
from tornado_app.settings import Settings

DATA = content(3 * BLOCK + 12345)
OTHER = content(3 * BLOCK + 12345, seed=1)


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


async def has_only(http: httpx.AsyncClient, url: str, missing: list[list[int]]) -> bool:
    return bool((await http.get(url)).json()["missing"] == missing)


async def test_blocks_come_in_any_order_and_the_end_publishes_them(http: httpx.AsyncClient, files: Path) -> None:
    made = await create(http, "folder/a", DATA)
    assert made.status_code == 201
    url = made.headers["Location"]
    assert made.json()["missing"] == [[0, 4]]
    assert made.json()["file"] is None
    assert (await put(http, url, DATA, 3)).json()["missing"] == [[0, 3]]
    assert (await put(http, url, DATA, 1)).json()["missing"] == [[0, 1], [2, 3]]
    assert shown(files) == {}
    assert there(await http.get(f"{url}/digests")) == [1, 3]
    assert (await put(http, url, DATA, 2)).status_code == 200
    refused = await end(http, url, DATA)
    assert (refused.status_code, refused.json()["missing"]) == (409, [[0, 1]])
    assert (await put(http, url, DATA, 0)).json()["missing"] == []
    ended = await end(http, url, DATA)
    assert ended.status_code == 201
    assert ended.headers["Location"] == "/v1/files/folder/a"
    assert ended.json()["block_digest"] == whole(DATA)
    assert ended.headers["ETag"] == f'"{ended.json()["etag"]}"'
    assert shown(files) == {"folder/a": DATA}
    again = await end(http, url, DATA)
    assert (again.status_code, again.json()) == (200, ended.json())
    assert (await http.get(url)).json()["file"] == ended.json()
    assert (await put(http, url, DATA, 0)).json()["type"] == "/problems/conflict"
    assert (await end(http, url, OTHER)).json()["type"] == "/problems/digest-mismatch"
    assert (await http.delete(url)).status_code == 204
    assert (await http.get(url)).status_code == 404
    assert shown(files) == {"folder/a": DATA}


async def test_several_connections_at_once_send_blocks_of_one_upload(http: httpx.AsyncClient, files: Path) -> None:
    url = (await create(http, "a", DATA)).headers["Location"]
    answers = await asyncio.gather(*(put(http, url, DATA, first) for first in (3, 0, 2, 1, 0, 3, 2, 1)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await end(http, url, DATA)).status_code == 201
    assert shown(files) == {"a": DATA}


async def test_an_empty_file_has_no_block(http: httpx.AsyncClient, files: Path) -> None:
    made = await create(http, "a", b"")
    assert made.json()["missing"] == []
    assert (await end(http, made.headers["Location"], b"")).status_code == 201
    assert shown(files) == {"a": b""}


async def test_wrong_blocks_are_named_and_the_right_ones_of_the_same_request_stay(http: httpx.AsyncClient) -> None:
    url = (await create(http, "a", DATA, known=True)).headers["Location"]
    mixed = DATA[:BLOCK] + OTHER[BLOCK : 2 * BLOCK] + DATA[2 * BLOCK : 3 * BLOCK] + OTHER[3 * BLOCK :]
    refused = await put(http, url, mixed, 0, 4)
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/digest-mismatch")
    assert refused.json()["blocks"] == [1, 3]
    assert (await http.get(url)).json()["missing"] == [[1, 2], [3, 4]]
    assert (await put(http, url, DATA, 1)).status_code == 200
    assert (await put(http, url, DATA, 3)).status_code == 200
    assert (await end(http, url, DATA)).status_code == 201


async def test_a_wrong_digest_at_the_end_loses_nothing_and_wrong_blocks_are_sent_again(
    http: httpx.AsyncClient, files: Path
) -> None:
    url = (await create(http, "a", DATA)).headers["Location"]
    mixed = DATA[:BLOCK] + OTHER[BLOCK : 2 * BLOCK] + DATA[2 * BLOCK :]
    assert (await put(http, url, mixed, 0, 4)).status_code == 200
    refused = await end(http, url, DATA)
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/digest-mismatch")
    assert shown(files) == {}
    found = base64.b64decode((await http.get(f"{url}/digests")).json()["blocks"])
    assert found == listed(mixed)
    assert (await put(http, url, DATA, 1)).status_code == 200
    assert (await end(http, url, DATA)).status_code == 201
    assert shown(files) == {"a": DATA}


@pytest.mark.parametrize(
    ("first", "size"), [(0, BLOCK - 1), (0, 1), (3, 12344), (3, 12346), (3, BLOCK), (4, 0), (0, 5 * BLOCK), (10**20, 1)]
)
async def test_what_can_not_be_whole_blocks_is_refused_at_the_headers(
    http: httpx.AsyncClient, first: int, size: int
) -> None:
    url = (await create(http, "a", DATA)).headers["Location"]
    refused = await http.put(f"{url}/blocks/{first}", content=bytes(size))
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/bad-body")
    assert (await http.get(url)).json()["missing"] == [[0, 4]]


async def test_only_numbers_are_blocks_and_only_put_sends_them(http: httpx.AsyncClient) -> None:
    url = (await create(http, "a", DATA)).headers["Location"]
    for first in ("x", "-1", "1.0", "%C2%B2", "+1"):
        refused = await http.put(f"{url}/blocks/{first}", content=DATA[:BLOCK])
        assert (refused.status_code, refused.json()["type"]) == (400, "/problems/bad-parameters")
    assert (await http.post(f"{url}/blocks/0", content=DATA[:BLOCK])).status_code == 405
    assert (await http.get(f"{url}/blocks/0")).status_code == 405


async def test_of_a_body_of_unknown_length_whole_blocks_are_kept(http: httpx.AsyncClient) -> None:
    async def pieces(size: int):  # type: ignore[no-untyped-def]
        for at in range(0, size, 300_000):
            yield DATA[at : min(at + 300_000, size)]

    url = (await create(http, "a", DATA)).headers["Location"]
    refused = await http.put(f"{url}/blocks/0", content=pieces(2 * BLOCK + 5))
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/bad-body")
    assert "inside of block 2, of which 5 bytes came" in refused.json()["detail"]
    assert (await http.get(url)).json()["missing"] == [[2, 4]]
    beyond = await http.put(f"{url}/blocks/2", content=DATA[2 * BLOCK :] + b"x")
    assert beyond.status_code == 400
    whole_rest = await http.put(f"{url}/blocks/0", content=pieces(len(DATA)))
    assert whole_rest.json()["missing"] == []


async def test_a_cut_connection_keeps_its_whole_blocks(http: httpx.AsyncClient, base_url: str) -> None:
    url = (await create(http, "a", DATA)).headers["Location"]
    raw = Raw(base_url)
    await raw.send(f"PUT {url}/blocks/0", {"Content-Length": len(DATA)}, DATA[: 2 * BLOCK + 77])

    await until(lambda: has_only(http, url, [[2, 4]]))
    raw.close()
    assert (await put(http, url, DATA, 2, 2)).json()["missing"] == []


async def test_the_end_interrupts_a_stalled_request_and_nobody_writes_after_it(
    http: httpx.AsyncClient, base_url: str, files: Path
) -> None:
    url = (await create(http, "a", DATA)).headers["Location"]
    assert (await put(http, url, DATA, 1, 3)).status_code == 200
    raw = Raw(base_url)
    await raw.send(f"PUT {url}/blocks/0", {"Content-Length": 2 * BLOCK}, DATA[:BLOCK] + OTHER[BLOCK : BLOCK + 1000])
    await until(lambda: has_only(http, url, []))
    assert (await end(http, url, DATA)).status_code == 201
    assert await raw.is_closed()
    raw.close()
    assert shown(files) == {"a": DATA}


async def test_deleting_interrupts_those_who_send(http: httpx.AsyncClient, base_url: str, files: Path) -> None:
    url = (await create(http, "a", DATA)).headers["Location"]
    raw = Raw(base_url)
    await raw.send(f"PUT {url}/blocks/0", {"Content-Length": len(DATA)}, DATA[: BLOCK + 1])
    await until(lambda: has_only(http, url, [[1, 4]]))
    assert (await http.delete(url)).status_code == 204
    assert await raw.is_closed()
    raw.close()
    assert (await http.get(url)).status_code == 404
    assert [*(files / ".holdfast" / "uploads").iterdir()] == []


async def test_preconditions_hold_at_the_creation_and_at_the_end(http: httpx.AsyncClient, files: Path) -> None:
    await http.put("/v1/files/a", content=b"old")
    tag = (await http.head("/v1/files/a")).headers["ETag"].strip('"')
    assert (await create(http, "a", DATA)).json()["type"] == "/problems/file-exists"
    assert (await create(http, "a", DATA, etag="other")).status_code == 412
    url = (await create(http, "a", DATA, etag=tag)).headers["Location"]
    await put(http, url, DATA, 0, 4)
    await http.put("/v1/files/a", content=b"another")
    assert (await end(http, url, DATA)).status_code == 412
    assert (await http.get(url)).json()["missing"] == []
    await http.put("/v1/files/a", content=b"old")
    assert (await end(http, url, DATA)).status_code == 201
    over = (await create(http, "a", OTHER, overwrite=True)).headers["Location"]
    await put(http, over, OTHER, 0, 4)
    assert (await end(http, over, OTHER)).status_code == 201
    assert shown(files) == {"a": OTHER}


async def test_it_is_listed_among_uploads_and_other_protocols_leave_it_alone(http: httpx.AsyncClient) -> None:
    url = (await create(http, "a", DATA)).headers["Location"]
    await put(http, url, DATA, 1, 2)
    id = url.rpartition("/")[2]
    [shown_upload] = (await http.get("/v1/uploads")).json()["items"]
    assert (shown_upload["id"], shown_upload["offset"], shown_upload["complete"]) == (id, 2 * BLOCK, False)
    octets = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(2 * BLOCK)}
    refused = await http.patch(f"/v1/uploads/{id}", headers=octets, content=b"x")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/conflict")
    tus = (await http.post("/v1/uploads", headers={**TUS, "Upload-Length": "5"})).headers["Location"]
    other = f"/v1/block-uploads/{tus.rpartition('/')[2]}"
    for answer in (await http.get(other), await put(http, other, DATA, 0), await http.delete(other)):
        assert answer.json()["type"] == "/problems/no-such-upload"
    assert (await put(http, url, DATA, 0, 4)).json()["missing"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"blocks": "AAAA"},
        {"name": ""},
        {"size": -1},
        {"name": "../x"},
        {"blocks": "no base64"},
        {"further": 1},
    ],
)
async def test_a_creation_that_does_not_fit_makes_nothing(http: httpx.AsyncClient, wrong: dict[str, object]) -> None:
    refused = await http.post("/v1/block-uploads", json={"name": "a", "size": 5, **wrong})
    assert refused.status_code == 400
    assert (await http.get("/v1/uploads")).json()["items"] == []


@pytest.mark.slow
async def test_a_sender_asks_whether_it_pays_to_compute_all_digests(http: httpx.AsyncClient) -> None:
    big = bytes(HINTED)
    url = (await create(http, "a", big)).headers["Location"]
    await put(http, url, big, 0, count(len(big)))
    assert (await end(http, url, big)).status_code == 201

    async def known(size: int, first: str) -> object:
        return (await http.get("/v1/known-content", params={"size": size, "first": first})).json()

    assert await known(len(big), of_block(big[:BLOCK]).hex()) == {"known": True}
    assert await known(len(big), of_block(b"other").hex()) == {"known": False}
    assert await known(len(big) + 1, of_block(big[:BLOCK]).hex()) == {"known": False}
    for size, first in ((-1, "00" * 32), (5, "x")):
        answer = await http.get("/v1/known-content", params={"size": size, "first": first})
        assert answer.status_code == 400
