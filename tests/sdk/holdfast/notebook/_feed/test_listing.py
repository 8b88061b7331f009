"""Uploads and files as views know them: listings and events of the same things, whichever comes first."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
    client: holdfast.AsyncClient, messages: list[Message], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    panel = Dashboard(client, ["uploads", "files"])
    upload = client.files.upload(os.urandom(9_000_000), "big.bin", segments=3, limit=9_000_000)
    await shows(lambda: "part of a file" in text_of(panel))
    await upload
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
