"""Requests that no honest client sends are refused in the one shape, by every operation, and change nothing."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tornado_app.app import App, routes
from tornado_app.handlers.openapi.document import Contract, ContractEndpoint
from tornado_app.server.long_bodies import MAX_BODY

pytestmark = pytest.mark.usefixtures("both_ways")

ENDPOINTS = Contract(routes(None)).endpoints  # type: ignore[arg-type]

PARTS = [
    *("%", "%zz", "%00", "%ff", "%c3%28", "%ed%a0%80", "%0d%0aX-Planted:1", "%7f", "%20", "%09", "\\", "%5c", "*", ";"),
    *("..%2f..%2fetc%2fpasswd", "%2e%2e", ".", "..%00", "%2fetc%2fpasswd", "con", "a" * 5000, "%F0%9F%92%A9", "%u0041"),
    *("-1", "0", "9" * 40, "null", "None", "{id}", "__proto__", "'%20OR%201=1--", "%24%7Bjndi:x%7D", "<script>"),
]
QUERIES = [
    *("%ff=1", "limit=%ff", "file_name=%ff", "wait=nan", "wait=1e999", "wait=-0", "after=-1", "after=" + "9" * 400),
    *("limit=0", "limit=1e2", "limit=١", "limit=1&limit=1", "state=running,,", "state=", "label", "label=%00=%00"),
    *("=", "&&&", "%", "a" * 5000, "cursor=%00", "cursor=" + "9" * 400, "bytes_read=-1", "bytes_read=1_0"),
    *("file_name=../x", "file_name=%00", "file_name=a&file_name=b", "encoding=utf-16", "work_type=%00", "__class__=1"),
]
BODIES = [
    *(b"{", b"[]", b'"x"', b"null", b"0", b"\xff\xfe", b'{"id":', b'{"id": "\\ud800"}', b'{"id": "\xed\xa0\x80"}'),
    *(b"[" * 100_000, b'{"a":' * 50_000, b'{"priority": 1e999}', b'{"priority": ' + b"9" * 5000 + b"}", b"\x00"),
    *(b'{"labels": {"a": 1}}', b'{"params": []}', b'{"ids": [1]}', b'{"deadline_s": NaN}', b'{"work_types": "x"}'),
]
HEADERS = [
    *("Range: bytes=-", "Range: bytes=0-0,1-1" + ",2-2" * 3000, 'If-Match: "', "If-None-Match: \xff", "If-Range: ?"),
    *("Content-Type: \xff/\xff", "Content-Type: multipart/form-data", "Content-Type: text/plain; charset=nonsense"),
    *("Last-Event-ID: -1", "Last-Event-ID: " + "9" * 400, "Content-Digest: sha-256=:!:", "Repr-Digest: ?1;=:"),
    *("Upload-Offset: -1", "Upload-Offset: 1e3", "Upload-Complete: yes", "Upload-Length: " + "9" * 400),
    *("Tus-Resumable: 1.0.0\r\nUpload-Length: x", "Tus-Resumable: 1.0.0\r\nUpload-Metadata: a !, a !"),
    *(
        "Tus-Resumable: 1.0.0\r\nUpload-Offset: 9\r\nUpload-Checksum: md5 x",
        "Content-Disposition: attachment; filename",
    ),
    *("Origin: null", "Origin: http://[", "X-HTTP-Method-Override: BREW", "Accept: \xff", "Authorization: Bearer \xff"),
]


class Answer(NamedTuple):
    """Answer of the server; the body only of a refusal."""

    status: int
    headers: dict[str, str]
    body: bytes


async def send(port: int, method: str, target: str, header: str = "", body: bytes = b"") -> Answer:
    """One request, byte by byte as given: clients mend what they are given, or refuse it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"{method.upper()} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"Content-Length: {len(body)}"] if body else []
        lines += [header] if header else []
        writer.write("\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        status = int(head[0].split()[1])
        refused = status >= 400 and method != "head"
        return Answer(status, headers, await asyncio.wait_for(reader.read(), 20) if refused else b"")
    finally:
        writer.close()


def check(endpoint: ContractEndpoint, sent: object, answer: Answer) -> None:
    """It was no accident: a declared status, and if a refusal, one in the one shape."""
    asked = f"{endpoint.method} {endpoint.path} with {str(sent)[:100]!r}"
    assert "x-planted" not in answer.headers, asked
    assert answer.status < 500, f"{asked}: {answer}"
    if answer.status < 400:
        return
    assert answer.headers["content-type"] == "application/problem+json", f"{asked}: {answer}"
    if not answer.body:
        return
    problem = json.loads(answer.body)
    assert problem["status"] == answer.status, asked
    assert problem["detail"], asked
    assert len(answer.body) < 3000, f"{asked} is repeated at length: {answer.body[:300]!r}"
    declared = {(endpoint.handler.status_of(kind), kind.uri) for kind in endpoint.operation.problems}
    elsewhere = {(404, "/problems/not-found"), (405, "/problems/method-not-allowed")}  # the path leads to no operation
    assert (answer.status, problem["type"]) in declared | elsewhere, f"{asked}: {problem}"


def filled(path: str, part: str = "x") -> str:
    return re.sub(r"{\w+}", lambda _: part, path)


def ids(endpoints: list[ContractEndpoint]) -> Iterator[object]:
    return (pytest.param(endpoint, id=endpoint.name) for endpoint in endpoints)


@pytest.fixture
def untouched(server: App) -> Iterator[None]:
    """Nothing appears outside the folders of the server."""
    folder = Path(server.settings.files_dir).parent
    before = set(folder.iterdir()) | {folder / "data"}
    yield
    assert set(folder.iterdir()) <= before


@pytest.mark.slow
@pytest.mark.usefixtures("untouched")
class TestEveryOperation:
    @pytest.mark.parametrize("endpoint", ids([one for one in ENDPOINTS if "{" in one.path]))
    async def test_refuses_paths_that_cannot_be(self, server: App, endpoint: ContractEndpoint) -> None:
        for part in PARTS:
            check(endpoint, part, await send(server.port, endpoint.method, filled(endpoint.path, part)))

    @pytest.mark.parametrize("endpoint", ids(ENDPOINTS))
    async def test_refuses_queries_that_cannot_be(self, server: App, endpoint: ContractEndpoint) -> None:
        for query in QUERIES:
            check(endpoint, query, await send(server.port, endpoint.method, f"{filled(endpoint.path)}?{query}"))

    @pytest.mark.parametrize("endpoint", ids([one for one in ENDPOINTS if one.operation.body]))
    async def test_refuses_bodies_that_cannot_be(self, server: App, endpoint: ContractEndpoint) -> None:
        for body in BODIES:
            target = filled(endpoint.path) + ("?file_name=x" if endpoint.name == "seed_upload" else "")
            check(endpoint, body, await send(server.port, endpoint.method, target, body=body))

    @pytest.mark.parametrize("endpoint", ids(ENDPOINTS))
    async def test_refuses_headers_that_cannot_be(self, server: App, endpoint: ContractEndpoint) -> None:
        for header in HEADERS:
            check(endpoint, header, await send(server.port, endpoint.method, filled(endpoint.path), header))


async def test_a_file_that_reads_like_a_refusal_is_sent_as_it_is(server: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tornado_app.server.sendfile.plain_stream", lambda connection: None
    )  # in pieces, not by sendfile
    content = b"x" * (1 << 20) + b"HTTP/1.1 400 Bad Request\r\n\r\n"
    (Path(server.settings.files_dir) / "a").write_bytes(content)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /v1/files/a HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")[2] == content
    writer.close()


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Length: many", b""),
        ("Content-Length: 3\r\nContent-Length: 4", b""),
        ("Transfer-Encoding: chunked", b"xyz\r\n"),
        ("Transfer-Encoding: nonsense", b""),
        ("No colon", b""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("path", ["/a/process/resume/", "/nowhere"])
async def test_what_is_not_http_is_refused_in_the_same_shape(server: App, path: str, header: str, body: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode() + body)
    head, _, told = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nContent-Type: application/problem+json" in head
    assert b"\r\nX-Content-Type-Options: nosniff" in head
    assert f"\r\nContent-Length: {len(told)}".encode() in head
    problem = json.loads(told)
    assert (problem["status"], problem["type"]) == (400, "/problems/bad-request")
    assert f"{MAX_BODY} bytes" in problem["detail"]
