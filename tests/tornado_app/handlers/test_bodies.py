"""Requests are decided by their headers: who may not come in, or sends too much, costs the server nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.servers import PATIENCE
from tests.support.uploads import Raw
from tornado_app.app import App, routes
from tornado_app.files.buffers import COLLECTED
from tornado_app.handlers.openapi.document import Contract
from tornado_app.server.long_bodies import MAX_BODY, MAX_HEAD, BodyStream, ReadBudget, Refusals
from tornado_app.settings import Settings

HUGE = 16 << 20
LIMIT = 5000
TAKE_BODIES = sorted(
    (endpoint.method.upper(), endpoint.path.format(id="a", name="a", verb="pause", type="a", file="a", first="0"))
    for endpoint in Contract(routes(None)).endpoints  # type: ignore[arg-type]
    if endpoint.operation.body
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, max_json_body=LIMIT, token="the token")


@pytest.fixture
async def http(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": "Bearer the token"}
    async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE, headers=headers) as client:
        yield client


async def answered(raw: Raw) -> tuple[int, dict[str, str]]:
    async with asyncio.timeout(PATIENCE):
        return await raw.head()


@pytest.mark.parametrize(("method", "path"), TAKE_BODIES)
@pytest.mark.parametrize(
    "framing", [{"Content-Length": HUGE}, {"Transfer-Encoding": "chunked"}], ids=["length", "chunked"]
)
async def test_without_the_token_the_answer_comes_before_the_body(
    base_url: str, method: str, path: str, framing: dict[str, object]
) -> None:
    raw = Raw(base_url)
    await raw.send(f"{method} {path}", framing)
    assert (await answered(raw))[0] == 401
    raw.close()


@pytest.mark.parametrize("path", ["/v1/processes", "/v1/processes/pause", "/a/process/resume/"])
async def test_json_that_says_that_it_is_too_long_is_refused_before_it_comes(base_url: str, path: str) -> None:
    raw = Raw(base_url)
    await raw.send(f"POST {path}", {"Authorization": "Bearer the token", "Content-Length": LIMIT + 1})
    assert (await answered(raw))[0] == (400 if path.startswith("/a/") else 413)
    raw.close()


@pytest.mark.parametrize("digits", [19, 5000])
@pytest.mark.parametrize(("method", "path"), TAKE_BODIES)
async def test_a_length_that_no_body_has_is_refused(
    base_url: str, method: str, path: str, digits: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Python reads no number of more than 4300 digits, and the head has room for more."""
    raw = Raw(base_url)
    await raw.send(f"{method} {path}", {"Authorization": "Bearer the token", "Content-Length": "9" * digits})
    assert (await answered(raw))[0] in (400, 404, 413, 415, 507)
    assert "Traceback" not in caplog.text
    raw.close()


async def test_json_that_turns_out_too_long_is_refused_when_it_does(http: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * LIMIT

    answer = await http.post("/v1/processes", content=body())
    assert answer.status_code == 413
    assert "--max-json-body" in answer.json()["detail"]
    assert f"{LIMIT} bytes" in answer.json()["detail"]


async def test_json_of_just_the_limit_fits(http: httpx.AsyncClient) -> None:
    body = json.dumps({"id": "a", "work_type": "manifest"}).encode()
    assert (await http.post("/v1/processes", content=body.ljust(LIMIT))).status_code == 201

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, LIMIT, 100):
            yield body.ljust(LIMIT)[at : at + 100]

    assert (await http.post("/v1/processes", content=pieces())).status_code == 200


async def test_a_body_that_is_not_asked_for_is_dropped(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/processes", json={"id": "a", "work_type": "manifest"})).status_code == 201
    answer = await http.request("GET", "/v1/processes/a", content=b"x" * MAX_BODY)
    assert answer.status_code == 200
    answer = await http.request("GET", "/v1/processes/a", content=b"x" * (MAX_BODY + 1))
    assert answer.status_code == 400


@pytest.mark.parametrize("size", [MAX_HEAD + 1, 2 * MAX_HEAD, 4 << 20])
@pytest.mark.parametrize("where", ["line", "header", "headers"])
async def test_a_head_that_is_too_long_is_told_so(server: App, size: int, where: str) -> None:
    line = "GET /health/live" + ("?" + "x" * size if where == "line" else "") + " HTTP/1.1\r\nHost: localhost\r\n"
    long = {"line": "", "header": "X: " + "x" * size, "headers": "\r\n".join(["X: x"] * (size // 4))}[where]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"{line}{long}\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert json.loads(body)["type"] == "/problems/head-too-long"
    assert f"{MAX_HEAD} bytes" in json.loads(body)["detail"]


async def until_used(count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while COLLECTED.used != count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("ending", ["finished", "cut"])
async def test_bodies_that_are_kept_in_memory_share_a_budget(
    base_url: str, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """A request that does not fit is refused with Retry-After, and whatever ends a request makes room."""
    monkeypatch.setattr(COLLECTED, "most", 4000)
    start, body = "POST /v1/processes", json.dumps({"work_type": "x" * 3000}).encode()
    first = Raw(base_url)
    await first.send(start, {"Content-Length": len(body), "Authorization": "Bearer the token"}, body[:-1])
    await until_used(len(body) - 1)
    refused = await http.post("/v1/processes", content=body)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["type"] == "/problems/unavailable"
    small = await http.put("/v1/files/a", content=b"1" * 2000)
    assert (small.status_code, small.headers["Retry-After"]) == (503, "1")
    if ending == "finished":
        first.writer.write(body[-1:])
        assert (await answered(first))[0] == 400  # there is no such work type
    first.close()
    await until_used(0)
    assert (await http.put("/v1/files/a", content=b"1" * 2000)).status_code == 201
    assert (await http.post("/v1/processes", content=body)).status_code == 400
    await until_used(0)


class Watched:
    """A pattern that counts how many bytes are looked at."""

    def __init__(self, pattern: Any) -> None:
        self.pattern, self.count = pattern, 0

    def search(self, text: bytes, start: int = 0) -> Any:
        self.count += len(text) - start
        return self.pattern.search(text, start)


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\n\n"])
async def test_a_head_that_comes_byte_by_byte_is_looked_through_once(end: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = BodyStream(ours, ReadBudget(), 60.0, Refusals())
    head = b"GET / HTTP/1.1" + b"\r\nA: b" * 200 + end
    with theirs:
        for text in (head, head[:50] + end):  # a second head is not searched from where the first one ended
            read = asyncio.ensure_future(stream.read_until_regex(b"\r?\n\r?\n", max_bytes=MAX_HEAD))
            stream._read_regex = watched = Watched(stream._read_regex)  # type: ignore[assignment]
            for at in range(len(text)):
                theirs.send(text[at : at + 1])
                before = len(stream._read_buffer)
                while len(stream._read_buffer) == before and not read.done():
                    await asyncio.sleep(0)
            assert await read == text
            assert watched.count < 20 * len(text), "a few bytes for each that comes, however many came before"
    stream.close()


async def test_a_long_line_before_a_chunk_is_told_so_and_is_no_long_head(server: App) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = "PUT /v1/files/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer the token\r\n"
    head += "Transfer-Encoding: chunked\r\n"
    writer.write(f"{head}\r\n1;{'a=b;' * 100}\r\nx\r\n0\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE):
        answer, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert "without chunk extensions" in json.loads(body)["detail"]


async def test_a_host_is_told_back_shortly_and_what_has_one_choice_says_so(http: httpx.AsyncClient) -> None:
    answer = await http.get("/health", headers={"Host": "a." * 20_000})
    assert answer.status_code == 421
    assert len(answer.content) < 5_000
    assert (await http.get("/v1/files?delimiter=x")).json()["detail"] == "delimiter must be /, not 'x'"
