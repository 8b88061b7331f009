"""A request is answered in the same way directly and by the handlers; what is out of the ordinary goes to these."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os

import pytest
from prometheus_client import REGISTRY
from tornado.web import RequestHandler

from tests.support.uploads import OCTETS, TUS, metadata
from tornado_app.app import App
from tornado_app.files.store.local.cached_open import CachedOpener
from tornado_app.handlers.direct.delegate import DirectAnswers
from tornado_app.settings import Settings

PATH = "/v1/files/small.bin"
LENGTH = 40


class Handled:
    """Requests that came to a handler."""

    def __init__(self) -> None:
        self.paths: list[str] = []


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Handled:
    seen, initialize = Handled(), RequestHandler.__init__

    def init(self: RequestHandler, *arguments: object, **options: object) -> None:
        initialize(self, *arguments, **options)  # type: ignore[arg-type]
        seen.paths.append(self.request.path)

    monkeypatch.setattr(RequestHandler, "__init__", init)
    return seen


@pytest.fixture
def settings(settings: Settings) -> Settings:
    (settings.files_dir / "small.bin").write_bytes(b"0123456789" * 100)
    (settings.files_dir / "empty").write_bytes(b"")
    (settings.files_dir / "über uns.txt").write_bytes(b"wir")
    (settings.files_dir / "large.bin").write_bytes(bytes(100_000))
    (settings.files_dir / "folder").mkdir()
    (settings.files_dir / "link").symlink_to("small.bin")
    return settings


async def ask(app: App, method: str, path: str, *lines: str, body: bytes = b"", host: str | None = None) -> bytes:
    """Send one request as it is written here, and return the whole response without its Date."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    head = [f"{method} {path} HTTP/1.1", f"Host: {host or f'localhost:{app.port}'}", *lines]
    writer.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
    answer = [line for line in (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n") if not line.startswith(b"Date:")]
    length = next((int(line[15:]) for line in answer if line.lower().startswith(b"content-length:")), 0)
    content = await reader.readexactly(length) if method != "HEAD" and b" 304 " not in answer[0] else b""
    writer.close()
    return b"\r\n".join([answer[0], *sorted(line.lower() for line in answer[1:] if line), content])


async def ask_both(
    app: App, monkeypatch: pytest.MonkeyPatch, method: str, path: str, *lines: str, **more: str
) -> bytes:
    """Return the answer to a request, after the handlers have given the same one."""
    direct = await ask(app, method, path, *lines, **more)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(DirectAnswers, "accept", lambda *arguments: None)
        assert await ask(app, method, path, *lines, **more) == direct  # type: ignore[arg-type]
    return direct


@pytest.fixture
async def warm(server: App) -> App:
    """`server`, after each file was asked for once: what is about it is in memory."""
    for name in ("small.bin", "empty", "large.bin", "%C3%BCber%20uns.txt"):
        await ask(server, "GET", f"/v1/files/{name}")
    return server


DIRECT = [
    ("GET", PATH),
    ("HEAD", PATH),
    ("GET", PATH, "Connection: keep-alive"),
    ("GET", PATH, "Connection: close"),
    ("GET", PATH, "Range: bytes=3-7"),
    ("GET", PATH, "Range: bytes=-5"),
    ("GET", PATH, "If-None-Match: *"),
    ("HEAD", PATH, "If-None-Match: *"),
    ("GET", PATH, "If-Match: *"),
    ("GET", PATH, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"),
    ("GET", "/v1/files/empty"),
    ("HEAD", "/v1/files/large.bin"),
    ("GET", "/v1/files/%C3%BCber%20uns.txt"),
]

FOR_HANDLERS = [
    ("GET", PATH, "Want-Repr-Digest: sha-256=0"),
    ("GET", "/v1/files/none"),
    ("GET", "/v1/files/folder"),
    ("GET", "/v1/files/folder/../small.bin"),
    ("GET", "/v1/files/%2e%2e/small.bin"),
    ("GET", "/v1/files/.holdfast/lock"),
    ("GET", "/v1/files/small.bin%00"),
    ("GET", "/v1/files/%ff"),
    ("GET", "/v1/files/link"),
    ("GET", "/v1/files/"),
    ("GET", PATH + "?expires=1&signature=x"),
    ("GET", PATH, 'If-Match: "other"'),
    ("GET", PATH, "Range: bytes=5000-"),
    ("GET", PATH, "Origin: https://elsewhere.example"),
    ("GET", PATH, "Sec-Fetch-Site: cross-site"),
    ("GET", PATH, "Content-Length: 0"),
    ("POST", PATH, "Content-Length: 0"),
    ("GET", "/v1/processes/none"),
    ("GET", "/v1/uploads/none"),
    ("HEAD", "/v1/uploads/none", "Tus-Resumable: 1.0.0"),
]


@pytest.mark.parametrize("request_", DIRECT, ids=" ".join)
async def test_an_answer_is_that_of_the_handlers(
    warm: App, handled: Handled, monkeypatch: pytest.MonkeyPatch, request_: tuple[str, ...]
) -> None:
    await ask_both(warm, monkeypatch, *request_)
    await ask_both(warm, monkeypatch, *request_)
    assert len(handled.paths) == 2, "each second one is answered directly"


@pytest.mark.parametrize("request_", FOR_HANDLERS, ids=" ".join)
async def test_what_is_out_of_the_ordinary_goes_to_the_handlers(
    warm: App, handled: Handled, monkeypatch: pytest.MonkeyPatch, request_: tuple[str, ...]
) -> None:
    await ask_both(warm, monkeypatch, *request_)
    assert len(handled.paths) == 2


@pytest.mark.parametrize("host", ["elsewhere.example", "user@localhost", "localhost,localhost", "localhost/x", "[::1"])
async def test_a_host_is_admitted_as_the_handlers_do(warm: App, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    answer = await ask_both(warm, monkeypatch, "GET", PATH, host=host)
    assert answer.split()[1] in (b"400", b"421")


class TestToken:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, token="a token for a test")

    async def test_without_it_nothing_is_answered(self, warm: App, monkeypatch: pytest.MonkeyPatch) -> None:
        for given in ((), ("Authorization: Bearer another",)):
            assert (await ask_both(warm, monkeypatch, "GET", PATH, *given)).startswith(b"HTTP/1.1 401 ")

    async def test_with_it_a_file_is_answered_directly(self, server: App, handled: Handled) -> None:
        for _ in range(2):
            answer = await ask(server, "GET", PATH, "Authorization: Bearer a token for a test")
            assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(handled.paths) == 1


async def test_a_file_that_was_replaced_by_hand_is_answered_anew(warm: App, settings: Settings) -> None:
    for content in (b"one", b"three", b"seven77"):
        (settings.files_dir / "new").write_bytes(content)
        os.replace(settings.files_dir / "new", settings.files_dir / "small.bin")
        for _ in range(2):
            assert (await ask(warm, "GET", PATH)).endswith(content)


async def test_without_a_way_to_open_at_once_the_handlers_answer(
    warm: App, handled: Handled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CachedOpener, "open", lambda *arguments: None)
    assert (await ask(warm, "GET", PATH)).startswith(b"HTTP/1.1 200 ")
    assert len(handled.paths) == 1


async def create(app: App, **fields: str) -> str:
    lines = [f"{name}: {value}" for name, value in {**TUS, "Upload-Length": str(LENGTH), **fields}.items()]
    answer = await ask(app, "POST", "/v1/uploads", *lines, "Content-Length: 0")
    return next(line[10:] for line in answer.decode().split("\r\n") if line.startswith("location: "))


def patch(offset: int, size: int, **more: str) -> list[str]:
    fields = {**OCTETS, "Upload-Offset": str(offset), "Content-Length": str(size), **more}
    return [f"{name}: {value}" for name, value in fields.items()]


async def test_pieces_that_come_with_their_heads_are_appended_directly(
    server: App, settings: Settings, handled: Handled, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await create(server, **metadata(filename="a.txt"))
    handled.paths.clear()
    for number in range(4):
        answer = await ask(server, "PATCH", path, *patch(10 * number, 10), body=b"%d" % number * 10)
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert b"upload-offset: %d" % (10 * number + 10) in answer
        assert b"upload-offset: %d" % (10 * number + 10) in await ask(server, "HEAD", path, "Tus-Resumable: 1.0.0")
    assert handled.paths == []
    await ask_both(server, monkeypatch, "HEAD", path, "Tus-Resumable: 1.0.0")
    assert (settings.files_dir / "a.txt").read_bytes() == b"0" * 10 + b"1" * 10 + b"2" * 10 + b"3" * 10


@pytest.mark.parametrize(
    "lines",
    [
        patch(5, 10),
        patch(0, 50),
        patch(0, 10, **{"Tus-Resumable": "0.2.2"}),
        patch(0, 10, **{"Content-Type": "text/plain"}),
        patch(0, 10, **{"Upload-Checksum": "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA="}),
        patch(0, 10, **{"Upload-Length": "7"}),
        ["Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream", "Content-Length: 0"],
    ],
)
async def test_a_refusal_of_a_piece_is_that_of_the_handlers(
    server: App, handled: Handled, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    path = await create(server)
    handled.paths.clear()
    size = int(next(line for line in lines if line.startswith("Content-Length"))[16:])
    answer = await ask_both(server, monkeypatch, "PATCH", path, *lines, body=bytes(size))
    assert answer.split()[1] in (b"400", b"409", b"412", b"415", b"460")
    assert len(handled.paths) == 1


async def test_a_piece_whose_name_was_taken_meanwhile_is_refused_alike(
    server: App, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await create(server, **metadata(filename="taken"))
    (settings.files_dir / "taken").write_bytes(b"")
    answer = await ask(server, "PATCH", path, *patch(0, LENGTH), body=bytes(LENGTH))
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert b"upload-offset: %d" % LENGTH in answer


async def test_a_body_that_comes_later_goes_to_the_handlers(server: App, handled: Handled) -> None:
    path = await create(server)
    handled.paths.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write("\r\n".join([f"PATCH {path} HTTP/1.1", "Host: localhost", *patch(0, 10), "", ""]).encode())
    while not handled.paths:
        await asyncio.sleep(0.001)
    writer.write(bytes(10))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
    writer.close()


async def test_several_requests_on_one_connection_are_answered_in_order(warm: App) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", warm.port)
    paths = [PATH, "/v1/files/none", PATH, "/v1/files/empty", "/health/live", PATH]
    writer.write("".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths).encode())
    statuses = []
    for _ in paths:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        statuses.append(int(head.split()[1]))
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
    assert statuses == [200, 404, 200, 200, 200, 200]
    writer.close()


async def test_each_answer_is_in_the_access_log_and_in_the_metrics(
    warm: App, caplog: pytest.LogCaptureFixture, handled: Handled
) -> None:
    before = sent()
    with caplog.at_level(logging.INFO, "holdfast.access"):
        await ask(warm, "GET", PATH)
    assert handled.paths == []
    [record] = caplog.records
    assert (record.method, record.path, record.status, record.remote) == ("GET", PATH, 200, "127.0.0.1")  # type: ignore[attr-defined]
    assert sent() - before == 1000


def sent() -> float:
    """Bytes of files that were sent, by the metrics."""
    return REGISTRY.get_sample_value("holdfast_download_bytes_total") or 0.0


class TestProcess:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, import_=("tests.support.work",), shutdown_grace=0.1)

    async def test_one_that_runs_is_shown_alike(
        self, server: App, handled: Handled, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = b'{"id": "p", "work_type": "steps-async", "params": {"to": 9, "every": 3600}}'
        fields = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        assert (await ask(server, "POST", "/v1/processes", *fields, body=body)).startswith(b"HTTP/1.1 201 ")
        handled.paths.clear()
        while b'"running"' not in await ask(server, "GET", "/v1/processes/p"):
            await asyncio.sleep(0.001)
        assert handled.paths == []
        assert b"etag: " in await ask_both(server, monkeypatch, "GET", "/v1/processes/p")
        assert len(handled.paths) == 1
