"""PUT of small files: never staged, with every check of a large one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os

import httpx
import pytest

from holdfast.digests import of_file
from tests.support.uploads import Raw, until
from tornado_app.app import App
from tornado_app.files.uploads.small_files.requests import SMALL
from tornado_app.settings import Settings


def encoded(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize("size", [0, 1, 200, SMALL])
async def test_a_small_file_is_published_with_both_digests(
    http: httpx.AsyncClient, settings: Settings, size: int
) -> None:
    data = os.urandom(size)
    answer = await http.put("/v1/files/deep/er/a.bin", content=data)
    assert answer.status_code == 201
    info = answer.json()
    assert info["sha256"] == hashlib.sha256(data).hexdigest()
    assert info["block_digest"] == of_file(data).hex()
    assert answer.headers["ETag"] == f'"{of_file(data).hex()[:32]}"'
    assert answer.headers["Block-Digest"] == f"blake3-1m=:{encoded(of_file(data))}:"
    assert answer.headers["Location"] == "/v1/files/deep/er/a.bin"
    again = await http.put("/v1/files/deep/er/a.bin", content=data)
    assert (again.status_code, "Location" in again.headers) == (200, False)
    assert again.headers["ETag"] == answer.headers["ETag"]
    assert (settings.files_dir / "deep/er/a.bin").read_bytes() == data
    assert os.listdir(settings.files_dir / ".holdfast/uploads") == []


async def test_conditions_are_those_of_a_large_file(http: httpx.AsyncClient) -> None:
    url = "/v1/files/a"

    async def status(condition: str, value: str) -> int:
        return (await http.put(url, content=b"new", headers={condition: value})).status_code

    assert await status("If-Match", "*") == 412
    assert await status("If-None-Match", "*") == 201
    refused = await http.put(url, content=b"x", headers={"If-None-Match": "*"})
    etag = (await http.head(url)).headers["ETag"]
    assert (refused.status_code, refused.json()["etag"]) == (412, etag.strip('"'))
    assert await status("If-None-Match", etag) == 412
    assert await status("If-Match", '"another"') == 412
    assert await status("If-Match", etag) == 200
    assert await status("If-Match", "*") == 200
    assert await status("If-Match", "no tag") == 400
    assert await status("If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT") == 412
    assert (await http.get(url)).content == b"new"


@pytest.mark.parametrize("field", ["Repr-Digest", "Content-Digest", "Block-Digest"])
async def test_a_digest_is_checked(http: httpx.AsyncClient, field: str) -> None:
    right, wrong = (
        f"blake3-1m=:{encoded(of_file(data))}:"
        if field == "Block-Digest"
        else f"sha-512=:{encoded(hashlib.sha512(data).digest())}:"
        for data in (b"right", b"wrong")
    )
    answer = await http.put("/v1/files/a", content=b"right", headers={field: wrong})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/digest-mismatch")
    assert (await http.get("/v1/files/a")).status_code == 404
    assert (await http.put("/v1/files/a", content=b"right", headers={field: right})).status_code == 201
    assert (await http.put("/v1/files/a", content=b"right", headers={field: "what?"})).status_code == 400


async def test_a_bad_name_is_refused(http: httpx.AsyncClient) -> None:
    assert (await http.put("/v1/files/a%00b", content=b"x")).status_code == 400
    assert (await http.put("/v1/files/.holdfast/x", content=b"x")).status_code == 400


async def test_a_cut_body_leaves_nothing_and_gives_its_place_back(
    app: App, http: httpx.AsyncClient, settings: Settings
) -> None:
    raw = Raw(str(http.base_url))
    await raw.send("PUT /v1/files/a", {"Content-Length": 100}, b"only this")
    registry = app.services.files.uploads.registry

    async def in_the_making() -> bool:
        return registry.in_the_making == 1

    async def none() -> bool:
        return registry.in_the_making == 0

    await until(in_the_making)
    raw.close()
    await until(none)
    assert [path.name for path in settings.files_dir.iterdir()] == [".holdfast"]


async def test_many_at_once_all_land(http: httpx.AsyncClient, settings: Settings) -> None:
    async def put(number: int) -> None:
        for turn in range(10):
            answer = await http.put(f"/v1/files/{number % 3}/{number}-{turn}", content=b"%d" % number)
            assert answer.status_code == 201

    await asyncio.gather(*(put(number) for number in range(6)))
    assert len(list(settings.files_dir.glob("?/*"))) == 60


async def test_of_many_that_may_replace_none_one_wins(http: httpx.AsyncClient, settings: Settings) -> None:
    async def put(number: int) -> int:
        answer = await http.put("/v1/files/a", content=b"%d" % number, headers={"If-None-Match": "*"})
        return answer.status_code

    statuses = await asyncio.gather(*(put(number) for number in range(8)))
    assert sorted(statuses) == [201] + [412] * 7
    assert (settings.files_dir / "a").read_bytes() == b"%d" % statuses.index(201)
