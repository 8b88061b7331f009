"""Links to files that a browser can follow: signed where the server has a token, and never leading to anything else."""

from __future__ import annotations

import dataclasses
import hmac
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from urllib.parse import parse_qsl, unquote

import httpx
import pytest

from tornado_app.app import App
from tornado_app.files.links import Links
from tornado_app.settings import Settings

TOKEN = "s3cret"
NAME = "folder/née file.bin"
VISIT = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.fixture
async def guarded(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token, of a server that wants one and has a file."""
    path = settings.files_dir / NAME
    path.parent.mkdir()
    path.write_bytes(b"0123456789")
    app = await App.open(dataclasses.replace(settings, token=TOKEN))
    port = app.listen()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        yield client
    await app.close()


ASKED = {"Authorization": f"Bearer {TOKEN}"}


async def signed(guarded: httpx.AsyncClient, name: str = NAME, seconds: float = 60) -> dict[str, str]:
    """The query of a link that the server signs."""
    answer = await guarded.post("/v1/links", json={"name": name, "seconds": seconds}, headers=ASKED)
    assert answer.status_code == 201, answer.text
    path, _, query = answer.json()["url"].partition("?")
    assert unquote(path) == f"/v1/files/{name}"
    return dict(parse_qsl(query))


async def test_a_signed_link_reads_its_file_whole_and_in_ranges_from_any_page(guarded: httpx.AsyncClient) -> None:
    link = await signed(guarded)
    answer = await guarded.get(f"/v1/files/{NAME}", params=link, headers=VISIT)
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    part = await guarded.get(f"/v1/files/{NAME}", params=link, headers={**VISIT, "Range": "bytes=3-"})
    assert (part.status_code, part.content) == (206, b"3456789")
    assert (await guarded.head(f"/v1/files/{NAME}", params=link)).status_code == 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "other.bin"}, "not for this file"),
        ({"signature": "0" * 64}, "not for this file"),
        ({"signature": hmac.new(TOKEN.encode(), b"", "sha256").hexdigest()}, "not for this file"),
        ({"expires": "99999999999"}, "not for this file"),
        ({"expires": ""}, "carries expires="),
        ({"signature": "é", "expires": "-1"}, "carries expires="),
        ({"signature": None, "expires": None}, "Authorization: Bearer"),
    ],
)
async def test_any_other_link_is_refused(change: dict[str, str | None], says: str, guarded: httpx.AsyncClient) -> None:
    link = {**await signed(guarded), **change}
    name = link.pop("name", NAME)
    answer = await guarded.get(f"/v1/files/{name}", params={k: v for k, v in link.items() if v is not None})
    assert answer.status_code == 401
    assert says in answer.json()["detail"]


async def test_a_link_is_good_for_a_time(guarded: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    link, now = await signed(guarded), time.time()
    monkeypatch.setattr("tornado_app.files.links.time", SimpleNamespace(time=lambda: now + 120))
    answer = await guarded.get(f"/v1/files/{NAME}", params=link)
    assert (answer.status_code, "expired" in answer.json()["detail"]) == (401, True)


@pytest.mark.parametrize("seconds", [0, -1, 604801, 1e18])
async def test_and_for_a_week_at_most(guarded: httpx.AsyncClient, seconds: float) -> None:
    answer = await guarded.post("/v1/links", json={"name": NAME, "seconds": seconds}, headers=ASKED)
    assert (answer.status_code, answer.json()["field"]) == (400, "seconds")
    assert "--link-life" in answer.json()["detail"]
    assert await signed(guarded, seconds=604800)


async def test_only_who_has_the_token_signs_and_revokes(guarded: httpx.AsyncClient) -> None:
    link = await signed(guarded)
    for method in ("POST", "DELETE"):
        answer = await guarded.request(method, "/v1/links", params=link, json={"name": NAME})
        assert answer.status_code == 401
    answer = await guarded.post("/v1/links", json={"name": "../x"}, headers=ASKED)
    assert answer.status_code == 400


async def test_a_revoked_link_reads_nothing_and_a_new_one_does(guarded: httpx.AsyncClient) -> None:
    before = await signed(guarded)
    assert (await guarded.delete("/v1/links", headers=ASKED)).status_code == 204
    refused = await guarded.get(f"/v1/files/{NAME}", params=before)
    assert (refused.status_code, "revoked" in refused.json()["detail"]) == (401, True)
    after = await signed(guarded)
    assert (await guarded.get(f"/v1/files/{NAME}", params=after)).status_code == 200


async def test_links_outlive_the_server_and_a_shorter_life_holds_for_old_ones(settings: Settings) -> None:
    folder = settings.data_dir
    folder.mkdir()
    link = dict(parse_qsl(Links(folder, 1000).sign("a", 900).url.partition("?")[2]))
    key = folder / "link-key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert Links(folder, 1000).refusal("a", link["expires"], link["signature"]) == ""
    assert "longer than 60 seconds" in Links(folder, 60).refusal("a", link["expires"], link["signature"])


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_link_lets_nobody_write(method: str, guarded: httpx.AsyncClient) -> None:
    assert (await guarded.request(method, f"/v1/files/{NAME}", params=await signed(guarded))).status_code == 401


async def test_a_link_on_a_foreign_page_leads_to_files_alone(server: App, base_url: str) -> None:
    (server.settings.files_dir / "f.txt").write_text("f", encoding="utf-8")
    async with httpx.AsyncClient(base_url=base_url, headers=VISIT) as visitor:
        assert (await visitor.get("/v1/files/f.txt")).text == "f"
        assert (await visitor.get("/evil/process/")).status_code == 403
        assert (await visitor.get("/v1/files/f.txt", headers={"Sec-Fetch-Mode": "no-cors"})).status_code == 403
