"""The server on each of its stores, over HTTP: the same requests get the same answers."""

from __future__ import annotations

import dataclasses
import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from holdfast.work import Job, Progress, work_type
from tests.support.block_digests import block_digest, etag_of
from tests.support.processes import reaches
from tests.support.uploads import OCTETS, PARTIAL, TUS, metadata
from tornado_app.app import App
from tornado_app.files.store.memory.store import MemoryStore
from tornado_app.settings import Settings, SettingsError, read

BIG = bytes(range(256)) * 12_000


class Copied(msgspec.Struct):
    """Names of the file to copy and of the copy."""

    source: str
    target: str


def _copy(job: Job[Copied]) -> Generator[Progress, None, dict[str, str]]:
    """Copy a file in pieces; the checkpoint is the number of bytes that are staged."""
    staged = job.files.stage(job.params.target, "copy")
    staged.truncate((job.checkpoint or {"at": 0})["at"])
    with job.files.open(job.params.source) as source:
        source.seek(staged.tell())
        while piece := source.read(100_000):
            staged.write(piece)
            yield Progress(staged.tell(), job.files.size(job.params.source), {"at": staged.tell()})
    return {"sha256": staged.publish()}


copy_in_thread = work_type("copy-in-thread", params=Copied)(_copy)
copy_in_process = work_type("copy-in-process", params=Copied, place="process")(_copy)


@work_type("copy-on-loop", params=Copied)
async def copy_on_loop(job: Job[Copied]) -> AsyncGenerator[Progress, None]:
    """Copy a file as the others do, on the event loop."""
    steps = _copy(job)
    while True:
        try:
            yield next(steps)
        except StopIteration as end:
            job.result = end.value
            return


@pytest.fixture(params=["local", "memory"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return dataclasses.replace(settings, store=request.param, import_=(__name__,), reserve_space=0)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def content(http: httpx.AsyncClient, name: str) -> bytes:
    answer = await http.get(f"/v1/files/{name}", headers={"Accept-Encoding": "identity"})
    assert answer.status_code == 200, answer.text
    return answer.content


async def test_files_are_put_read_listed_and_deleted(http: httpx.AsyncClient, settings: Settings) -> None:
    for name, data in (("a/b.bin", BIG), ("a/c/d.txt", b"d"), ("e.txt", b"e")):
        answer = await http.put(f"/v1/files/{name}", content=data, headers={"If-None-Match": "*"})
        assert (answer.status_code, answer.json()["block_digest"]) == (201, block_digest(data))
    assert (await http.put("/v1/files/e.txt", content=b"", headers={"If-None-Match": "*"})).status_code == 412
    head = await http.head("/v1/files/a/b.bin")
    assert (head.status_code, int(head.headers["Content-Length"]), head.headers["ETag"]) == (
        200,
        len(BIG),
        etag_of(BIG),
    )
    assert await content(http, "a/b.bin") == BIG
    part = await http.get("/v1/files/a/b.bin", headers={"Range": "bytes=1000-1999", "If-Range": head.headers["ETag"]})
    assert (part.status_code, part.content) == (206, BIG[1000:2000])
    several = await http.get("/v1/files/a/b.bin", headers={"Range": "bytes=0-9,-10"})
    assert (several.status_code, b"multipart/byteranges" in several.headers["Content-Type"].encode()) == (206, True)
    assert (await http.get("/v1/files/a/b.bin", headers={"Range": "bytes=99999999-"})).status_code == 416
    assert (await http.get("/v1/files/a/b.bin", headers={"If-None-Match": head.headers["ETag"]})).status_code == 304
    names = [item["name"] for item in (await http.get("/v1/files?limit=2")).json()["items"]]
    assert names == ["a/b.bin", "a/c/d.txt"]
    level = (await http.get("/v1/files?prefix=a/&delimiter=/")).json()
    assert ([item["name"] for item in level["items"]], level["prefixes"]) == (["a/b.bin"], ["a/c/"])
    for expected in (204, 404):
        assert (await http.delete("/v1/files/a/c/d.txt")).status_code == expected
    assert (await http.get("/v1/files/a/c/d.txt")).status_code == 404
    assert (await http.get("/v1/files/a")).status_code == 404
    assert (await http.put("/v1/files/a", content=b"")).status_code == 400
    if settings.store == "memory":
        assert list(settings.files_dir.iterdir()) == []


async def test_uploads_by_tus_are_resumed_verified_and_joined(http: httpx.AsyncClient) -> None:
    made = await http.post("/v1/uploads", headers={**TUS, "Upload-Length": "10", **metadata(filename="tus.txt")})
    url = made.headers["Location"]
    checksum = {"Upload-Checksum": "sha1 " + b64encode(hashlib.sha1(b"wrong").digest()).decode()}
    refused = await http.patch(url, headers={**OCTETS, "Upload-Offset": "0", **checksum}, content=b"01234")
    assert refused.status_code == 460
    assert (await http.head(url, headers=TUS)).headers["Upload-Offset"] == "0"
    for offset, data in ((0, b"01234"), (5, b"56789")):
        checksum = {"Upload-Checksum": "sha1 " + b64encode(hashlib.sha1(data).digest()).decode()}
        answer = await http.patch(url, headers={**OCTETS, "Upload-Offset": str(offset), **checksum}, content=data)
        assert answer.status_code == 204, answer.text
    assert await content(http, "tus.txt") == b"0123456789"
    parts = []
    for data in (b"one,", b"two"):
        fields = {**OCTETS, "Upload-Length": str(len(data)), "Upload-Concat": "partial"}
        parts.append((await http.post("/v1/uploads", headers=fields, content=data)).headers["Location"])
    concat = {"Upload-Concat": f"final;{' '.join(parts)}", **metadata(filename="joined.txt")}
    assert (await http.post("/v1/uploads", headers={**TUS, **concat})).status_code == 201
    assert await content(http, "joined.txt") == b"one,two"
    cancelled = await http.post("/v1/uploads", headers={**TUS, "Upload-Length": "10"})
    assert (await http.delete(cancelled.headers["Location"], headers=TUS)).status_code == 204
    assert (await http.head(cancelled.headers["Location"], headers=TUS)).status_code == 404


async def test_uploads_by_the_draft_are_resumed(http: httpx.AsyncClient) -> None:
    named = {"Content-Disposition": 'inline; filename="draft.bin"'}
    made = await http.post("/v1/uploads", headers={"Upload-Complete": "?0", **named}, content=BIG[:1000])
    url = made.headers["Location"]
    assert (await http.head(url)).headers["Upload-Offset"] == "1000"
    fields = {**PARTIAL, "Upload-Offset": "1000", "Upload-Complete": "?1"}
    assert (await http.patch(url, headers=fields, content=BIG[1000:])).status_code in (200, 201, 204)
    assert await content(http, "draft.bin") == BIG


async def test_the_seeds_endpoints_append_show_and_cancel(http: httpx.AsyncClient) -> None:
    target = "/upload/?file_name=seed.txt&bytes_read="
    assert (await http.post(f"{target}0", content=b"hello ")).json()["bytes_read"] == 6
    assert await content(http, "seed.txt") == b"hello "
    assert (await http.post(f"{target}6", content=b"world")).json()["bytes_read"] == 11
    assert (await http.get("/upload/?file_name=seed.txt")).json()["bytes_read"] == 11
    assert (await http.post(f"{target}3", content=b"x")).status_code in (400, 409)
    piece = (await http.get("/download/?file_name=seed.txt&bytes_read=6")).json()
    assert (piece["file_content"], piece["is_complete"]) == ("world", True)
    assert (await http.post("/upload/cancel/?file_name=seed.txt")).status_code == 200
    assert (await http.get("/v1/files/seed.txt")).status_code == 404


@pytest.mark.parametrize("work", ["copy-in-thread", "copy-on-loop"])
async def test_work_reads_and_stages_files(http: httpx.AsyncClient, app: App, work: str) -> None:
    await http.put("/v1/files/source.bin", content=BIG)
    params = {"source": "source.bin", "target": "folder/copy.bin"}
    answer = await http.post("/v1/processes", json={"id": "p", "work_type": work, "params": params})
    assert answer.status_code == 201, answer.text
    ended = await reaches(app.services.processes, "p", "succeeded", "failed")
    assert (ended.error, ended.result) == (None, {"sha256": sha256(BIG)})
    assert await content(http, "folder/copy.bin") == BIG


@pytest.mark.parametrize("settings", ["memory"], indirect=True)
async def test_work_in_an_os_process_needs_a_store_that_others_can_open(http: httpx.AsyncClient, app: App) -> None:
    await http.put("/v1/files/source.bin", content=b"small")
    request: dict[str, Any] = {"id": "p", "work_type": "copy-in-process"}
    request["params"] = {"source": "source.bin", "target": "copy.bin"}
    answer = await http.post("/v1/processes", json=request)
    assert (answer.status_code, answer.json()["field"]) == (400, "place")
    assert answer.json()["detail"] == (
        "place 'process' can't be used with --store memory, because other processes can't read those files; "
        "use place 'thread', or start the server with --store local"
    )
    kinds = {item["name"]: item["doc"] for item in (await http.get("/v1/work-types")).json()["items"]}
    assert kinds["copy-in-process"].endswith(f"\n\nOn this server: {answer.json()['detail']}.")
    assert "On this server" not in kinds["copy-in-thread"]
    assert (await http.post("/v1/processes", json={**request, "place": "thread"})).status_code == 201
    await reaches(app.services.processes, "p", "succeeded")
    assert await content(http, "copy.bin") == b"small"


def test_the_store_is_a_setting() -> None:
    assert read([], {}).store == "local"
    assert read([], {"HOLDFAST_STORE": "memory"}).store == read(["--store", "memory"], {}).store == "memory"
    with pytest.raises(SettingsError, match="--store must be one of local, memory, not 's3'"):
        read(["--store", "s3"], {})


@pytest.mark.parametrize("settings", ["memory"], indirect=True)
async def test_in_memory_the_files_directory_is_neither_made_nor_locked(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "none"
    servers = []
    for number in range(2):
        changed = dataclasses.replace(settings, files_dir=folder, data_dir=tmp_path / f"data-{number}")
        servers.append(await App.open(changed))
    assert isinstance(servers[0].services.files.store, MemoryStore)
    assert not folder.exists()
    assert "files and uploads end with this server" in caplog.text
    for server in servers:
        await server.close()
