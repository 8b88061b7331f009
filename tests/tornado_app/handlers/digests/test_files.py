"""`/v1/digests/{name}`: the digests of the blocks of a file, made where they are not known, and kept."""

from __future__ import annotations

import asyncio
import base64
import os
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.block_digests import block_digest, blocks_of, etag_of
from tornado_app.files.store.local.reader import LocalReader
from tornado_app.settings import Settings

MIB = 1_048_576
DATA = random.Random(3).randbytes(2 * MIB + 5000)


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


class Reads:
    """Counts the bytes that are read of published files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        read = LocalReader.read

        def counting(reader: LocalReader, offset: int, count: int) -> bytes:
            data = read(reader, offset, count)
            self.count += len(data)
            return data

        monkeypatch.setattr(LocalReader, "read", counting)


async def digests(http: httpx.AsyncClient, name: str, **headers: str) -> dict[str, Any]:
    answer = await http.get(f"/v1/digests/{name}", headers=headers)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    found["blocks"] = base64.b64decode(found["blocks"])
    return dict(found)


def expected(name: str, data: bytes, etag: str) -> dict[str, Any]:
    return {
        "name": name,
        "size": len(data),
        "etag": etag,
        "digest": block_digest(data),
        "blocks": blocks_of(data),
        "block_size": MIB,
        "algorithm": "blake3-1m",
    }


@pytest.mark.parametrize("size", [0, 1, MIB, len(DATA)])
async def test_those_of_an_upload_are_known_without_reading_it(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    etag = (await http.put("/v1/files/folder/a b", content=DATA[:size])).headers["ETag"]
    reads = Reads(monkeypatch)
    found = await digests(http, "folder/a%20b")
    assert found == expected("folder/a b", DATA[:size], etag[1:-1])
    assert etag == etag_of(DATA[:size])
    assert reads.count == (0 if size > MIB else size)  # that of one block is not kept beside the file's


async def test_those_of_a_file_put_by_hand_are_made_once_and_leave_its_etag(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "a").write_bytes(DATA)
    etag = (await http.head("/v1/files/a")).headers["ETag"]
    reads = Reads(monkeypatch)
    several = await asyncio.gather(*(digests(http, "a") for _ in range(4)))
    assert several == [expected("a", DATA, etag[1:-1])] * 4
    assert reads.count == len(DATA)
    head = await http.head("/v1/files/a")
    assert head.headers["ETag"] == etag
    assert head.headers["Block-Digest"].startswith("blake3-1m=:")


async def test_an_edit_by_hand_makes_them_anew(http: httpx.AsyncClient, files: Path) -> None:
    await http.put("/v1/files/a", content=DATA)
    (files / "a").write_bytes(DATA[::-1])
    found = await digests(http, "a")
    assert (found["digest"], found["blocks"]) == (block_digest(DATA[::-1]), blocks_of(DATA[::-1]))
    assert f'"{found["etag"]}"' != etag_of(DATA)


async def test_one_version_can_be_asked_for(http: httpx.AsyncClient) -> None:
    await http.put("/v1/files/a", content=DATA)
    assert (await digests(http, "a", **{"If-Match": etag_of(DATA)}))["size"] == len(DATA)
    answer = await http.get("/v1/digests/a", headers={"If-Match": '"another"'})
    assert (answer.status_code, answer.json()["etag"]) == (412, etag_of(DATA)[1:-1])


@pytest.mark.parametrize("name", ["missing", "%FF", "..%2Fa", ".holdfast/clock"])
async def test_what_is_not_there_is_a_404(http: httpx.AsyncClient, name: str) -> None:
    assert (await http.get(f"/v1/digests/{name}")).status_code == 404


async def test_a_file_that_is_written_to_meanwhile_is_asked_for_again(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "a").write_bytes(DATA)
    read = LocalReader.read

    def read_while_it_changes(reader: LocalReader, offset: int, count: int) -> bytes:
        data = read(reader, offset, count)
        with (files / "a").open("r+b") as file:
            file.write(os.urandom(10))
        return data

    monkeypatch.setattr(LocalReader, "read", read_while_it_changes)
    answer = await http.get("/v1/digests/a")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    monkeypatch.setattr(LocalReader, "read", read)
    data = (files / "a").read_bytes()
    assert (await digests(http, "a"))["digest"] == block_digest(data)


class TestInMemory:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        import dataclasses

        return dataclasses.replace(settings, store="memory")

    async def test_they_are_the_same(self, http: httpx.AsyncClient) -> None:
        await http.put("/v1/files/a", content=DATA)
        assert await digests(http, "a") == expected("a", DATA, etag_of(DATA)[1:-1])
