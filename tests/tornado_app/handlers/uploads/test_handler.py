"""`/v1/uploads`: what every protocol shares on the wire."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import httpx
import pytest

from tests.support.uploads import OCTETS, PARTIAL, TUS, Raw, metadata
from tornado_app.handlers.uploads.handler import UploadsHandler
from tornado_app.handlers.uploads.messages import Receiver
from tornado_app.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, max_upload_size=9_000_000, allow_origin=("https://page.example",))


async def create(http: httpx.AsyncClient, name: str = "a", **headers: str) -> str:
    answer = await http.post("/v1/uploads", headers={**TUS, "Upload-Length": "5", **metadata(filename=name), **headers})
    assert answer.status_code == 201, answer.text
    return str(answer.headers["Location"])


async def test_options_describe_both_protocols(http: httpx.AsyncClient) -> None:
    answer = await http.options("/v1/uploads")
    assert answer.status_code == 204
    assert (answer.headers["Tus-Version"], answer.headers["Tus-Max-Size"]) == ("1.0.0", "9000000")
    assert answer.headers["Upload-Limit"].startswith("max-size=9000000, max-age=")
    assert "Upload-Limit" not in (await http.options("/v1/uploads", headers={"Upload-Complete": "?1"})).headers


async def test_a_preflight_names_the_headers_of_both_protocols(http: httpx.AsyncClient) -> None:
    headers = {"Origin": "https://page.example", "Access-Control-Request-Method": "PATCH"}
    answer = await http.options("/v1/uploads", headers=headers)
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Tus-Resumable", "Upload-Checksum", "Upload-Complete", "Content-Digest"} <= set(allowed)
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Location", "Upload-Offset", "Upload-Limit", "Tus-Max-Size"} <= set(exposed)


async def test_uploads_are_listed_in_pages(http: httpx.AsyncClient) -> None:
    ids = sorted([(await create(http, f"f{n}")).rpartition("/")[2] for n in range(3)])
    first = (await http.get("/v1/uploads?limit=2")).json()
    rest = (await http.get("/v1/uploads", params={"cursor": first["next"]})).json()
    assert [each["id"] for each in first["items"] + rest["items"]] == ids
    assert rest["next"] is None
    assert (await http.get("/v1/uploads?limit=0")).json()["field"] == "limit"


async def test_an_upload_is_shown_with_the_offset_to_go_on_from(http: httpx.AsyncClient) -> None:
    url = await create(http)
    await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=b"abc")
    answer = await http.get(url)
    assert (answer.json()["offset"], answer.json()["length"], answer.json()["complete"]) == (3, 5, False)
    assert answer.headers["Upload-Offset"] == "3"
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.headers["Content-Type"] == "application/json"


async def test_an_error_is_in_the_terms_of_the_protocol(http: httpx.AsyncClient) -> None:
    url = await create(http)
    by_tus = await http.patch(url, headers={**OCTETS, "Upload-Offset": "3"}, content=b"x")
    assert (by_tus.json()["type"], by_tus.headers["Tus-Resumable"]) == ("/problems/offset-mismatch", "1.0.0")
    missing = {**PARTIAL, "Upload-Offset": "3", "Upload-Complete": "?1"}
    by_draft = await http.patch("/v1/uploads/none", headers=missing, content=b"x")
    assert (by_draft.status_code, by_draft.headers["Upload-Complete"]) == (404, "?0")
    assert "Tus-Resumable" not in by_draft.headers


async def test_an_interim_response_comes_before_the_body_is_sent(base_url: str) -> None:
    raw = Raw(base_url)
    headers = {"Upload-Complete": "?1", "Upload-Draft-Interop-Version": "8", "Content-Length": "3"}
    await raw.send("POST /v1/uploads", headers)
    status, fields = await raw.head()
    assert status == 104
    assert fields["Location"].startswith("/v1/uploads/")
    raw.writer.write(b"abc")
    assert (await raw.head())[0] == 201
    raw.close()


async def test_the_writer_is_known_before_an_interim_response_is_sent(
    base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending may find that the connection is lost: nobody would end the writer then."""
    known: list[bool] = []
    receive = UploadsHandler.receive

    def watched(handler: UploadsHandler, receiver: Receiver) -> None:
        class Interim(tuple[bytes, ...]):
            def __iter__(self) -> Iterator[bytes]:
                known.append(handler.writer is not None)
                return super().__iter__()

        receive(handler, dataclasses.replace(receiver, interim=Interim(receiver.interim)))

    monkeypatch.setattr(UploadsHandler, "receive", watched)
    raw = Raw(base_url)
    headers = {"Upload-Complete": "?1", "Upload-Draft-Interop-Version": "8", "Content-Length": "3"}
    await raw.send("POST /v1/uploads", headers, b"abc")
    assert [(await raw.head())[0], known] == [104, [True]]
    raw.close()


async def test_after_a_response_the_connection_is_good_for_another_request(base_url: str) -> None:
    raw = Raw(base_url)
    await raw.send("POST /v1/uploads", {**TUS, "Upload-Length": "5", "Content-Length": "0"})
    assert (await raw.head())[0] == 201
    raw.writer.write(f"GET /v1/uploads HTTP/1.1\r\nHost: 127.0.0.1:{raw.port}\r\n\r\n".encode())
    assert (await raw.head())[0] == 200
    raw.close()
