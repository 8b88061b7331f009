"""Want-Repr-Digest: whoever asks for a SHA-256 waits for it; whoever does not never waits."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from holdfast.wire import Event
from tests.support.servers import PATIENCE, ServerProcess, wait_until
from tests.support.uploads import until
from tornado_app.app import App
from tornado_app.files.store.local.published import LocalStore
from tornado_app.settings import Settings

pytestmark = pytest.mark.slow  # the digests are made in a process

WANTED = {"Want-Repr-Digest": "sha-256=10"}
DATA = os.urandom(3_000_000)
REPR_DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"
ENDLESS = 1 << 40  # bytes of a file that takes most of an hour to hash
LONG = 8 << 30  # bytes that take long, yet less than a request may wait


@pytest.fixture
def placed(settings: Settings) -> Path:
    """A file whose digest the server does not know."""
    path = settings.files_dir / "a"
    path.write_bytes(DATA)
    return path


def sparse(folder: Path, name: str, size: int) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_answer_waits_for_the_digest(http: httpx.AsyncClient, placed: Path, method: str) -> None:
    before = await http.head("/v1/files/a")
    assert "Repr-Digest" not in before.headers
    told = await http.request(method, "/v1/files/a", headers=WANTED)
    assert (told.status_code, told.headers["Repr-Digest"]) == (200, REPR_DIGEST)
    assert "Retry-After" not in told.headers
    assert told.content == (DATA if method == "GET" else b"")
    after = await http.head("/v1/files/a")
    assert after.headers["Repr-Digest"] == REPR_DIGEST
    assert after.headers["ETag"] == told.headers["ETag"] == before.headers["ETag"]


async def test_a_part_comes_with_the_digest_of_the_whole(http: httpx.AsyncClient, placed: Path) -> None:
    told = await http.get("/v1/files/a", headers={**WANTED, "Range": "bytes=5-9"})
    assert (told.status_code, told.content, told.headers["Repr-Digest"]) == (206, DATA[5:10], REPR_DIGEST)


async def test_a_resumed_download_and_a_replacement_go_on_with_the_etag_from_before_the_digest(
    http: httpx.AsyncClient, placed: Path
) -> None:
    etag = (await http.head("/v1/files/a")).headers["ETag"]
    await http.head("/v1/files/a", headers=WANTED)
    rest = await http.get("/v1/files/a", headers={"Range": "bytes=100-", "If-Range": etag})
    assert (rest.status_code, rest.content) == (206, DATA[100:])
    assert (await http.get("/v1/files/a", headers={"If-None-Match": etag})).status_code == 304
    assert (await http.put("/v1/files/a", content=b"new", headers={"If-Match": etag})).status_code == 200


async def test_an_upload_keeps_its_etag_when_its_digest_arrives(http: httpx.AsyncClient) -> None:
    etag = (await http.put("/v1/files/b", content=DATA)).headers["ETag"]
    assert (await http.head("/v1/files/b", headers=WANTED)).headers["Repr-Digest"] == REPR_DIGEST
    rest = await http.get("/v1/files/b", headers={"Range": "bytes=100-", "If-Range": etag})
    assert (rest.status_code, rest.content, rest.headers["ETag"]) == (206, DATA[100:], etag)
    listed = (await http.get("/v1/files")).json()["items"]
    assert [(file["etag"], file["sha256"]) for file in listed] == [(etag.strip('"'), hashlib.sha256(DATA).hexdigest())]


@pytest.mark.parametrize("headers", [{}, {"Want-Repr-Digest": "sha-256=0"}, {"Want-Repr-Digest": "sha-512=10"}])
async def test_who_does_not_ask_does_not_wait_and_starts_nothing(
    http: httpx.AsyncClient, server: App, settings: Settings, headers: dict[str, str]
) -> None:
    sparse(settings.files_dir, "long", LONG)
    told = await http.head("/v1/files/long", headers=headers)
    assert "Repr-Digest" not in told.headers
    assert "Retry-After" not in told.headers
    assert not server.services.files.sha256.is_asked("long")


async def test_what_is_not_modified_is_said_without_a_wait(
    http: httpx.AsyncClient, server: App, settings: Settings
) -> None:
    sparse(settings.files_dir, "long", LONG)
    etag = (await http.head("/v1/files/long")).headers["ETag"]
    told = await http.get("/v1/files/long", headers={**WANTED, "If-None-Match": etag})
    assert told.status_code == 304
    assert not server.services.files.sha256.is_asked("long")


@pytest.mark.parametrize("preference", [1, 10])
async def test_a_digest_that_takes_too_long_is_begun_and_the_answer_says_when_to_ask_again(
    http: httpx.AsyncClient, server: App, settings: Settings, preference: int
) -> None:
    sparse(settings.files_dir, "endless", ENDLESS)
    told = await http.get(
        "/v1/files/endless", headers={"Want-Repr-Digest": f"sha-256={preference}", "Range": "bytes=0-9"}
    )
    assert (told.status_code, told.content) == (206, bytes(10))
    assert "Repr-Digest" not in told.headers
    assert int(told.headers["Retry-After"]) > 30
    assert server.services.files.sha256.is_asked("endless")


async def test_a_client_that_leaves_is_not_waited_for(http: httpx.AsyncClient, server: App, settings: Settings) -> None:
    sparse(settings.files_dir, "long", LONG)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"HEAD /v1/files/long HTTP/1.1\r\nHost: localhost\r\nWant-Repr-Digest: sha-256=10\r\n\r\n")

    async def is_asked() -> bool:
        return server.services.files.sha256.is_asked("long")

    async def is_left() -> bool:
        return not server.services.files.sha256.is_asked("long")

    await until(is_asked)
    writer.close()
    await until(is_left)
    assert "Repr-Digest" not in (await http.head("/v1/files/long")).headers


async def test_two_who_wait_are_told_by_one_event(http: httpx.AsyncClient, server: App, placed: Path) -> None:
    events: list[Event] = []
    server.services.files.on_event = events.append
    answers = await asyncio.gather(*(http.get("/v1/files/a", headers=WANTED) for _ in range(2)))
    assert [answer.headers["Repr-Digest"] for answer in answers] == [REPR_DIGEST] * 2
    [event] = events
    assert (event.type, event.id) == ("file", "a")
    etag = answers[0].headers["ETag"].strip('"')
    assert event.data == {"what": "digest", "sha256": hashlib.sha256(DATA).hexdigest(), "etag": etag}


async def test_a_file_that_goes_away_meanwhile_is_not_found(
    http: httpx.AsyncClient, server: App, settings: Settings
) -> None:
    sparse(settings.files_dir, "long", LONG)
    waiting = asyncio.ensure_future(http.head("/v1/files/long", headers=WANTED))

    async def is_asked() -> bool:
        return server.services.files.sha256.is_asked("long")

    await until(is_asked)
    assert (await http.delete("/v1/files/long")).status_code == 204
    assert (await waiting).status_code == 404


class TestWithoutDigests:
    """`--no-digest-uploads`: none is made, and nobody waits for one."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, digest_uploads=False)

    async def test_the_answer_comes_without(self, http: httpx.AsyncClient, settings: Settings, placed: Path) -> None:
        await http.put("/v1/files/b", content=DATA)
        for name in "ab":
            told = await http.head(f"/v1/files/{name}", headers=WANTED)
            assert "Repr-Digest" not in told.headers
            assert "Retry-After" not in told.headers
        assert not (settings.files_dir / ".holdfast" / "sha256-pending").exists()

    async def test_one_that_the_sender_gave_is_kept(self, http: httpx.AsyncClient) -> None:
        put = await http.put("/v1/files/b", content=DATA, headers={"Repr-Digest": REPR_DIGEST})
        assert put.status_code == 201


class TestInMemory:
    """A store without descriptors."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, store="memory")

    async def test_the_digest_is_there_for_who_asks(self, http: httpx.AsyncClient) -> None:
        await http.put("/v1/files/a", content=DATA)
        told = await http.head("/v1/files/a", headers=WANTED)
        assert told.headers["Repr-Digest"] == REPR_DIGEST


def child_of(server: ServerProcess) -> int:
    """Return the process id of the one child of a server; 0 if there is none."""
    found = [text for each in Path(f"/proc/{server.pid}/task").glob("*/children") for text in each.read_text().split()]
    return int(found[0]) if found else 0


@pytest.mark.parametrize("end", [ServerProcess.stop, ServerProcess.kill], ids=["SIGTERM", "SIGKILL"])
def test_the_end_of_a_server_in_the_middle_of_a_file_is_prompt_and_leaves_no_process(
    spawn_server: Callable[..., ServerProcess], end: Callable[[ServerProcess], object]
) -> None:
    server = spawn_server("--reserve-space", "0")
    sparse(server.files_dir, "endless", ENDLESS)  # it would take far longer than a test waits
    told = httpx.head(f"{server.url}/v1/files/endless", headers=WANTED, timeout=PATIENCE)
    assert "Retry-After" in told.headers
    child = wait_until(lambda: child_of(server))
    end(server)
    wait_until(lambda: not Path(f"/proc/{child}").exists(), what="the end of the child")


def test_a_request_that_waits_does_not_hold_up_the_end_of_a_server(
    spawn_server: Callable[..., ServerProcess],
) -> None:
    server = spawn_server("--reserve-space", "0", "--shutdown-grace", "3600")
    sparse(server.files_dir, "long", LONG)

    async def main() -> None:
        async with httpx.AsyncClient(timeout=PATIENCE) as http:
            waiting = asyncio.ensure_future(http.head(f"{server.url}/v1/files/long", headers=WANTED))
            while not child_of(server):
                await asyncio.sleep(0.01)
            await asyncio.to_thread(server.stop)
            assert "Repr-Digest" not in (await waiting).headers

    asyncio.run(main())


def test_a_digest_comes_by_itself_once_transfers_are_quiet(
    spawn_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "files", marks_digests=True)
    staged = store.create("one", b"")
    staged.write([DATA])
    etag = staged.publish("a").etag
    staged.discard()
    store.close()
    server = spawn_server("--reserve-space", "0")

    def head() -> httpx.Headers:
        return httpx.head(f"{server.url}/v1/files/a", timeout=PATIENCE).headers

    wait_until(lambda: "Repr-Digest" in head())
    assert (head()["Repr-Digest"], head()["ETag"]) == (REPR_DIGEST, f'"{etag}"')
    found = httpx.get(f"{server.url}/metrics", timeout=PATIENCE).text
    assert "holdfast_sha256_pending 0.0" in found
    assert "holdfast_sha256_files_total 1.0" in found
