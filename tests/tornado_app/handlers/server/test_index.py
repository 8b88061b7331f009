"""`/` leads on, `/health` answers, and neither asks for a token; `/metrics` has no series that nobody reads."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urljoin

import httpx
import pytest

from tests.support.servers import ServerProcess
from tornado_app.protocols.accept import prefers

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


async def test_a_program_gets_links_that_all_lead_somewhere(http: httpx.AsyncClient) -> None:
    answer = await http.get("/")
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert found["name"] == "Holdfast"
    assert {"docs", "openapi", "files", "processes", "work_types", "health"} <= set(found["links"])
    for link in found["links"].values():
        assert not link.startswith(("/", "http")), "a proxy's prefix would be lost"
        if link != "v1/events":  # has no end
            assert (await http.get(urljoin("/", link))).status_code == 200, link


async def test_a_browser_gets_a_page_that_says_what_this_is_and_runs_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.get(
        "/", headers={"Accept": CHROMIUM, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    )
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "paused, resumed and cancelled" in answer.text
    for link in (await http.get("/")).json()["links"].values():
        assert f'href="{link}"' in answer.text


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (CHROMIUM, True),
        ("text/html", True),
        ("TEXT/HTML;level=1;q=0.5", True),
        ("application/json;q=0.5, text/html", True),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html; q=0.000, */*", False),
        ("text/html;q=nonsense", True),
        (",,;;q=1,", False),
    ],
)
def test_what_accept_asks_for(accept: str, html: bool) -> None:
    assert prefers(accept, "text/html", "application/json") is html


async def test_health_is_there(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health")).json() == {"status": "ready"}


@pytest.mark.parametrize(
    "path", ["/", "/health", "/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json", "/problems/gone"]
)
async def test_a_head_is_answered_as_a_get_without_the_bytes(http: httpx.AsyncClient, path: str) -> None:
    got, headed = await http.get(path), await http.head(path)
    assert headed.status_code == got.status_code == 200
    assert headed.content == b""
    assert headed.headers["content-type"] == got.headers["content-type"]
    assert int(headed.headers["content-length"]) > 0
    assert "HEAD" in (await http.options(path)).headers["allow"]


async def test_a_head_starts_no_process_and_is_not_allowed_elsewhere(http: httpx.AsyncClient) -> None:
    answer = await http.head("/by-a-head/process/", params={"work_type": "manifest"})
    assert answer.status_code in (400, 405)
    assert (await http.get("/v1/processes/by-a-head")).status_code == 404


@pytest.mark.slow
def test_with_a_token_both_are_for_everybody_and_the_rest_is_not(spawn_server: Callable[..., ServerProcess]) -> None:
    with httpx.Client(base_url=spawn_server(HOLDFAST_TOKEN="secret").url) as http:
        for path in ("/", "/health", "/health/live", "/health/ready"):
            answer = http.get(path)
            assert answer.status_code == 200
            assert "secret" not in answer.text
        for path in ("/v1/files", "/metrics", "/nowhere"):
            assert http.get(path).status_code == 401


async def test_metrics_have_no_series_of_times_of_creation(http: httpx.AsyncClient) -> None:
    await http.get("/v1/files")
    text = (await http.get("/metrics")).text
    assert "holdfast_journal_commit_seconds_bucket" in text
    assert "_created{" not in text
    assert "_created " not in text
