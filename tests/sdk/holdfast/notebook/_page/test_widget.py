"""Proof to a page that a server is that of its kernel."""

from __future__ import annotations

import httpx
import pytest

import holdfast
from tests.sdk.holdfast.notebook._page.conftest import Page


async def test_the_page_gets_a_nonce_with_the_proof_that_only_the_server_can_give(
    client: holdfast.AsyncClient, http: httpx.AsyncClient, page: Page
) -> None:
    client.page_url = "/user/x/holdfast/"
    box = client.files.upload_box()
    first = await page.ask(box, {"route": "http://here"})
    assert first["url"] == f"{client.base_url}/"
    assert first["page_url"] == "/user/x/holdfast/"
    answer = await http.get("/v1/identity", params={"nonce": first["nonce"]})
    assert answer.json()["proof"] == first["proof"]
    assert (await page.ask(box, {"route": "http://here"}))["nonce"] != first["nonce"]


@pytest.mark.slow
async def test_the_server_says_itself_what_it_refuses(client: holdfast.AsyncClient, page: Page) -> None:
    box = client.files.upload_box()
    own = client.base_url.removeprefix("http://")
    said = await page.ask(box, {"diagnose": "lab.test:8000", "origin": "http://lab.test"})
    assert "--allow-host lab.test" in said["host"]
    assert "--allow-origin http://lab.test" in said["origin"]
    assert await page.ask(box, {"diagnose": own, "origin": client.base_url}) == {"host": "", "origin": ""}


async def test_a_bug_in_a_response_is_told_to_the_view(base_url: str, page: Page) -> None:
    async with holdfast.AsyncClient(base_url, token=lambda: "a\nb") as client:
        box = client.files.upload_box()
        assert "ValueError" in (await page.ask(box, {"route": "http://here"}))["error"]
        box.close()
