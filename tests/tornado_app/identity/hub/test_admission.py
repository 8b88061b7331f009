"""Admission by a hub: tokens, logins in a browser, scopes, and what is kept of the hub's answers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.hub_api import ACCESS, HubApi
from tests.support.servers import ServerProcess
from tornado_app.app import App
from tornado_app.identity.hub.client import API_TOKEN
from tornado_app.identity.principal import READ, RUN_CODE, WRITE
from tornado_app.settings import Settings, SettingsError

Clients = Callable[[str], httpx.AsyncClient]
PAGE = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}


@pytest.fixture
async def browser(server: App, base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a cookie jar, which follows no redirect by itself."""
    async with httpx.AsyncClient(base_url=base_url, timeout=60) as client:
        yield client


async def log_in(browser: httpx.AsyncClient, hub: HubApi, token: str, path: str = "/v1/files") -> httpx.Response:
    """Open a page as a browser does, by way of the hub; return the last answer of the login."""
    hub.logged_in = token
    answer = await browser.get(path, headers=PAGE)
    assert answer.status_code == 302, answer.text
    authorized = await browser.get(hub.url + answer.headers["Location"])
    return await browser.get(authorized.headers["Location"], headers=PAGE)


async def test_a_token_admits_whom_the_hub_names(hub: HubApi, server: App, browser: httpx.AsyncClient) -> None:
    token = hub.add("alice")
    for scheme in ("Bearer", "bearer", "token", "Token"):
        answer = await browser.get("/v1/files", headers={"Authorization": f"{scheme} {token}"})
        assert answer.status_code == 200, scheme
    assert len(hub.asked) == 1, "the answer is kept"


async def test_a_program_without_a_valid_token_is_refused(hub: HubApi, browser: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Bearer guessed"}, {"Authorization": "Basic YTpi"}, {"Authorization": "x"}):
        answer = await browser.get("/v1/files", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert hub.asked == ["guessed"]
    await browser.get("/v1/files", headers={"Authorization": "Bearer guessed"})
    assert hub.asked == ["guessed"], "a guess does not reach the hub each time"


async def test_many_requests_at_once_ask_the_hub_once(hub: HubApi, as_user: Clients) -> None:
    alice = as_user(hub.add("alice"))
    answers = await asyncio.gather(*(alice.get("/v1/files") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(hub.asked) == 1


async def test_a_user_without_access_to_the_service_is_told_the_scope(hub: HubApi, as_user: Clients) -> None:
    answer = await as_user(hub.add("mallory", access=False)).get("/v1/files")
    assert answer.status_code == 403
    assert answer.json()["type"].endswith("/problems/forbidden-scope")
    assert answer.json()["scope"] == ACCESS


async def test_a_hub_that_does_not_answer_is_no_refusal(hub: HubApi, as_user: Clients) -> None:
    alice, token = as_user(hub.add("alice")), hub.add("bob")
    assert (await alice.get("/v1/files")).status_code == 200
    hub.is_broken = True
    assert (await alice.get("/v1/files")).status_code == 200, "known already"
    answer = await as_user(token).get("/v1/files")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    hub.is_broken = False
    assert (await as_user(token).get("/v1/files")).status_code == 200


async def test_a_body_is_refused_before_it_is_sent(hub: HubApi, browser: httpx.AsyncClient, server: App) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"PUT /v1/files/x HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer guessed\r\n"
        b"Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
    )
    assert b" 401 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


# -- browsers


async def test_a_browser_logs_in_at_the_hub_and_comes_back_to_its_page(hub: HubApi, browser: httpx.AsyncClient) -> None:
    came_back = await log_in(browser, hub, hub.add("alice"), "/v1/files?prefix=a")
    assert (came_back.status_code, came_back.headers["Location"]) == (302, "/v1/files?prefix=a")
    cookies = came_back.headers.get_list("Set-Cookie")
    session = next(cookie for cookie in cookies if cookie.startswith("service-holdfast="))
    assert "; Path=/;" in session
    assert "; HttpOnly" in session
    assert "; SameSite=Lax" in session
    answer = await browser.get("/v1/files?prefix=a", headers=PAGE)
    assert (answer.status_code, answer.json()) == (200, {"items": [], "next": None, "prefixes": []})


async def test_a_page_that_a_script_asks_for_is_not_redirected(hub: HubApi, browser: httpx.AsyncClient) -> None:
    for headers in ({"Sec-Fetch-Mode": "cors", "Accept": "text/html"}, {"Accept": "*/*"}, {}):
        assert (await browser.get("/v1/files", headers=headers)).status_code == 401
    assert (await browser.put("/v1/files/x", content=b"", headers=PAGE)).status_code == 401


async def test_a_login_that_another_browser_began_is_refused(hub: HubApi, browser: httpx.AsyncClient) -> None:
    hub.logged_in = hub.add("mallory")
    answer = await browser.get("/v1/files", headers=PAGE)
    back = (await browser.get(hub.url + answer.headers["Location"])).headers["Location"]
    browser.cookies.clear()
    assert (await browser.get(back, headers=PAGE)).status_code == 403, "no login has begun here"
    await browser.get("/v1/files", headers=PAGE)
    assert (await browser.get(back, headers=PAGE)).status_code == 403, "another login has begun here"
    assert (await browser.get("/oauth_callback?error=access_denied", headers=PAGE)).status_code == 400


async def test_a_login_leads_to_no_other_site(hub: HubApi, browser: httpx.AsyncClient) -> None:
    own = str(browser.base_url).rstrip("/")
    came_back = await log_in(browser, hub, hub.add("alice"), f"{own}//evil.example/x")
    assert came_back.headers["Location"] == "/"


async def test_a_cookie_that_was_not_signed_here_is_no_session(hub: HubApi, browser: httpx.AsyncClient) -> None:
    token = hub.add("alice")
    await log_in(browser, hub, token)
    good = browser.cookies["service-holdfast"]
    browser.cookies.clear()
    for bad in (token, good[:-1] + ("0" if good[-1] != "0" else "1"), "", "2|1:0|x"):
        answer = await browser.get("/v1/files", headers={"Cookie": f"service-holdfast={bad}"})
        assert answer.status_code == 401


async def test_the_login_is_made_with_a_proof_key(hub: HubApi, browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/v1/files", headers=PAGE)
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == ["/oauth_callback"]
    assert "HttpOnly" in answer.headers["Set-Cookie"]


async def test_a_person_logs_in_at_the_first_page_and_a_program_need_not(
    hub: HubApi, browser: httpx.AsyncClient
) -> None:
    assert (await browser.get("/", headers=PAGE)).status_code == 302
    assert (await browser.get("/")).status_code == 200
    await log_in(browser, hub, hub.add("alice"))
    assert "Holdfast" in (await browser.get("/", headers=PAGE)).text


# -- what a page of another site can do with the cookie


async def test_a_change_by_cookie_says_which_page_sent_it(hub: HubApi, browser: httpx.AsyncClient) -> None:
    await log_in(browser, hub, hub.add("alice"))
    own = str(browser.base_url).rstrip("/")
    refused = (
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    )
    for headers in refused:
        for ask in (
            browser.put("/v1/files/x", content=b"x", headers=headers),
            browser.post("/v1/processes", json={"work_type": "manifest"}, headers=headers),
            browser.delete("/v1/links", headers=headers),
            browser.post("/x/process/", headers=headers),
        ):
            answer = await ask
            assert answer.status_code == 403, headers
            assert answer.json()["type"].endswith("/problems/cross-site")
    for headers in ({"Origin": own}, {"Sec-Fetch-Site": "same-origin"}):
        assert (await browser.put("/v1/files/x", content=b"x", headers=headers)).status_code in (200, 201)


async def test_a_link_starts_nothing_with_a_cookie(hub: HubApi, browser: httpx.AsyncClient) -> None:
    await log_in(browser, hub, hub.add("alice"))
    assert (await browser.get("/by-link/process/")).status_code == 403, "an old browser does not say who asks"
    assert (await browser.get("/by-link/process/", headers=PAGE)).status_code == 403
    assert (await browser.get("/v1/processes")).json()["items"] == []


async def test_a_token_beside_a_cookie_counts_alone(hub: HubApi, browser: httpx.AsyncClient) -> None:
    await log_in(browser, hub, hub.add("alice"))
    answer = await browser.get("/v1/files", headers={"Authorization": "Bearer guessed"})
    assert answer.status_code == 401


# -- scopes


async def test_scopes_narrow_what_a_token_may_do(hub: HubApi, as_user: Clients) -> None:
    full, reader = as_user(hub.add("alice")), as_user(hub.add("alice", READ))
    writer = as_user(hub.add("alice", WRITE))
    assert (await full.put("/v1/files/x", content=b"x")).status_code == 201
    assert (await reader.get("/v1/files/x")).content == b"x"
    for ask in (
        reader.put("/v1/files/x", content=b"y"),
        reader.delete("/v1/files/x"),
        reader.post("/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1"}),
        reader.post("/v1/processes", json={"work_type": "manifest"}),
        reader.get("/x/process/"),
    ):
        answer = await ask
        assert (answer.status_code, answer.json()["scope"]) == (403, WRITE)
    answer = await writer.get("/v1/files/x")
    assert (answer.status_code, answer.json()["scope"]) == (403, READ)
    created = await writer.post("/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1"})
    head = await writer.head(created.headers["Location"], headers={"Tus-Resumable": "1.0.0"})
    assert head.status_code == 200, "who uploads may ask how far it is"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, allow_code=True, metrics_token="of-prometheus")


async def test_code_is_run_for_those_alone_who_have_the_scope(hub: HubApi, as_user: Clients) -> None:
    alice = as_user(hub.add("alice"))
    for body in (
        {"work_type": "notebook", "params": {"file_name": "x.ipynb"}},
        {"work_type": "code"},
        {"code": "AA=="},
    ):
        answer = await alice.post("/v1/processes", json=body)
        assert (answer.status_code, answer.json()["scope"]) == (403, RUN_CODE), body
    answer = await alice.get("/x/process/?work_type=command&command=x")
    assert (answer.status_code, answer.json()["scope"]) == (403, RUN_CODE)
    coder = as_user(hub.add("alice", RUN_CODE, WRITE, READ))
    answer = await coder.post("/v1/processes", json={"work_type": "notebook", "params": {"file_name": "x.ipynb"}})
    assert answer.status_code == 201, answer.text
    id = answer.json()["id"]
    for ask in (
        alice.post(f"/v1/processes/{id}/resume"),
        alice.post(f"/{id}/process/resume/"),
    ):
        assert (await ask).status_code == 403, "the file may be another by now"
    bulk = (await alice.post("/v1/processes/resume", json={"ids": [id, "none"]})).json()
    assert bulk["changed"] == []
    assert RUN_CODE in bulk["refused"][id]


async def test_metrics_are_for_prometheus_and_admins(hub: HubApi, as_user: Clients) -> None:
    assert (await as_user("of-prometheus").get("/metrics")).status_code == 200
    assert (await as_user(hub.add("root", admin=True)).get("/metrics")).status_code == 200
    assert (await as_user(hub.add("alice")).get("/metrics")).status_code == 403
    assert (await as_user("of-prometheus").get("/v1/files")).status_code == 401


# -- what the service keeps of the hub


async def test_work_and_programs_do_not_get_the_services_token(hub: HubApi, server: App) -> None:
    assert API_TOKEN not in os.environ


async def test_without_a_hub_in_the_environment_it_does_not_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN")
    monkeypatch.delenv("JUPYTERHUB_API_URL")
    with pytest.raises(SettingsError, match="needs JUPYTERHUB_API_TOKEN and JUPYTERHUB_API_URL in the environment"):
        await App.open(settings)


async def test_a_service_is_not_the_user_of_the_same_name(hub: HubApi, as_user: Clients) -> None:
    await as_user(hub.add("cull")).put("/v1/files/x", content=b"x")
    service = as_user(hub.add("cull", kind="service"))
    assert (await service.get("/v1/files")).json()["items"] == []


@pytest.mark.parametrize("name", ["../../etc", ".holdfast", "Ünï cödé", "a/b", "%2e%2e", "x" * 400, "Alice", "ALICE"])
async def test_odd_names_stay_in_a_folder_of_their_own(
    name: str, hub: HubApi, as_user: Clients, settings: Settings
) -> None:
    await as_user(hub.add("alice")).put("/v1/files/hers", content=b"x")
    odd = as_user(hub.add(name))
    assert (await odd.put("/v1/files/x", content=b"x")).status_code == 201
    assert (await odd.post("/v1/processes", json={"id": "p", "work_type": "manifest"})).json()["id"] == "p"
    names = {item["name"] for item in (await odd.get("/v1/files")).json()["items"]}
    assert names <= {"x", "SHA256SUMS"}
    kept = {path.name for path in settings.files_dir.iterdir()} - {".holdfast"}
    assert len(kept) == 2
    assert all(re.fullmatch(r"[a-z0-9%@._-]+", folder) for folder in kept)


async def test_the_problem_of_a_login_is_json_for_who_does_not_follow(hub: HubApi, browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/v1/files", headers=PAGE)
    assert json.loads(answer.content)["title"] == "Log in first"


@pytest.mark.slow
def test_a_killed_server_comes_back_with_logins_and_uploads(
    hub: HubApi, spawn_server: Callable[..., ServerProcess]
) -> None:
    token = hub.add("alice")
    server = spawn_server("--auth", "jupyterhub", "--per-user", **hub.environment())
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    hub.logged_in = token
    with httpx.Client(base_url=server.url, timeout=60) as browser:
        opened = browser.get("/v1/files", headers=PAGE)
        back = browser.get(hub.url + opened.headers["Location"]).headers["Location"]
        assert browser.get(back, headers=PAGE).status_code == 302
        own = {"Origin": server.url.rstrip("/")}
        created = browser.post("/v1/uploads", headers={**tus, **own, "Upload-Length": "8"}, content=b"half")
        server.kill()
        server.restart()
        head = browser.head(created.headers["Location"], headers=tus)
        assert head.headers["Upload-Offset"] == "4"
        more = {**tus, **own, "Upload-Offset": "4"}
        assert browser.patch(created.headers["Location"], headers=more, content=b"half").status_code == 204
