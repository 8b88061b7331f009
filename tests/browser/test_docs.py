"""The page at `/docs` in a browser that reaches nothing but this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.browser.conftest import new_page
from tests.support.servers import ServerProcess


def test_docs_shows_the_contract_and_tries_it_out(spawn_server: Callable[..., ServerProcess], browser: Any) -> None:
    server, page = spawn_server(), new_page(browser)
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url + "/docs")
    page.click("#operations-processes-list_work_types .opblock-summary")
    page.click("#operations-processes-list_work_types .execute")
    answer = page.locator("#operations-processes-list_work_types .live-responses-table")
    answer.get_by_text("import-csv").first.wait_for()
    assert complaints == []
    assert all(url.startswith(server.url) for url in asked)


def test_docs_takes_the_token_of_a_server_that_has_one(
    spawn_server: Callable[..., ServerProcess], browser: Any
) -> None:
    server, page = spawn_server(HOLDFAST_TOKEN="s3cret"), new_page(browser)
    page.goto(server.url + "/docs")
    page.click(".auth-wrapper .authorize.unlocked")
    page.fill(".auth-container input", "s3cret")
    page.click(".auth-btn-wrapper .authorize")
    page.click(".auth-btn-wrapper .btn-done")
    page.click("#operations-processes-list_work_types .opblock-summary")
    page.click("#operations-processes-list_work_types .execute")
    answer = page.locator("#operations-processes-list_work_types .live-responses-table")
    answer.get_by_text("import-csv").first.wait_for()


def test_a_link_that_starts_work_asks_first(spawn_server: Callable[..., ServerProcess], browser: Any) -> None:
    server, page = spawn_server(), new_page(browser)
    url = server.url + "/linked/process/?work_type=manifest"
    answer = page.goto(url)
    assert answer.status == 403
    with page.expect_navigation() as posted:
        page.click("text=Start it")
    assert posted.value.status == 200
    assert posted.value.json()["id"] == "linked"
    assert page.goto(server.url + "/linked/process/").status == 200
