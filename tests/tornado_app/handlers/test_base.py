"""Access, and the headers that every answer carries, good or bad."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tornado.web import HTTPError

from tests.support.servers import PATIENCE
from tornado_app.app import App
from tornado_app.problems import INTERNAL
from tornado_app.server.response import SECURITY_HEADERS
from tornado_app.settings import Settings

pytestmark = pytest.mark.usefixtures("both_ways")

GOOD = "/v1/work-types"


def assert_problem(answer: httpx.Response, status: int, kind: str) -> dict[str, object]:
    """The one shape of an error; its members."""
    body = answer.json()
    assert (answer.status_code, body["status"]) == (status, status), body
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"/problems/{kind}"
    assert body["title"]
    assert body["detail"]
    return dict(body)


def assert_guarded(answer: httpx.Response) -> None:
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    assert "no-store" in answer.headers["cache-control"]


class TestEveryAnswer:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", GOOD, 200),
            ("GET", "/nothing/here", 404),
            ("DELETE", GOOD, 405),
            ("GET", "/download/?file_name=none", 404),
            ("GET", "/download/", 400),
            ("POST", "/none/process/pause", 404),
        ],
    )
    async def test_carries_the_security_headers(
        self, http: httpx.AsyncClient, method: str, path: str, status: int
    ) -> None:
        answer = await http.request(method, path)
        assert answer.status_code == status
        assert_guarded(answer)

    async def test_an_unknown_path_is_a_404_problem_that_names_it(self, http: httpx.AsyncClient) -> None:
        problem = assert_problem(await http.get("/v1/nope"), 404, "not-found")
        assert "/v1/nope" in str(problem["detail"])

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            (GOOD, {"GET"}),
            ("/a/process/", {"GET"}),
            ("/a/process/pause/", {"POST"}),
            ("/download/", {"GET"}),
            ("/upload/", {"GET", "POST"}),
            ("/upload/cancel/", {"POST"}),
        ],
    )
    async def test_another_method_is_a_405_with_allow(
        self, http: httpx.AsyncClient, path: str, allowed: set[str]
    ) -> None:
        answer = await http.delete(path)
        assert_problem(answer, 405, "method-not-allowed")
        assert allowed <= set(answer.headers["allow"].split(", "))
        assert "DELETE" not in answer.headers["allow"]

    async def test_a_bug_is_a_500_with_an_id_that_the_log_has_and_no_traceback(
        self, server: App, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def bug(*args: object, **kwargs: object) -> None:
            raise ZeroDivisionError("the secret inside")

        monkeypatch.setattr("tornado_app.handlers.processes.WorkTypesHandler.get", bug)
        with caplog.at_level(logging.ERROR, "holdfast.error"):
            answer = await http.get(GOOD)
        problem = assert_problem(answer, 500, INTERNAL.type)
        assert "ZeroDivision" not in answer.text
        assert "the secret inside" not in answer.text
        assert "Traceback" not in answer.text
        record = next(r for r in caplog.records if r.name == "holdfast.error")
        assert str(problem["error_id"]) in record.getMessage()
        assert record.exc_info is not None
        assert_guarded(answer)

    async def test_tornados_own_errors_come_in_the_same_shape(
        self, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def teapot(*args: object, **kwargs: object) -> None:
            raise HTTPError(403, "not for you")

        monkeypatch.setattr("tornado_app.handlers.processes.WorkTypesHandler.get", teapot)
        problem = assert_problem(await http.get(GOOD), 403, "forbidden")
        assert problem["detail"] == "not for you"


class TestHost:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST:1234", "[::1]:8000"])
    async def test_the_names_of_loopback_are_served(self, http: httpx.AsyncClient, host: str) -> None:
        assert (await http.get(GOOD, headers={"Host": host})).status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0", "[", "[::"]
    )
    async def test_another_name_is_refused(self, http: httpx.AsyncClient, host: str) -> None:
        problem = assert_problem(await http.get(GOOD, headers={"Host": host}), 421, "misdirected")
        assert "--allow-host" in str(problem["detail"])


class TestBrowsers:
    """A GET that starts things must not be reachable from a foreign page."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:1"},
            {"Origin": "http://["},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
        ids=str,
    )
    async def test_a_foreign_page_starts_nothing(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        assert_problem(await http.get("/planted/process/", headers=headers), 403, "cross-site")
        assert (await http.post("/planted/process/pause")).status_code == 404

    @pytest.mark.parametrize("site", ["same-origin", "none"])
    async def test_ones_own_page_and_the_address_bar_may(self, http: httpx.AsyncClient, site: str) -> None:
        assert (await http.get(GOOD, headers={"Sec-Fetch-Site": site})).status_code == 200

    async def test_the_servers_own_origin_may(self, http: httpx.AsyncClient, base_url: str) -> None:
        assert (await http.get(GOOD, headers={"Origin": base_url})).status_code == 200


LINK = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class TestLinkThatStarts:
    """GET starts work, by the seed's contract; a link that somebody else wrote must not."""

    @pytest.mark.parametrize("site", ["none", "cross-site", "same-site", "something new"])
    async def test_it_leads_to_a_page_whose_button_does(self, http: httpx.AsyncClient, site: str) -> None:
        url = "/linked/process/?work_type=manifest&prefix=<b>"
        page = await http.get(url, headers={**LINK, "Sec-Fetch-Site": site})
        assert (page.status_code, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
        assert "form-action 'self'" in page.headers["content-security-policy"]
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["x-frame-options"] == "DENY"
        assert '<form method="post">' in page.text
        assert "&lt;b&gt;" in page.text
        assert "<b>" not in page.text
        assert (await http.get("/v1/processes/linked")).status_code == 404
        own = {"Origin": str(http.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
        started = await http.post(url, headers=own, content=b"")
        assert (started.status_code, started.json()["work_type"]) == (200, "manifest")
        assert started.json()["params"]["prefix"] == "<b>"

    async def test_a_browser_before_these_headers_is_known_by_its_referrer(self, http: httpx.AsyncClient) -> None:
        accept = {"Accept": LINK["Accept"]}
        answer = await http.get("/old/process/", headers={**accept, "Referer": "https://evil.example/"})
        assert answer.status_code == 403
        assert (await http.get("/old/process/", headers={**accept, "Referer": f"{http.base_url}/x"})).status_code == 200

    async def test_the_address_bar_shows_what_runs(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/shown/process/", headers={**LINK, "Sec-Fetch-Site": "none"})).status_code == 403
        assert (await http.get("/shown/process/", headers={"Sec-Fetch-Site": "same-origin"})).status_code == 200
        shown = await http.get("/shown/process/", headers={**LINK, "Sec-Fetch-Site": "none"})
        assert (shown.status_code, shown.json()["id"]) == (200, "shown")
        again = await http.get("/shown/process/?prefix=x", headers={**LINK, "Sec-Fetch-Site": "none"})
        assert again.status_code == 403
        assert (await http.get("/shown/process/", headers={**LINK, "Sec-Fetch-Site": "cross-site"})).status_code == 403

    async def test_another_pages_form_posts_nothing(self, http: httpx.AsyncClient) -> None:
        for headers in ({"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            assert_problem(await http.post("/posted/process/", headers=headers), 403, "cross-site")
        assert (await http.get("/v1/processes/posted")).status_code == 404


class TestAllowedOrigin:
    ORIGIN = "https://notebooks.example"

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, allow_origin=(self.ORIGIN,), allow_host=("files.example",), token="t0ken")

    async def test_an_allowed_origin_may_and_reads_the_answer(self, http: httpx.AsyncClient) -> None:
        headers = {"Origin": self.ORIGIN, "Sec-Fetch-Site": "cross-site", "Authorization": "Bearer t0ken"}
        answer = await http.get(GOOD, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == self.ORIGIN
        assert "Origin" in answer.headers["vary"]

    async def test_an_allowed_origin_reads_refusals_too(self, http: httpx.AsyncClient) -> None:
        answer = await http.get(GOOD, headers={"Origin": self.ORIGIN})
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["access-control-allow-origin"] == self.ORIGIN

    @pytest.mark.parametrize(
        ("path", "method"),
        [
            ("/v1/processes", "POST"),
            ("/v1/processes/x", "DELETE"),
            ("/v1/processes/x/pause", "POST"),
            ("/v1/processes/pause", "POST"),
            ("/v1/processes/x/log", "GET"),
            ("/v1/processes/x/events", "GET"),
            ("/v1/events", "GET"),
            ("/v1/work-types", "GET"),
            ("/v1/files", "GET"),
            ("/v1/files/a", "PUT"),
            ("/v1/files/a", "DELETE"),
            ("/v1/uploads", "POST"),
            ("/v1/uploads/x", "PATCH"),
            ("/x/process/", "GET"),
            ("/x/process/pause/", "POST"),
            ("/x/process/resume/", "POST"),
            ("/download/", "GET"),
            ("/upload/", "POST"),
            ("/upload/cancel/", "POST"),
            ("/health/ready", "GET"),
            ("/openapi.json", "GET"),
        ],
    )
    async def test_every_endpoint_answers_the_preflight_of_a_page_with_a_token(
        self, http: httpx.AsyncClient, path: str, method: str
    ) -> None:
        asked = {
            "Origin": self.ORIGIN,
            "Sec-Fetch-Site": "cross-site",
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        answer = await http.options(path, headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == self.ORIGIN
        assert method in answer.headers["access-control-allow-methods"].split(", ")
        accepted = answer.headers["access-control-allow-headers"].lower().split(", ")
        assert {"authorization", "content-type"} <= set(accepted)
        assert (await http.options(path, headers=asked | {"Origin": "https://evil.example"})).status_code == 403

    async def test_a_page_may_start_and_follow_a_process(self, http: httpx.AsyncClient) -> None:
        headers = {"Origin": self.ORIGIN, "Sec-Fetch-Site": "cross-site", "Authorization": "Bearer t0ken"}
        started = await http.post("/v1/processes", headers=headers, json={"work_type": "manifest", "id": "paged"})
        assert started.status_code == 201
        assert "Location" in started.headers["access-control-expose-headers"]
        assert (await http.get("/paged/process/", headers=headers)).status_code == 200

    async def test_another_origin_still_may_not(self, http: httpx.AsyncClient) -> None:
        answer = await http.get(GOOD, headers={"Origin": self.ORIGIN + ".evil.example"})
        assert_problem(answer, 403, "cross-site")
        assert "access-control-allow-origin" not in answer.headers

    async def test_an_allowed_host_is_served(self, http: httpx.AsyncClient) -> None:
        headers = {"Host": "files.example", "Authorization": "Bearer t0ken"}
        assert (await http.get(GOOD, headers=headers)).status_code == 200


class TestToken:
    @pytest.fixture
    def settings(self, settings: Settings, tmp_path: Path) -> Settings:
        path = tmp_path / "token"
        path.write_text("s3cret-ünïcode\n", encoding="utf-8")
        return dataclasses.replace(settings, token_file=path)

    @pytest.fixture
    async def anyone(self, base_url: str) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=base_url) as client:
            yield client

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
    async def test_the_right_token_comes_in(self, anyone: httpx.AsyncClient, scheme: str) -> None:
        headers = {"Authorization": f"{scheme} s3cret-ünïcode".encode()}
        assert (await anyone.get(GOOD, headers=headers)).status_code == 200

    @pytest.mark.parametrize(
        "given", ["", "Bearer", "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cret", "Bearer s3cret-ünïcode2"]
    )
    @pytest.mark.parametrize("path", [GOOD, "/a/process/", "/download/?file_name=x", "/not/there"])
    async def test_no_other_does(self, anyone: httpx.AsyncClient, given: str, path: str) -> None:
        answer = await anyone.get(path, headers={"Authorization": given.encode()} if given else {})
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "s3cret" not in answer.text
        assert_guarded(answer)


class TestWithoutAToken:
    """Endpoints that a person or a probe needs before a token can be given."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, token="s3cret", metrics_token="figures")

    @pytest.mark.parametrize(
        "path",
        ["/", "/docs", "/docs/page.js", "/openapi.json", "/problems/unauthorized", "/health/live", "/health/ready"],
    )
    async def test_it_is_there(self, http: httpx.AsyncClient, path: str) -> None:
        assert (await http.get(path)).status_code == 200

    @pytest.mark.parametrize(("token", "status"), [("figures", 200), ("s3cret", 200), ("wrong", 401), (None, 401)])
    async def test_figures_have_a_token_of_their_own(
        self, http: httpx.AsyncClient, token: str | None, status: int
    ) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        assert (await http.get("/metrics", headers=headers)).status_code == status

    async def test_which_opens_nothing_else(self, http: httpx.AsyncClient) -> None:
        assert (await http.get(GOOD, headers={"Authorization": "Bearer figures"})).status_code == 401


class TestSlowRequests:
    """Heads and bodies have to come within a time, so that nobody keeps connections by trickling."""

    @pytest.fixture
    def settings(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
        monkeypatch.setattr("tornado_app.app.IDLE_TIMEOUT_S", 0.2)
        monkeypatch.setattr("tornado_app.app.BODY_TIMEOUT_S", 0.2)
        return settings

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "start",
        [
            "GET /health/live HTTP/1.1\r\nX-Slow: ",
            "POST /v1/processes HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n",
            "GET /v1/files/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\n\r\n",
        ],
        ids=["a head", "a body", "a body that nobody wants"],
    )
    async def test_what_trickles_is_cut(self, base_url: str, start: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
        writer.write(start.encode())

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        try:
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        finally:
            trickling.cancel()
            writer.close()


class TestSlowUploads:
    @pytest.fixture
    def settings(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
        monkeypatch.setattr("tornado_app.app.BODY_TIMEOUT_S", 0.2)
        return settings

    @pytest.mark.slow
    async def test_an_upload_may_take_longer_than_any_other_body(self, base_url: str, settings: Settings) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
        writer.write(b"PUT /v1/files/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 25\r\n\r\n")
        for _ in range(25):
            writer.write(b"x")
            await asyncio.sleep(0.02)
        assert (await reader.readline()).startswith(b"HTTP/1.1 201")
        writer.close()
        assert (settings.files_dir / "a").read_bytes() == b"x" * 25
