"""Uploads and files as views know them: listings and events of the same things, whichever comes first."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

import holdfast
from holdfast import wire
from holdfast.notebook._feed._listing import ServerListing
from holdfast.widgets import Dashboard
from tests.sdk.holdfast.notebook.conftest import Message, shows, text_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UPLOAD = wire.UploadInfo("u", "a.bin", 0, 10, NOW, None, False)
FILE = wire.FileInfo("old.csv", 3, NOW, "e", "", None)


def event(type: str, id: str, what: str, **data: Any) -> wire.Event:
    return wire.Event(type=type, id=id, time=NOW, data={"what": what, **data})


def test_what_happens_while_a_listing_is_on_its_way_is_newer_than_the_listing() -> None:
    listing = ServerListing()
    listing.begin_request()
    listing.apply_event(event("upload", "u", "progress", offset=5, length=10))
    listing.apply_event(event("upload", "u", "finished", offset=10, length=10))
    listing.apply_event(event("file", "a.bin", "published", size=10, etag="one"))
    listing.apply_event(event("file", "a.bin", "digest", sha256="ab", etag="one"))
    listing.apply_event(event("file", "old.csv", "deleted"))
    listing.replace([FILE], [UPLOAD], False)
    assert (listing.uploads, list(listing.files)) == ({}, ["a.bin"])
    assert listing.files["a.bin"].sha256 == "ab"


def test_a_later_listing_is_believed() -> None:
    listing = ServerListing()
    listing.apply_event(event("upload", "lost", "created", offset=0, length=10))
    listing.begin_request()
    listing.replace([FILE], [UPLOAD], True)
    assert (list(listing.uploads), list(listing.files), listing.more) == (["u"], ["old.csv"], True)


@pytest.mark.slow
async def test_parts_that_were_joined_are_no_uploads_any_more(
    client: holdfast.AsyncClient, messages: list[Message]
) -> None:
    panel = Dashboard(client, ["uploads", "files"])
    tus = {"Tus-Resumable": "1.0.0"}
    async with httpx.AsyncClient(base_url=client.base_url, headers=tus) as http:
        create = {"Upload-Length": "1000", "Upload-Concat": "partial"}
        parts = [(await http.post("/v1/uploads", headers=create)).headers["Location"] for _ in range(2)]
        await shows(lambda: "part of a file" in text_of(panel))
        append = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        for part in parts:
            await http.patch(part, headers=append, content=b"x" * 1000)
        name = f"filename {base64.b64encode(b'big.bin').decode()}"
        join = {"Upload-Concat": f"final;{' '.join(parts)}", "Upload-Metadata": name}
        (await http.post("/v1/uploads", headers=join)).raise_for_status()
    await shows(lambda: "big.bin" in text_of(panel) and "no upload is going on" in text_of(panel))
    panel.close()


def test_a_digest_that_was_made_later_is_added_to_the_version_that_it_is_of() -> None:
    listing = ServerListing()
    listing.apply_event(event("file", "a", "published", size=10, etag="one"))
    listing.apply_event(event("file", "a", "digest", sha256="ab", etag="another"))
    listing.apply_event(event("file", "unknown", "digest", sha256="ab", etag="one"))
    assert [file.sha256 for file in listing.files.values()] == [None]
    listing.apply_event(event("file", "a", "digest", sha256="cd", etag="one"))
    assert [(file.name, file.size, file.sha256) for file in listing.files.values()] == [("a", 10, "cd")]
