"""Every route, with two users: what is one's is to the other exactly as if it were not there.

`CASES` has a line for each line of the route table; a route without one fails.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from holdfast import digests
from tests.support.hub_api import HubApi
from tornado_app.app import App
from tornado_app.routes import routes
from tornado_app.settings import Settings

SECRET = b"known to alice alone. " * 4000
TUS = {"Tus-Resumable": "1.0.0"}
DRAFT = {"Upload-Draft-Interop-Version": "8"}
APPEND = {**TUS, "Content-Type": "application/offset+octet-stream"}
Clients = Callable[[str], httpx.AsyncClient]


@dataclass
class Ask:
    """A request; `{x}` in its path and content is alice's thing of that kind, or one that nobody has."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    content: str = ""
    query: dict[str, str] = field(default_factory=dict)


@dataclass
class Same:
    """The other gets the same answer as about what nobody has."""

    asks: tuple[Ask, ...]


@dataclass
class Hidden:
    """Lists and streams: nothing of alice's is in the answer."""

    asks: tuple[Ask, ...]


@dataclass
class Shared:
    """The same for everybody: the reason why it holds nothing of a user."""

    why: str


Case = Same | Hidden | Shared


def same(*asks: Ask) -> Same:
    return Same(asks)


def hidden(*asks: Ask) -> Hidden:
    return Hidden(asks)


BLOCKS = base64.b64encode(digests.of_block(SECRET[: digests.BLOCK])).decode() if digests.AVAILABLE else ""
JSON = {"Content-Type": "application/json"}
VERBS = ("pause", "resume", "cancel", "kill")

CASES: dict[str, Case] = {
    "FilesHandler": hidden(
        Ask("GET", "/v1/files"), Ask("GET", "/v1/files?delimiter=/"), Ask("GET", "/v1/files?prefix=f")
    ),
    "FilePutHandler": same(
        Ask("PUT", "/v1/files/{file}", {"If-Match": "*"}, "mine"), Ask("PUT", "/v1/files/{file}", content="of bob")
    ),
    "FileHandler": same(
        Ask("GET", "/v1/files/{file2}"),
        Ask("HEAD", "/v1/files/{file2}"),
        Ask("DELETE", "/v1/files/{file2}"),
        Ask("GET", "/v1/files/../alice/{file2}"),
        Ask("GET", "/v1/files/%2e%2e/alice/{file2}"),
        Ask("GET", "/v1/files/alice/{file2}"),
        Ask("GET", "/v1/files/{file2}", {"Want-Repr-Digest": "sha-256=9"}),
    ),
    "ArchivePutHandler": same(Ask("PUT", "/v1/archives/{folder}", content="no tar at all")),
    "ArchiveHandler": same(
        Ask("GET", "/v1/archives/{folder}.zip"),
        Ask("HEAD", "/v1/archives/{folder}.tar"),
        Ask("GET", "/v1/archives/.zip"),
    ),
    "LinksHandler": same(Ask("POST", "/v1/links", JSON, '{"name": "{file2}", "seconds": 60}')),
    "UploadsHandler": hidden(Ask("GET", "/v1/uploads")),
    "UploadHandler": same(
        Ask("HEAD", "/v1/uploads/{tus}", TUS),
        Ask("PATCH", "/v1/uploads/{tus}", {**APPEND, "Upload-Offset": "4"}, "more"),
        Ask("GET", "/v1/uploads/{tus}"),
        Ask("DELETE", "/v1/uploads/{tus}", TUS),
        Ask("HEAD", "/v1/uploads/{draft}", DRAFT),
        Ask(
            "PATCH",
            "/v1/uploads/{draft}",
            {**DRAFT, "Content-Type": "application/partial-upload", "Upload-Offset": "0", "Upload-Complete": "?1"},
            "all",
        ),
        Ask("DELETE", "/v1/uploads/{draft}", DRAFT),
        Ask("GET", "/v1/uploads/{seed_id}"),
    ),
    "UploadDigestsHandler": same(Ask("GET", "/v1/uploads/{tus}/digests")),
    "UploadBlocksHandler": same(Ask("PUT", "/v1/uploads/{tus}/blocks/0", content="bob!")),
    "BlockUploadsHandler": same(
        Ask(
            "POST",
            "/v1/block-uploads",
            JSON,
            json.dumps({"name": "copy.bin", "size": len(SECRET), "blocks": "{blocks}"}),
        ),
        Ask("POST", "/v1/block-uploads", JSON, '{"name": "{file2}", "size": 9, "base": "{etag}"}'),
    ),
    "BlockUploadHandler": same(Ask("GET", "/v1/block-uploads/{block}"), Ask("DELETE", "/v1/block-uploads/{block}")),
    "BlockDigestsHandler": same(Ask("GET", "/v1/block-uploads/{block}/digests")),
    "BlocksHandler": same(Ask("PUT", "/v1/block-uploads/{block}/blocks/0", content="x" * 9)),
    "BlockUploadEndHandler": same(Ask("POST", "/v1/block-uploads/{block}/end", JSON, '{"digest": "' + "0" * 64 + '"}')),
    "FileDigestsHandler": same(Ask("GET", "/v1/digests/{file2}")),
    "KnownContentHandler": same(Ask("GET", "/v1/known-content?size={size}&first={first}")),
    "SeedProcessHandler": same(Ask("POST", "/{job2}/process/?work_type=never")),
    "SeedVerbHandler": same(Ask("POST", "/{job}/process/pause/"), Ask("POST", "/{job}/process/cancel/")),
    "SeedResumeHandler": same(
        Ask("POST", "/{job}/process/resume/"), Ask("POST", "/{job}/process/resume/", JSON, '{"work_types": ["never"]}')
    ),
    "SeedDownloadHandler": same(Ask("GET", "/download/?file_name={file2}")),
    "SeedUploadHandler": same(
        Ask("GET", "/upload/?file_name={seed}"),
        Ask("GET", "/upload/?file_name={file2}"),
        Ask("POST", "/upload/?file_name={seed}&bytes_read=4", content="more"),
    ),
    "SeedUploadCancelHandler": same(Ask("POST", "/upload/cancel/?file_name={seed}")),
    "HealthHandler": Shared("whether the server works"),
    "LiveHandler": Shared("whether the server answers"),
    "ReadyHandler": Shared("whether the server works"),
    "MetricsHandler": hidden(Ask("GET", "/metrics")),
    "WorkTypesHandler": Shared("what this server can run"),
    "ProcessesHandler": hidden(
        Ask("GET", "/v1/processes"),
        Ask("GET", "/v1/processes?state=queued"),
        Ask("GET", "/v1/processes?work_type=never"),
        Ask("GET", "/v1/processes?label=of%3Dalice"),
    ),
    "BulkHandler": same(
        *(Ask("POST", f"/v1/processes/{verb}", JSON, '{"ids": ["{job}"]}') for verb in VERBS),
        *(Ask("POST", f"/v1/processes/{verb}", JSON, '{"ids": ["alice/{job}"]}') for verb in VERBS),
        *(
            Ask("POST", f"/v1/processes/{verb}", JSON, '{"work_type": "never", "label": {"of": "alice"}}')
            for verb in VERBS
        ),
    ),
    "ProcessHandler": same(
        Ask("GET", "/v1/processes/{job}"),
        Ask("GET", "/v1/processes/{job}?wait=0.1"),
        Ask("DELETE", "/v1/processes/{ended}"),
        Ask("GET", "/v1/processes/alice%2F{job}"),
    ),
    "VerbHandler": same(*(Ask("POST", f"/v1/processes/{{job}}/{verb}") for verb in VERBS)),
    "LogHandler": same(Ask("GET", "/v1/processes/{ended}/log"), Ask("GET", "/v1/processes/{job}/log?last=5")),
    "ProcessEventsHandler": same(Ask("GET", "/v1/processes/{job}/events")),
    "EventsHandler": hidden(Ask("GET", "/v1/events?after=0"), Ask("GET", "/v1/events?after=0&work_type=never")),
    "IdentityHandler": Shared("the proof of the server's own identity"),
    "IndexHandler": Shared("links"),
    "OpenApiHandler": Shared("the contract"),
    "DocsHandler": Shared("the contract"),
    "ViewerHandler": Shared("a script"),
    "ProblemHandler": Shared("the contract"),
    "OAuthCallbackHandler": Shared("the end of a login, of whoever has begun it"),
}


@dataclass
class Things:
    """Return the things of alice, by the names in `Ask`, and the like that nobody has."""

    hers: dict[str, str]
    nobodys: dict[str, str]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, import_=("tests.support.work",))


@pytest.fixture
def alice(hub: HubApi, as_user: Clients) -> httpx.AsyncClient:
    return as_user(hub.add("alice"))


@pytest.fixture
def bob(hub: HubApi, as_user: Clients) -> httpx.AsyncClient:
    return as_user(hub.add("bob"))


@pytest.fixture
async def things(alice: httpx.AsyncClient) -> Things:
    """Make what alice has."""

    async def put(name: str) -> httpx.Response:
        return (await alice.put(f"/v1/files/{name}", content=SECRET)).raise_for_status()

    etag = (await put("flights.csv")).headers["ETag"]
    await put("folder-of-alice/within.csv")
    await put("others.csv")
    tus = await alice.post("/v1/uploads", headers={**APPEND, "Upload-Length": "99"}, content=b"tus!")
    draft = await alice.post("/v1/uploads", headers={**DRAFT, "Upload-Complete": "?0"}, content=b"")
    seed = await alice.post("/upload/?file_name=seed-of-alice.txt&bytes_read=0&file_size=99", content=b"seed")
    block = await alice.post("/v1/block-uploads", json={"name": "blocks-of-alice.bin", "size": 3 << 20})
    seeds = [item["id"] for item in (await alice.get("/v1/uploads")).json()["items"] if item["id"].startswith("seed-")]
    for id, work_type in (("job-of-alice", "never"), ("job2-of-alice", "never"), ("ended-of-alice", "empty")):
        body = {"id": id, "work_type": work_type, "labels": {"of": "alice"}}
        (
            await alice.post("/v1/processes?wait=60", json=body)
            if work_type == "empty"
            else await alice.post("/v1/processes", json=body)
        ).raise_for_status()
    for answer in (tus, draft, seed, block):
        answer.raise_for_status()
    hers = {
        "file": "flights.csv", "file2": "others.csv", "folder": "folder-of-alice", "seed": "seed-of-alice.txt",
        "tus": tus.headers["Location"].rpartition("/")[2], "draft": draft.headers["Location"].rpartition("/")[2],
        "block": block.headers["Location"].rpartition("/")[2], "seed_id": seeds[0],
        "job": "job-of-alice", "job2": "job2-of-alice", "ended": "ended-of-alice", "etag": etag.strip('"'),
        "blocks": BLOCKS, "size": str(len(SECRET)), "first": digests.of_block(SECRET[: digests.BLOCK]).hex(),
    }  # fmt: skip
    nobodys = {name: _other(value) for name, value in hers.items()}
    nobodys["blocks"] = base64.b64encode(bytes(reversed(base64.b64decode(BLOCKS)))).decode()
    return Things(hers, nobodys)


def _other(text: str) -> str:
    """A text of the same kind that nobody has: each letter or digit but the last one before a dot is another."""
    head, dot, tail = text.partition(".")
    swapped = (
        head[:-1] + ("0" if head[-1] != "0" else "1") if head[-1].isdigit() or head[-1] in "abcdef" else head[:-1] + "q"
    )
    return swapped + dot + tail


async def ask(client: httpx.AsyncClient, what: Ask, names: dict[str, str]) -> tuple[int, str]:
    """Status and body of an answer, without what differs by the name that was asked for. Streams: their beginning."""

    def filled(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], found[0]), text)

    request = client.build_request(
        what.method, filled(what.path), headers=what.headers, content=filled(what.content).encode() or None
    )
    answer = await client.send(request, stream=True)
    try:
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            body = ""
            try:
                async with asyncio.timeout(0.5):
                    async for text in answer.aiter_text():
                        body += text
            except TimeoutError:
                pass
        else:
            body = (await answer.aread()).decode(errors="replace")
    finally:
        await answer.aclose()
    location = answer.headers.get("Location", "")
    return answer.status_code, _plain(f"{location}\n{body}", names)


def _plain(text: str, names: dict[str, str]) -> str:
    for value in sorted(names.values(), key=len, reverse=True):
        if not value.isdigit():
            text = text.replace(value, "X")
    # What is random or a time is no answer about alice.
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r'"(etag|nonce|id|proof|sha256|block_digest)": ?"[^"]*"', r'"\1":"R"', text)
    text = re.sub(r"(block-uploads|uploads)/[0-9a-f]{32}", r"\1/R", text)
    return re.sub(r"(signature|expires|version|seq|id)(=|\":|: ?)\"?[0-9a-f]+", r"\1", text)


def table() -> list[str]:
    return [handler.__name__ for _, handler, _ in routes(None, has_logins=True)]  # type: ignore[arg-type]


def test_every_route_has_a_line() -> None:
    assert set(table()) == CASES.keys(), "a route without a line in CASES, or a line without its route"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case, Same)])
async def test_what_is_anothers_is_as_if_it_were_not_there(
    name: str, alice: httpx.AsyncClient, bob: httpx.AsyncClient, things: Things
) -> None:
    case = CASES[name]
    assert isinstance(case, Same)
    before = await _state(alice, things)
    for what in case.asks:
        hers = await ask(bob, what, things.hers)
        nobodys = await ask(bob, what, things.nobodys)
        assert hers == nobodys, what
    assert await _state(alice, things) == before, "nothing of hers has changed"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case, Hidden)])
async def test_no_list_and_no_stream_shows_what_is_anothers(
    name: str, alice: httpx.AsyncClient, bob: httpx.AsyncClient, things: Things
) -> None:
    case = CASES[name]
    assert isinstance(case, Hidden)
    for what in case.asks:
        _, body = await ask(bob, what, {})
        for value in (*things.hers.values(), "alice", "bob/"):
            assert len(value) < 4 or value not in body, (what, value)


@pytest.mark.slow
async def test_one_user_sees_all_of_ones_own(alice: httpx.AsyncClient, things: Things) -> None:
    files = (await alice.get("/v1/files")).json()["items"]
    assert {item["name"] for item in files} == {"flights.csv", "folder-of-alice/within.csv", "others.csv"}
    uploads = {item["id"] for item in (await alice.get("/v1/uploads")).json()["items"]}
    assert {things.hers[kind] for kind in ("tus", "draft", "block", "seed_id")} <= uploads
    processes = {item["id"] for item in (await alice.get("/v1/processes")).json()["items"]}
    assert processes == {"job-of-alice", "job2-of-alice", "ended-of-alice"}
    _, events = await ask(alice, Ask("GET", "/v1/events?after=0"), {"job": "job2-of-alice"})
    assert '"state":"succeeded"' in events
    assert "alice/" not in events


async def _state(alice: httpx.AsyncClient, things: Things) -> list[Any]:
    """All that alice sees of what she has, without times."""
    found: list[Any] = []
    for path in ("/v1/files", "/v1/uploads", "/v1/processes"):
        found += [{**item, "expires": None} for item in (await alice.get(path)).json()["items"]]  # it is about a time
    for name in ("flights.csv", "others.csv", "folder-of-alice/within.csv"):
        found.append((await alice.get(f"/v1/files/{name}")).content)
    return found


@pytest.mark.slow
async def test_a_link_leads_to_the_file_of_whoever_has_signed_it(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, things: Things, base_url: str
) -> None:
    async def sign(client: httpx.AsyncClient) -> str:
        return str((await client.post("/v1/links", json={"name": "others.csv", "seconds": 60})).json()["url"])

    hers, his = await sign(alice), await sign(bob)
    async with httpx.AsyncClient(base_url=base_url) as anybody:
        assert (await anybody.get(hers)).content == SECRET
        assert (await anybody.get(his)).status_code == 404
        assert (await anybody.get(his.replace("user=bob", "user=alice"))).status_code == 401
        assert (await anybody.get(hers.replace("user=alice", "user=bob"))).status_code == 401
        assert (await anybody.get(re.sub("&?user=alice", "", hers))).status_code == 401
        for user in ("nobody-at-all", "%25", "..", "alice/../alice"):
            assert (await anybody.get(hers.replace("user=alice", f"user={user}"))).status_code == 401
        assert (await bob.delete("/v1/links")).status_code == 204
        assert (await anybody.get(hers)).status_code == 200, "another's links are not revoked"
        assert (await alice.delete("/v1/links")).status_code == 204
        assert (await anybody.get(hers)).status_code == 401


@pytest.mark.slow
async def test_an_event_goes_to_whoever_it_is_of(
    server: App, alice: httpx.AsyncClient, bob: httpx.AsyncClient, things: Things
) -> None:
    seen: list[str] = []

    async def watch() -> AsyncIterator[str]:
        async with bob.stream("GET", "/v1/events") as stream:
            async for line in stream.aiter_lines():
                yield line

    async with asyncio.timeout(60):
        async for line in watch():
            seen.append(line)
            if line.startswith(": watching"):
                (await alice.put("/v1/files/new-of-alice", content=b"1")).raise_for_status()
                (await alice.post("/v1/processes/job-of-alice/cancel")).raise_for_status()
                (await bob.put("/v1/files/new-of-bob", content=b"1")).raise_for_status()
            if "published" in line:
                break
    text = "\n".join(seen)
    assert "new-of-bob" in text
    assert "alice" not in text
    assert "bob/" not in text
