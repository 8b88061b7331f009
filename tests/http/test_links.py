"""Links to files that a browser can follow: signed where the server has a token, and never leading to anything else."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from holdfast.wire import link_signature
from tornado_app.app import App
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
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/v1/files/") as client:
        yield client
    await app.close()


def signed(name: str = NAME, token: str = TOKEN, seconds: float = 60) -> dict[str, str]:
    expires = int(time.time() + seconds)
    return {"expires": str(expires), "signature": link_signature(token, name, expires)}


async def test_a_signed_link_reads_its_file_whole_and_in_ranges_from_any_page(guarded: httpx.AsyncClient) -> None:
    answer = await guarded.get(NAME, params=signed(), headers=VISIT)
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    part = await guarded.get(NAME, params=signed(), headers={**VISIT, "Range": "bytes=3-"})
    assert (part.status_code, part.content) == (206, b"3456789")
    assert (await guarded.head(NAME, params=signed())).status_code == 200


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (signed(name="other.bin"), "not for this file"),
        (signed(token="wrong"), "not for this file"),
        (signed() | {"expires": "99999999999"}, "not for this file"),
        (signed(seconds=-5), "expired"),
        ({"signature": "x"}, "carries expires="),
        ({"signature": "é", "expires": "-1"}, "carries expires="),
        ({}, "Authorization: Bearer"),
    ],
)
async def test_any_other_link_is_refused(params: dict[str, str], says: str, guarded: httpx.AsyncClient) -> None:
    answer = await guarded.get(NAME, params=params)
    assert answer.status_code == 401
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_link_lets_nobody_write(method: str, guarded: httpx.AsyncClient) -> None:
    assert (await guarded.request(method, NAME, params=signed())).status_code == 401


async def test_a_link_on_a_foreign_page_leads_to_files_alone(server: App, base_url: str) -> None:
    (server.settings.files_dir / "f.txt").write_text("f", encoding="utf-8")
    async with httpx.AsyncClient(base_url=base_url, headers=VISIT) as visitor:
        assert (await visitor.get("/v1/files/f.txt")).text == "f"
        assert (await visitor.get("/evil/process/")).status_code == 403
        assert (await visitor.get("/v1/files/f.txt", headers={"Sec-Fetch-Mode": "no-cors"})).status_code == 403
