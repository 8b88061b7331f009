"""Below a base URL, behind a proxy with a prefix, and both: every address that leaves the server leads back to it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx
import pytest

from tests.support.blocks import creation, end, put
from tests.support.servers import PATIENCE
from tests.support.uploads import OCTETS, PARTIAL, TUS, Raw, metadata, shown
from tornado_app.app import App
from tornado_app.settings import Settings

TOKEN = "s3cret"
ORIGIN = "https://lab.example"


@dataclass(frozen=True)
class Place:
    """Paths of a server: its own base URL, and the prefix that a proxy takes away."""

    base_url: str
    forwarded: str

    @property
    def root(self) -> str:
        """Return what an address has to begin with."""
        return self.forwarded + self.base_url[:-1]


PLACES = [Place("/user/jo/holdfast/", ""), Place("/", "/hub/user/jo%40lab/holdfast"), Place("/inner/", "/outer")]


below = pytest.mark.parametrize("place", [PLACES[0], PLACES[2]], indirect=True, ids=["base-url", "both"])


@pytest.fixture(params=PLACES, ids=["base-url", "proxy", "both"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.param
    return found


@pytest.fixture
def settings(settings: Settings, place: Place) -> Settings:
    return dataclasses.replace(settings, base_url=place.base_url, trust_proxy=True, token=TOKEN)


class Proxy(httpx.AsyncBaseTransport):
    """Takes the prefix of each request away, as a proxy does, and says so; answers 404 for other paths itself."""

    def __init__(self, place: Place, port: int) -> None:
        self.place = place
        self.port = port
        self.inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path
        if not path.startswith(self.place.forwarded.encode()):
            return httpx.Response(404, text="no such location at this proxy")
        path = path.removeprefix(self.place.forwarded.encode())
        url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self.port, raw_path=path)
        headers = request.headers.copy()
        headers.update(
            {"Host": f"127.0.0.1:{self.port}", "X-Forwarded-Host": "lab.example", "X-Forwarded-Proto": "https"}
        )
        if self.place.forwarded:
            headers["X-Forwarded-Prefix"] = f"{self.place.forwarded}/"
        inward = httpx.Request(request.method, url, headers=headers, stream=request.stream)
        return await self.inner.handle_async_request(inward)

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.fixture
async def http(server: App, place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """A client outside. Its paths are whole: it takes an address as it is."""
    async with httpx.AsyncClient(
        transport=Proxy(place, server.port), base_url=ORIGIN, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
    ) as client:
        yield client


class TestUploads:
    async def test_tus_goes_on_at_its_location(
        self, http: httpx.AsyncClient, place: Place, settings: Settings, both_ways: str
    ) -> None:
        headers = {**TUS, "Upload-Length": "10", **metadata(filename="a b/ü.bin")}
        created = await http.post(f"{place.root}/v1/uploads", headers=headers)
        location = created.headers["Location"]
        assert location.startswith(f"{place.root}/v1/uploads/")
        patched = await http.patch(location, headers={**OCTETS, "Upload-Offset": "0"}, content=b"01234")
        assert (patched.status_code, patched.headers["Upload-Offset"]) == (204, "5")
        assert (await http.head(location, headers=TUS)).headers["Upload-Offset"] == "5"
        wrong = await http.patch(location, headers={**OCTETS, "Upload-Offset": "9"}, content=b"x")
        assert wrong.json()["type"] == f"{place.root}/problems/offset-mismatch"
        last = await http.patch(location, headers={**OCTETS, "Upload-Offset": "5"}, content=b"56789")
        assert last.status_code == 204
        assert shown(settings.files_dir) == {"a b/ü.bin": b"0123456789"}

    @pytest.mark.parametrize("absolute", [True, False])
    async def test_tus_joins_parts_by_their_urls(
        self, http: httpx.AsyncClient, place: Place, settings: Settings, absolute: bool
    ) -> None:
        url, parts = f"{place.root}/v1/uploads", []
        for content in (b"one", b"two"):
            headers = {**OCTETS, "Upload-Length": "3", "Upload-Concat": "partial"}
            location = (await http.post(url, headers=headers, content=content)).headers["Location"]
            parts.append(urljoin(ORIGIN, location) if absolute else location)
        headers = {**TUS, "Upload-Concat": f"final;{' '.join(parts)}", **metadata(filename="joined")}
        joined = await http.post(url, headers=headers)
        assert joined.status_code == 201, joined.text
        assert joined.headers["Location"].startswith(f"{place.root}/v1/uploads/")
        assert shown(settings.files_dir) == {"joined": b"onetwo"}

    async def test_the_draft_goes_on_at_its_location(
        self, http: httpx.AsyncClient, place: Place, settings: Settings
    ) -> None:
        named = {"Content-Disposition": 'attachment; filename="a"'}
        created = await http.post(f"{place.root}/v1/uploads", headers={"Upload-Complete": "?0", **named}, content=b"01")
        location = created.headers["Location"]
        assert location.startswith(f"{place.root}/v1/uploads/")
        headers = {**PARTIAL, "Upload-Offset": "2", "Upload-Complete": "?1"}
        done = await http.patch(location, headers=headers, content=b"23")
        assert done.status_code in (200, 201), done.text
        assert shown(settings.files_dir) == {"a": b"0123"}

    async def test_the_interim_response_has_the_location(self, server: App, place: Place) -> None:
        raw = Raw(f"http://127.0.0.1:{server.port}")
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "X-Forwarded-Prefix": place.forwarded,
            "Content-Length": 1,
            "Upload-Draft-Interop-Version": "8",
            "Upload-Complete": "?1",
        }
        await raw.send(f"POST {place.base_url}v1/uploads", headers)
        status, interim = await raw.head()
        assert status == 104
        assert interim["Location"].startswith(f"{place.root}/v1/uploads/")
        raw.writer.write(b"x")
        assert (await raw.head())[0] == 201
        raw.close()

    @pytest.mark.parametrize("name", ["plain.txt", "a%20b/%C3%BC%2C.txt"])
    async def test_a_put_a_form_and_a_post_say_where_the_file_is(
        self, http: httpx.AsyncClient, place: Place, name: str
    ) -> None:
        small = await http.put(f"{place.root}/v1/files/{name}", content=b"put")
        assert small.headers["Location"] == f"{place.root}/v1/files/{name}"
        large = await http.put(f"{place.root}/v1/files/large/{name}", content=bytes(100_000))
        assert large.headers["Location"] == f"{place.root}/v1/files/large/{name}"
        form = await http.put(f"{place.root}/v1/files/form/{name}", files={"file": ("x", b"put")})
        post = await http.post(
            f"{place.root}/v1/uploads", headers={"Content-Disposition": 'attachment; filename="p"'}, content=b"put"
        )
        for answer in (small, form, post):
            assert answer.headers["Location"].startswith(f"{place.root}/v1/files/")
            assert (await http.get(answer.headers["Location"])).content == b"put"

    async def test_an_upload_by_blocks_and_its_file(self, http: httpx.AsyncClient, place: Place) -> None:
        url = f"{place.root}/v1/block-uploads"
        created = await http.post(url, json=creation("b", b"01234"))
        location = created.headers["Location"]
        assert location == f"{url}/{created.json()['id']}"
        assert (await put(http, location, b"01234", 0)).is_success
        ended = await end(http, location, b"01234")
        assert ended.status_code == 201, ended.text
        assert (await http.get(ended.headers["Location"])).content == b"01234"

    async def test_a_refused_form_names_commands_that_work(self, http: httpx.AsyncClient, place: Place) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=x", "Repr-Digest": "sha-256=:AAAA:"}
        refused = await http.put(f"{place.root}/v1/files/x", headers=headers, content=b"x")
        assert f"curl -T PATH {ORIGIN}{place.root}/v1/files/NAME" in refused.json()["detail"]


async def test_a_process_is_where_its_location_says(http: httpx.AsyncClient, place: Place) -> None:
    started = await http.post(f"{place.root}/v1/processes", json={"work_type": "manifest", "id": "p"})
    assert (started.status_code, started.headers["Location"]) == (201, f"{place.root}/v1/processes/p")
    assert (await http.get(started.headers["Location"])).json()["id"] == "p"
    # The seed's own endpoints, with and without their slash at the end.
    assert (await http.get(f"{place.root}/q/process/")).json()["id"] == "q"
    assert (await http.get(f"{place.root}/q/process")).json()["id"] == "q"
    assert (await http.post(f"{place.root}/upload/?file_name=a&is_complete=true", content=b"x")).json()["is_complete"]
    assert (await http.get(f"{place.root}/download/?file_name=a")).json()["file_content"] == "x"


async def test_a_signed_link_is_valid_under_every_path_of_the_server(
    http: httpx.AsyncClient, server: App, place: Place, settings: Settings
) -> None:
    (settings.files_dir / "a b").mkdir()
    (settings.files_dir / "a b/x.bin").write_bytes(b"content")
    for body, begin in (({"name": "a b/x.bin"}, b"content"), ({"name": "a b", "archive": "zip"}, b"PK")):
        url = (await http.post(f"{place.root}/v1/links", json=body)).json()["url"]
        assert url.startswith(f"{place.root}/v1/")
        assert (await http.get(url, headers={"Authorization": ""})).content.startswith(begin)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as inside:
            assert (await inside.get(url.removeprefix(place.forwarded))).content.startswith(begin)


async def test_the_type_of_a_problem_leads_to_its_description(
    http: httpx.AsyncClient, place: Place, both_ways: str
) -> None:
    for path in ("/v1/files/none", "/v1/processes/none", "/v1/uploads/none", "/nowhere"):
        refused = await http.get(f"{place.root}{path}")
        kind = refused.json()["type"]
        assert kind.startswith(f"{place.root}/problems/")
        described = (await http.get(kind)).json()
        assert (described["type"], described["title"]) == (kind, refused.json()["title"])


@pytest.mark.slow
async def test_the_contract_the_pages_and_the_links_lead_on(http: httpx.AsyncClient, place: Place) -> None:
    contract = (await http.get(f"{place.root}/openapi.json")).json()
    assert contract["servers"] == [{"url": place.root}]
    types = re.findall(r'"(/[^"]*/problems/[a-z-]+)"', json.dumps(contract))
    assert types
    assert all(each.startswith(f"{place.root}/problems/") for each in types)
    for page in ("/", "/docs"):
        shown_page = await http.get(f"{place.root}{page}", headers={"Accept": "text/html"})
        assert shown_page.status_code == 200
        links = [link for link in re.findall(r'(?:src|href)="([^"]+)"', shown_page.text) if link != "data:,"]
        assert links
        for link in links:
            if link != "v1/events":  # has no end
                assert (await http.get(shown_page.url.join(link))).status_code == 200, link
    assert f">{place.root}/v1/files<" in (await http.get(f"{place.root}/", headers={"Accept": "text/html"})).text
    for link in (await http.get(f"{place.root}/")).json()["links"].values():
        if link != "v1/events":
            assert (await http.get(urljoin(f"{place.root}/", link))).status_code == 200, link


async def test_pages_of_the_outer_origin_are_the_servers_own(http: httpx.AsyncClient, place: Place) -> None:
    url = f"{place.root}/v1/files/x"
    assert (await http.put(url, headers={"Origin": ORIGIN}, content=b"x")).status_code == 201
    foreign = await http.put(url, headers={"Origin": "https://evil.example"}, content=b"x")
    assert (foreign.status_code, foreign.json()["type"]) == (403, f"{place.root}/problems/cross-site")
    assert (await http.get(url, headers={"Origin": ORIGIN})).content == b"x"


@below
async def test_the_base_url_without_its_slash_redirects(http: httpx.AsyncClient, place: Place) -> None:
    answer = await http.get(f"{place.root}?a=b")
    assert (answer.status_code, answer.headers["Location"]) == (308, f"{place.root}/?a=b")
    assert (await http.head(place.root)).headers["Location"] == f"{place.root}/"
    assert (await http.post(place.root)).status_code == 405


@below
async def test_elsewhere_there_is_nothing_and_the_answer_says_where_the_server_is(
    http: httpx.AsyncClient, server: App, place: Place, both_ways: str
) -> None:
    for path in ("/", "/v1/files", "/v1/files/x", "/health", f"{place.base_url[:-1]}x/v1/files", "/v1/identity"):
        refused = await http.get(place.forwarded + path)
        problem = refused.json()
        assert (refused.status_code, problem["type"]) == (404, f"{place.root}/problems/not-found")
        assert f"This server is at {place.root}/" in problem["detail"]


@pytest.mark.parametrize("request_bytes", [b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"GET /" + b"x" * 70_000])
async def test_what_is_no_request_has_a_type_below_the_base_url(
    server: App, place: Place, request_bytes: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request_bytes)
    async with asyncio.timeout(PATIENCE):
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    assert json.loads(body)["type"].startswith(f"{place.base_url}problems/")
