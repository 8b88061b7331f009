"""Links for downloads: as text, as HTML, and the kernel's side of their view."""

from __future__ import annotations

import httpx
import pytest

import holdfast
from holdfast.notebook._page._download_link import DownloadLinkView
from holdfast.widgets import DownloadLink
from holdfast.wire import FileLink
from tests.sdk.holdfast.notebook._page.conftest import Page


def test_a_link_shows_its_file_and_not_its_url() -> None:
    signed = FileLink("a folder/née.csv", "/v1/files/a%20folder/n%C3%A9e.csv?expires=1&signature=abc", 1)
    link = DownloadLink("http://127.0.0.1:9", signed)
    assert str(link) == "http://127.0.0.1:9/v1/files/a%20folder/n%C3%A9e.csv?expires=1&signature=abc"
    assert "signature" not in repr(link) + repr(signed)
    assert 'download="née.csv"' in link._repr_html_()
    assert "&amp;signature=" in link._repr_html_()


async def test_a_link_is_followed_from_any_page(client: holdfast.AsyncClient, http: httpx.AsyncClient) -> None:
    await client.files.write("a.csv", b"a,b")
    link = await client.files.download_link("a.csv")
    assert str(link).startswith(f"{client.base_url}/v1/files/a.csv?expires=")
    visit = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}
    assert (await http.get(link.url, headers=visit)).content == b"a,b"
    elsewhere = await client.files.download_link("a", base_url="https://there/")
    assert elsewhere.url.startswith("https://there/v1/files/a?expires=")


@pytest.mark.parametrize("base_url", ["unix:/run/holdfast.sock"])
def test_a_link_that_no_browser_can_follow_is_not_shown_as_one(base_url: str) -> None:
    html = DownloadLink(base_url, FileLink("a.csv", "/v1/files/a.csv?expires=1&signature=abc", 1))._repr_html_()
    assert "href" not in html
    assert "a.csv" in html


async def test_a_file_is_read_through_the_kernel_in_pieces_of_one_version(
    client: holdfast.AsyncClient, page: Page
) -> None:
    await client.files.write("a folder/née.txt", b"hello world")
    view = DownloadLinkView(client._core, await client.files.download_link("a folder/née.txt"))
    first = await page.ask(view, {"read": 0, "length": 6, "etag": ""})
    assert (first["total"], first["buffers"]) == (11, [b"hello "])
    rest = await page.ask(view, {"read": 6, "length": 6, "etag": first["etag"]})
    assert rest["buffers"] == [b"world"]
    await client.files.write("a folder/née.txt", b"hello earth", overwrite=True)
    changed = await page.ask(view, {"read": 6, "length": 6, "etag": first["etag"]})
    assert changed["kind"] == "precondition-failed"


async def test_a_folder_and_an_empty_file_are_read_through_the_kernel(client: holdfast.AsyncClient, page: Page) -> None:
    await client.files.write("f/empty", b"")
    view = DownloadLinkView(client._core, await client.files.download_link("f/empty"))
    assert (await page.ask(view, {"read": 0, "length": 6, "etag": ""}))["total"] == 0
    view = DownloadLinkView(client._core, await client.files.download_link("f", archive="zip"))
    archive = await page.ask(view, {"read": 0, "length": 1000, "etag": ""})
    assert archive["buffers"][0].startswith(b"PK")
    assert len(archive["buffers"][0]) == archive["total"]
