"""A service of a real JupyterHub, behind its own proxy: two users, logins, big files, scopes."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.support.jupyterhub import Hub, HubService, memory_of
from tests.support.servers import PATIENCE, ServerProcess, wait_until
from tornado_app.identity.principal import READ, RUN_CODE, WRITE

pytestmark = pytest.mark.slow

MIB = 1 << 20
BIG = 512 * MIB
GROWTH = 64 * MIB
PAGE = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
TUS = {"Tus-Resumable": "1.0.0"}
APPEND = {**TUS, "Content-Type": "application/offset+octet-stream"}
SCOPES = {
    READ: {"description": "Read files"},
    WRITE: {"description": "Upload", "subscopes": [READ]},
    RUN_CODE: {"description": "Run code", "subscopes": [WRITE]},
}
Client = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """A hub, not started yet, with the service `holdfast`, and the group `guests`, which may only read."""
    service = HubService("holdfast", client_scopes=[*SCOPES])
    roles = [{"name": "guests", "groups": ["guests"], "scopes": ["access:services!service=holdfast", READ]}]
    return Hub(tmp_path_factory.mktemp("hub"), [service], roles=roles, scopes=SCOPES)


@pytest.fixture(scope="module")
def service(planned: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The service's server, which keeps users apart. The hub, at its start, would wait half a minute for it."""
    found = planned.services["holdfast"]
    flags = ["--auth", "jupyterhub", "--per-user", "--trust-proxy", "--base-url", found.base_url]
    flags += ["--port", str(found.port), "--allow-host", "127.0.0.1", "--allow-code", "--no-digest-uploads"]
    server = ServerProcess(tmp_path_factory.mktemp("service"), flags, planned.environment_of(found), traced=False)
    server.start()
    yield server
    server.end()


@pytest.fixture(scope="module")
def hub(planned: Hub, service: ServerProcess) -> Iterator[Hub]:
    """The hub, once its service is there."""
    with planned:
        yield planned


@pytest.fixture
def as_user(hub: Hub, service: ServerProcess) -> Iterator[Client]:
    """Makes clients of the service with a token of a user, by way of the hub's proxy."""
    with contextlib.ExitStack() as stack:

        def client(name: str, **arguments: object) -> httpx.Client:
            token = hub.token_of(name, **arguments)  # type: ignore[arg-type]
            headers = {"Authorization": f"token {token}"}
            url = f"{hub.url}/services/holdfast"
            return stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=PATIENCE))

        yield client


def test_two_users_do_not_see_each_others(as_user: Client, hub: Hub) -> None:
    ada, bob = as_user("ada@example.org"), as_user("bob")
    put = ada.put("/v1/files/private.txt", content=b"of ada")
    assert (put.status_code, put.headers["Location"]) == (201, "/services/holdfast/v1/files/private.txt")
    assert bob.get("/v1/files/private.txt").status_code == 404
    assert bob.get("/v1/files").json()["items"] == []
    assert ada.get("/v1/files/private.txt").content == b"of ada"
    started = ada.post("/v1/processes?wait=60", json={"id": "sums", "work_type": "manifest"})
    assert started.json()["state"] == "succeeded"
    assert bob.get("/v1/processes/sums").status_code == 404
    assert bob.get("/v1/processes").json()["items"] == []
    with httpx.Client(base_url=f"{hub.url}/services/holdfast") as anybody:
        assert anybody.get("/v1/files").status_code == 401
        assert anybody.get("/v1/files", headers={"Authorization": "Bearer guessed"}).status_code == 401
        link = ada.post("/v1/links", json={"name": "private.txt", "seconds": 60}).json()["url"]
        assert httpx.get(hub.url + link).content == b"of ada"


def test_a_browser_logs_in_once(hub: Hub, service: ServerProcess) -> None:
    with contextlib.closing(hub.login("carol")) as browser:
        opened = browser.get("/services/holdfast/v1/files", headers=PAGE)
        assert (opened.status_code, str(opened.url)) == (200, f"{hub.url}/services/holdfast/v1/files")
        assert opened.json()["items"] == []
        assert any("/oauth2/authorize" in str(step.url) for step in opened.history)
        (cookie,) = [one for one in browser.cookies.jar if one.name == "service-holdfast"]
        assert (cookie.path, cookie.has_nonstandard_attr("HttpOnly")) == ("/services/holdfast/", True)
        again = browser.get("/services/holdfast/v1/files", headers=PAGE)
        assert (again.status_code, again.history) == (200, [])
        own = {"Origin": hub.url, "Sec-Fetch-Site": "same-origin"}
        where = "/services/holdfast/v1/files/mine.txt"
        assert browser.put(where, content=b"x").status_code == 403, "a change says which page sent it"
        assert browser.put(where, content=b"x", headers={"Origin": "https://evil.example"}).status_code == 403
        assert browser.put(where, content=b"x", headers=own).status_code == 201
        page = browser.get("/services/holdfast/", headers=PAGE)
        assert "Holdfast" in page.text


def test_a_login_has_the_scopes_of_its_user(hub: Hub, service: ServerProcess, as_user: Client) -> None:
    for name in ("gus", "wil"):
        hub.add_user(name)
    hub.api("POST", "/groups/guests/users", json={"users": ["gus"]})
    own = {"Origin": hub.url, "Sec-Fetch-Site": "same-origin"}
    with contextlib.closing(hub.login("gus")) as guest:
        assert guest.get("/services/holdfast/v1/files", headers=PAGE).status_code == 200
        refused = guest.put("/services/holdfast/v1/files/x", content=b"x", headers=own)
        assert (refused.status_code, refused.json()["scope"]) == (403, WRITE)
    with contextlib.closing(hub.login("wil")) as full:
        full.get("/services/holdfast/v1/files", headers=PAGE)
        assert full.put("/services/holdfast/v1/files/x", content=b"x", headers=own).status_code == 201
    narrow = as_user("gus", scopes=["access:services!service=holdfast", READ])
    assert narrow.get("/v1/files").status_code == 200
    assert narrow.post("/v1/processes", json={"work_type": "manifest"}).status_code == 403
    elsewhere = as_user("wil", scopes=["read:users!user=wil"])
    assert elsewhere.get("/v1/files").status_code == 403
    code = as_user("wil").post("/v1/processes", json={"work_type": "notebook", "params": {"file_name": "x.ipynb"}})
    assert (code.status_code, code.json()["scope"]) == (403, RUN_CODE), "with users kept apart it is given by name"


def test_a_cut_upload_goes_on_through_the_hubs_proxy(as_user: Client, hub: Hub) -> None:
    ada = as_user("ada")
    content = random.Random(13).randbytes(24 * MIB)
    sent = 16 * MIB
    created = ada.post(
        "/v1/uploads", headers={**TUS, "Upload-Length": str(len(content)), "Upload-Metadata": "filename YmlnLmJpbg=="}
    )
    where = created.headers["Location"]
    assert where.startswith("/services/holdfast/v1/uploads/")
    head = f"PATCH {where} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\nUpload-Offset: 0\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in APPEND.items())
    head += f"Authorization: {ada.headers['Authorization']}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", hub.port)) as connection:
        connection.sendall(head.encode() + content[:sent])

    def offset() -> int:
        answer = httpx.head(hub.url + where, headers={**TUS, "Authorization": ada.headers["Authorization"]})
        assert answer.status_code == 200, answer
        return int(answer.headers["Upload-Offset"])

    kept = wait_until(lambda: (found := offset()) >= sent - MIB and found, what="what came is kept")
    rest = {**APPEND, "Upload-Offset": str(kept), "Authorization": ada.headers["Authorization"]}
    answer = httpx.patch(hub.url + where, headers=rest, content=content[kept:], timeout=PATIENCE)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(len(content)))
    got = ada.get("/v1/files/big.bin").content
    assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()


def test_half_a_gigabyte_up_and_down_costs_no_hop_memory(as_user: Client, hub: Hub, service: ServerProcess) -> None:
    ada = as_user("ada")
    ada.put("/v1/files/warm.bin", content=bytes(4 * MIB))
    hops = {"hub": hub.pid, "proxy": hub.proxy_pid, "server": service.pid}
    before = {name: memory_of(pid) for name, pid in hops.items()}
    peak = dict(before)

    def look() -> None:
        for name, pid in hops.items():
            peak[name] = max(peak[name], memory_of(pid))

    piece = random.Random(5).randbytes(MIB)
    sent, got = hashlib.sha256(), hashlib.sha256()

    def body() -> Iterator[bytes]:
        for index in range(BIG // MIB):
            if index % 16 == 0:
                look()
            sent.update(piece)
            yield piece

    answer = ada.put("/v1/files/half.bin", content=body(), headers={"Content-Length": str(BIG)})
    assert (answer.status_code, answer.json()["size"]) == (201, BIG)
    with ada.stream("GET", "/v1/files/half.bin") as stream:
        for index, part in enumerate(stream.iter_bytes(MIB)):
            if index % 16 == 0:
                look()
            got.update(part)
    assert got.digest() == sent.digest()
    grown = {name: peak[name] - before[name] for name in hops}
    assert all(more <= GROWTH for more in grown.values()), {
        name: f"{more / MIB:.0f} MiB" for name, more in grown.items()
    }
    etag = ada.head("/v1/files/half.bin").headers["ETag"]
    part = ada.get("/v1/files/half.bin", headers={"Range": "bytes=1000-1009"})
    assert (part.status_code, part.content) == (206, piece[1000:1010])
    assert ada.get("/v1/files/half.bin", headers={"If-None-Match": etag}).status_code == 304
    assert ada.delete("/v1/files/half.bin").status_code == 204


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
def test_events_come_at_once(accept: str, as_user: Client) -> None:
    ada = as_user("ada")
    with ada.stream("GET", "/v1/events", headers={"Accept": accept}) as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": watching"
        began = time.monotonic()
        ada.put(f"/v1/files/event-{accept[0]}.txt", content=b"x")
        assert any("published" in line for line in lines)
        assert time.monotonic() - began < PATIENCE
