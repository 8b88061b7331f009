"""Places of uploads: an empty one holds its place for minutes, and one client does not hold them all."""

from __future__ import annotations

import dataclasses
import time

import httpx
import pytest

from tests.support.uploads import OCTETS, TUS, metadata
from tornado_app import clocks
from tornado_app.app import App
from tornado_app.files.uploads.expiry import EMPTY_EXPIRY_S
from tornado_app.files.uploads.upload import UploadRecord
from tornado_app.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, reserve_space=0, max_uploads=6, max_uploads_each=3)


def ways(number: int) -> list[tuple[str, str, dict[str, str]]]:
    return [
        ("POST", "/v1/uploads", {**TUS, "Upload-Length": "9"}),
        ("POST", "/v1/uploads", {"Upload-Complete": "?0"}),
        ("POST", f"/upload/?file_name=seed-{number}&file_size=9&bytes_read=0", {}),
    ]


async def test_one_client_has_its_share_whichever_way_it_comes_and_another_has_its_own(
    http: httpx.AsyncClient, base_url: str
) -> None:
    for method, url, headers in ways(0):
        assert (await http.request(method, url, headers=headers)).is_success
    for method, url, headers in [*ways(1), ("PUT", "/v1/files/a", {})]:
        answer = await http.request(method, url, headers=headers, content=b"")
        assert answer.status_code == (400 if url.startswith("/upload/") else 429), answer.text
        assert "--max-uploads-each" in answer.json()["detail"]
        assert int(answer.headers["Retry-After"]) > 0
    # Another token, or another address, has places of its own.
    other = {"Authorization": "Bearer another"}
    answer = await http.post("/v1/uploads", headers={**TUS, "Upload-Length": "9", **other})
    assert answer.status_code == 201
    there = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(base_url=base_url, transport=there) as elsewhere:
        assert (await elsewhere.post("/v1/uploads", headers={**TUS, "Upload-Length": "9"})).status_code == 201
    # What ends gives its place back.
    done = await http.post(
        "/v1/uploads", headers={**OCTETS, "Upload-Length": "1", **metadata(filename="b")}, content=b""
    )
    assert done.status_code == 429
    for item in (await http.get("/v1/uploads")).json()["items"]:
        await http.delete(f"/v1/uploads/{item['id']}", headers=TUS)
    for number in range(4):
        assert (await http.put(f"/v1/files/{number}", content=b"x")).status_code == 201


async def test_an_upload_without_a_byte_goes_after_minutes_and_one_with_some_stays(
    app: App, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = app.services.files.uploads
    empty = await uploads.create(UploadRecord("tus", "empty", time.time(), length=9))
    begun = await uploads.create(UploadRecord("tus", "begun", time.time(), length=9))
    part = await uploads.create(UploadRecord("tus", None, time.time(), length=9, concat="partial"))
    whole = await uploads.create(UploadRecord("tus", "whole", time.time(), parts=[part.id], concat="final"))
    writer = await uploads.write(begun, 0)
    writer.write(b"x")
    await uploads.finish(writer)
    assert uploads.expires(empty) - time.time() < EMPTY_EXPIRY_S + 1 < uploads.expires(begun) - time.time()
    assert uploads.expires(whole) > uploads.expires(empty), "it waits for its parts"
    now = clocks.steady()
    monkeypatch.setattr(clocks, "steady", lambda: now + EMPTY_EXPIRY_S + 5)
    await app.services.files.expiry.sweep()
    assert {upload.id for upload in uploads} == {begun.id, whole.id}
    answer = await http.head(f"/v1/uploads/{empty.id}", headers=TUS)
    assert answer.status_code == 410
