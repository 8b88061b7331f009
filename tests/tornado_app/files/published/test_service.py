"""`PUT /v1/files/{name}`: a whole file, staged, digested and published in one step."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import os
import random
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.block_digests import block_digest, etag_of
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess, wait_until
from tornado_app.app import App
from tornado_app.files.uploads.digest_check import DigestCheck
from tornado_app.protocols import dates
from tornado_app.settings import Settings

CONTENT = random.Random(5).randbytes(3 << 20)
URL = "/v1/files/deep/er/a.bin"


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


def digest(algorithm: str, content: bytes) -> str:
    value = hashlib.new(algorithm.replace("-", ""), content).digest()
    return f"{algorithm}=:{base64.b64encode(value).decode()}:"


def staged(files: Path) -> list[str]:
    """Return the staged files."""
    return os.listdir(files / ".holdfast/uploads")


async def test_a_put_makes_a_file(http: httpx.AsyncClient, files: Path) -> None:
    answer = await http.put(URL, content=CONTENT)
    assert answer.status_code == 201
    assert answer.headers["Location"] == URL
    assert answer.headers["ETag"] == etag_of(CONTENT)
    file = answer.json()
    assert (file["name"], file["size"], file["block_digest"]) == (
        *("deep/er/a.bin", len(CONTENT)),
        block_digest(CONTENT),
    )
    assert (files / "deep/er/a.bin").read_bytes() == CONTENT
    assert (await http.get(URL)).content == CONTENT
    assert staged(files) == []


async def test_a_put_replaces_a_file(http: httpx.AsyncClient, files: Path) -> None:
    first = await http.put(URL, content=b"old")
    answer = await http.put(URL, content=CONTENT)
    assert answer.status_code == 200
    assert "Location" not in answer.headers
    assert answer.headers["ETag"] != first.headers["ETag"]
    assert (await http.get(URL)).content == CONTENT
    same = await http.put(URL, content=CONTENT)
    assert same.headers["ETag"] == answer.headers["ETag"], "the same content is the same version"


async def test_an_empty_file_and_one_of_unknown_length_can_be_put(http: httpx.AsyncClient, files: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(CONTENT), 100_000):
            yield CONTENT[at : at + 100_000]

    assert (await http.put("/v1/files/empty", content=b"")).status_code == 201
    assert (files / "empty").read_bytes() == b""
    assert (await http.put("/v1/files/chunked", content=pieces())).status_code == 201
    assert (files / "chunked").read_bytes() == CONTENT


# -- preconditions


async def test_a_file_is_made_only_where_there_is_none(http: httpx.AsyncClient, files: Path) -> None:
    assert (await http.put(URL, content=b"1", headers={"If-None-Match": "*"})).status_code == 201
    answer = await http.put(URL, content=b"2", headers={"If-None-Match": "*"})
    assert answer.status_code == 412
    assert (files / "deep/er/a.bin").read_bytes() == b"1"
    assert staged(files) == []


async def test_a_file_is_replaced_only_as_it_was_known(http: httpx.AsyncClient, files: Path) -> None:
    etag = (await http.put(URL, content=b"1")).headers["ETag"]
    long_ago = dates.write(1_000_000_000)
    for headers in (
        {"If-Match": '"other"'},
        {"If-Match": f"W/{etag}"},
        {"If-Unmodified-Since": long_ago},
        {"If-None-Match": etag},
    ):
        answer = await http.put(URL, content=b"2", headers=headers)
        assert answer.status_code == 412
        assert answer.json()["etag"] == etag.strip('"')
    assert (await http.put("/v1/files/none", content=b"2", headers={"If-Match": "*"})).status_code == 412
    assert not (files / "none").exists()
    for headers in ({"If-Match": etag}, {"If-Match": "*"}, {"If-None-Match": '"other"'}):
        etag = (await http.put(URL, content=b"3", headers=headers)).headers["ETag"]
    assert (files / "deep/er/a.bin").read_bytes() == b"3"


@pytest.mark.parametrize("headers", [{"If-Match": "abc"}, {"If-None-Match": "abc"}, {"If-None-Match": '"a" "b"'}])
async def test_a_condition_that_cannot_be_read_is_told_and_changes_nothing(
    http: httpx.AsyncClient, files: Path, headers: dict[str, str]
) -> None:
    answer = await http.put(URL, content=b"2", headers=headers)
    assert answer.status_code == 400
    assert "double quotes" in answer.json()["detail"]
    assert staged(files) == []


class Stepwise:
    """A PUT that sends its body when told."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.begun = asyncio.Event()

    def send(self, piece: bytes) -> None:
        self._pieces.put_nowait(piece)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun.set()
        while piece := await self._pieces.get():
            yield piece


async def begin(http: httpx.AsyncClient, app: App, headers: dict[str, str]) -> tuple[Stepwise, asyncio.Task[Any]]:
    """A PUT whose preconditions have been decided on and whose body is still to come."""
    body = Stepwise()
    task = asyncio.create_task(http.put(URL, content=body, headers=headers))
    body.send(b"from the first")
    uploads = app.services.files.uploads
    await asyncio.to_thread(wait_until, lambda: list(uploads), what="the PUT has begun")
    return body, task


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
async def test_what_another_put_did_meanwhile_is_not_lost(
    http: httpx.AsyncClient, app: App, files: Path, condition: str
) -> None:
    headers = {"If-None-Match": "*"}
    if condition == "If-Match":
        headers = {"If-Match": (await http.put(URL, content=b"before")).headers["ETag"]}
    body, task = await begin(http, app, headers)
    assert (await http.put(URL, content=b"from the second")).status_code in (200, 201)
    body.send(b"")
    assert (await task).status_code == 412
    assert (files / "deep/er/a.bin").read_bytes() == b"from the second"
    assert staged(files) == []


async def test_of_two_puts_at_once_the_file_is_the_one_that_ended_last(
    http: httpx.AsyncClient, app: App, files: Path
) -> None:
    body, task = await begin(http, app, {})
    assert (await http.put(URL, content=b"from the second")).status_code == 201
    assert (files / "deep/er/a.bin").read_bytes() == b"from the second"
    body.send(b"")
    assert (await task).is_success
    assert (files / "deep/er/a.bin").read_bytes() == b"from the first"


# -- digests


@pytest.mark.parametrize("field", ["Content-Digest", "Repr-Digest"])
async def test_a_digest_that_was_sent_is_checked(http: httpx.AsyncClient, files: Path, field: str) -> None:
    for algorithm in ("sha-256", "sha-512"):
        good = {field: digest(algorithm, CONTENT)}
        assert (await http.put(URL, content=CONTENT, headers=good)).is_success
        bad = {field: digest(algorithm, b"something else")}
        answer = await http.put(URL, content=b"x" * 100_000, headers=bad)
        assert answer.status_code == 400
        assert answer.json()["type"] == "/problems/digest-mismatch"
        assert (files / "deep/er/a.bin").read_bytes() == CONTENT
        assert staged(files) == []


async def test_the_digest_that_is_made_anyway_is_not_made_twice(
    http: httpx.AsyncClient, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    really = DigestCheck.__init__

    def init(self: DigestCheck, expected: Mapping[str, bytes], *rest: Any) -> None:
        made.extend(expected)
        really(self, expected, *rest)

    monkeypatch.setattr(DigestCheck, "__init__", init)
    assert (await http.put(URL, content=CONTENT, headers={"Repr-Digest": digest("sha-256", CONTENT)})).is_success
    assert made == []
    assert (await http.put(URL, content=CONTENT, headers={"Repr-Digest": digest("sha-512", CONTENT)})).is_success
    assert made == ["sha512"]


class TestWithoutDigests:
    """`--no-digest-uploads`: a digest that is sent is checked all the same."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, digest_uploads=False)

    async def test_a_digest_that_was_sent_is_checked(self, http: httpx.AsyncClient, files: Path) -> None:
        good, bad = (digest("sha-256", content) for content in (CONTENT, b"something else"))
        assert (await http.put(URL, content=CONTENT, headers={"Repr-Digest": good})).is_success
        answer = await http.put(URL, content=b"x", headers={"Repr-Digest": bad})
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/digest-mismatch")
        assert (files / "deep/er/a.bin").read_bytes() == CONTENT


async def test_every_digest_has_to_match(http: httpx.AsyncClient, files: Path) -> None:
    headers = {"Content-Digest": digest("sha-256", CONTENT), "Repr-Digest": digest("sha-512", b"something else")}
    assert (await http.put(URL, content=CONTENT, headers=headers)).status_code == 400
    for one, other in (("Content-Digest", "Repr-Digest"), ("Repr-Digest", "Content-Digest")):
        contrary = {one: digest("sha-256", CONTENT), other: digest("sha-256", b"something else")}
        assert (await http.put(URL, content=CONTENT, headers=contrary)).status_code == 400
    assert not (files / "deep/er/a.bin").exists()


async def test_digests_that_cannot_be_checked_are_ignored_and_ill_formed_ones_told(
    http: httpx.AsyncClient, files: Path
) -> None:
    assert (await http.put(URL, content=b"1", headers={"Content-Digest": "md5=:AAAA:"})).status_code == 201
    for wrong in ("sha-256=abc", "sha-256=:AAAA:", "nonsense=", "sha-256=:" + "A" * 43 + "="):
        answer = await http.put(URL, content=b"2", headers={"Repr-Digest": wrong})
        assert answer.status_code == 400
        assert "Repr-Digest" in answer.json()["detail"]
    assert (files / "deep/er/a.bin").read_bytes() == b"1"


# -- what a PUT must not be


async def test_a_part_is_refused_and_a_whole_that_says_so_is_not(http: httpx.AsyncClient, files: Path) -> None:
    for part in ("bytes 0-1/10", "bytes 2-4/5", "bytes 0-2/*", "bytes 0-9/10", "nonsense"):
        answer = await http.put(URL, content=b"abc", headers={"Content-Range": part})
        assert answer.status_code == 400
        assert "/v1/uploads" in answer.json()["detail"]
    for says in ({"Upload-Complete": "?0"}, {"Content-Type": "application/partial-upload"}):
        answer = await http.put(URL, content=b"abc", headers=says)
        assert answer.status_code == 400
        assert "headers describe a part" in answer.json()["detail"]
    assert not (files / "deep/er/a.bin").exists()
    whole = {"Content-Range": "bytes 0-2/3", "Upload-Complete": "?1"}
    assert (await http.put(URL, content=b"abc", headers=whole)).status_code == 201


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", ".holdfast", ".holdfast/uploads/b", "a\\b", "deep", "a\nb", "x" * 256]
)
async def test_a_name_that_no_file_can_have_is_refused(http: httpx.AsyncClient, files: Path, name: str) -> None:
    (files / "deep").mkdir()
    quoted = "".join(f"%{byte:02X}" for byte in name.encode())
    answer = await http.put(f"/v1/files/{quoted}", content=b"1")
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-name")
    assert staged(files) == []


async def test_a_refusal_comes_before_the_body_is_asked_for(base_url: str, files: Path) -> None:
    (files / "a.bin").write_bytes(b"1")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
    writer.write(
        b"PUT /v1/files/a.bin HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n"
        b"Expect: 100-continue\r\nIf-None-Match: *\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 412 ")
    writer.close()


# -- cuts and crashes


@pytest.mark.slow
def test_a_put_that_is_cut_leaves_nothing_behind(spawn_server: Any) -> None:
    server: ServerProcess = spawn_server()
    target = server.files_dir / "a.bin"
    target.write_bytes(b"old")
    with FaultyProxy(int(server.url.rpartition(":")[2]), Fault(cut_up=1 << 20)) as proxy:
        with pytest.raises(httpx.TransportError):
            httpx.put(f"{proxy.url}/v1/files/a.bin", content=CONTENT)
        wait_until(lambda: staged(server.files_dir) == [], what="nothing is in the making")
        assert target.read_bytes() == b"old"
        assert httpx.put(f"{proxy.url}/v1/files/a.bin", content=CONTENT).status_code == 200
    assert target.read_bytes() == CONTENT


@pytest.mark.slow
def test_a_put_whose_answer_was_lost_can_be_sent_again(spawn_server: Any) -> None:
    server: ServerProcess = spawn_server()
    port = int(server.url.rpartition(":")[2])
    with FaultyProxy(port, Fault(swallow_answer=True), Fault(duplicate=True)) as proxy:
        with pytest.raises(httpx.TransportError):
            httpx.put(f"{proxy.url}/v1/files/a.bin", content=CONTENT)
        assert httpx.put(f"{proxy.url}/v1/files/a.bin", content=CONTENT).is_success
    assert (server.files_dir / "a.bin").read_bytes() == CONTENT
    assert staged(server.files_dir) == []


@pytest.mark.slow
def test_a_server_killed_during_a_put_has_the_old_file_and_no_rest(spawn_server: Any) -> None:
    server: ServerProcess = spawn_server()
    (server.files_dir / "a.bin").write_bytes(b"old")
    with FaultyProxy(int(server.url.rpartition(":")[2]), Fault(stall_up=2 << 20)) as proxy:

        def put() -> None:
            with pytest.raises(httpx.TransportError):
                httpx.put(f"{proxy.url}/v1/files/a.bin", content=CONTENT)

        thread = threading.Thread(target=put)
        thread.start()
        wait_until(lambda: any((server.files_dir / ".holdfast/uploads").rglob("data")), what="bytes are in the making")
        server.kill()
        proxy.cut_all()
        thread.join()
    server.restart()
    assert staged(server.files_dir) == []
    assert httpx.get(f"{server.url}/v1/files/a.bin").content == b"old"
    assert httpx.put(f"{server.url}/v1/files/a.bin", content=CONTENT).status_code == 200
