"""Files that come as a form, as curl -F, requests and pages send them; and what can't be kept of a body is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import os
from pathlib import Path

import httpx
import pytest

from tests.support.uploads import OCTETS, PARTIAL, TUS, Raw, metadata, shown, until
from tornado_app.app import App
from tornado_app.settings import Settings

BOUNDARY = "----a-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, reserve_space=0, max_upload_size=10_000_000)


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


def part(content: bytes, disposition: str = 'form-data; name="file"; filename="a.bin"', more: str = "") -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n{more}\r\n"
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def in_the_making(http: httpx.AsyncClient) -> list[str]:
    return [item["name"] for item in (await http.get("/v1/uploads")).json()["items"] if not item["complete"]]


class TestPost:
    @pytest.mark.parametrize("size", [0, 1, 100, 3_000_000])
    async def test_the_file_of_a_form_is_published_under_its_name(
        self, http: httpx.AsyncClient, files: Path, size: int
    ) -> None:
        data = os.urandom(size)
        answer = await http.post("/v1/uploads", files={"anything": ("folder/übung.bin", data, "image/png")})
        assert answer.status_code == 201, answer.text
        assert answer.json()["size"] == size
        assert shown(files) == {"folder/übung.bin": data}

    @pytest.mark.parametrize(
        ("disposition", "name"),
        [
            ("form-data; name=file; filename=plain.txt", "plain.txt"),
            ("form-data; filename*=UTF-8''%C3%A4.txt; name=f", "ä.txt"),
            ('form-data; name="f"; filename="a%22b;c=d.txt"', 'a"b;c=d.txt'),
            ('form-data; name="f"; filename="a\\"b.txt"', 'a"b.txt'),
        ],
    )
    async def test_names_are_read_as_clients_write_them(
        self, http: httpx.AsyncClient, files: Path, disposition: str, name: str
    ) -> None:
        answer = await http.post("/v1/uploads", headers=FORM, content=form(part(b"x", disposition)))
        assert answer.status_code == 201, answer.text
        assert shown(files) == {name: b"x"}

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (form(), "no field"),
            (b"", "closing boundary"),
            (form(part(b"x", 'form-data; name="note"')), "field 'note' of the form is not a file"),
            (form(part(b"x", 'form-data; name="f"; filename=""')), "is not a file"),
            (form(part(b"x"), part(b"y")), "second field"),
            (form(part(b"x"), part(b"y", 'form-data; name="note"')), "second field, 'note'"),
            (form(part(b"x"))[:-10], "closing boundary"),
            (part(b"x" * 3_000_000), "closing boundary"),
            (form(part(b"eA==", more="Content-Transfer-Encoding: base64\r\n")), "encoded as base64"),
            (form(part(b"x", 'form-data; name="f"; filename="../a"')), "is not a file name here"),
        ],
    )
    async def test_what_is_not_one_file_is_refused_and_leaves_nothing(
        self, http: httpx.AsyncClient, files: Path, body: bytes, says: str
    ) -> None:
        answer = await http.post("/v1/uploads", headers=FORM, content=body)
        assert answer.status_code == 400, answer.text
        assert says in answer.json()["detail"]
        assert shown(files) == {}
        assert await in_the_making(http) == []

    async def test_a_form_without_a_boundary_is_a_415_with_the_right_command(self, http: httpx.AsyncClient) -> None:
        for method, url in (("POST", "/v1/uploads"), ("PUT", "/v1/files/a")):
            answer = await http.request(method, url, headers={"Content-Type": "multipart/form-data"}, content=b"abc")
            assert answer.status_code == 415
            assert "curl -F file=@PATH http://127.0.0.1" in answer.json()["detail"]

    async def test_a_file_past_the_limit_or_over_another_is_refused(self, http: httpx.AsyncClient, files: Path) -> None:
        answer = await http.post("/v1/uploads", files={"file": ("big", b"x" * 10_000_001)})
        assert answer.status_code == 413
        await http.put("/v1/files/a.bin", content=b"old")
        assert (await http.post("/v1/uploads", files={"file": ("a.bin", b"new")})).status_code == 409
        assert shown(files) == {"a.bin": b"old"}
        assert (await http.post("/v1/uploads?overwrite=true", files={"file": ("a.bin", b"new")})).status_code == 201
        assert shown(files) == {"a.bin": b"new"}
        assert await in_the_making(http) == []

    async def test_any_split_of_the_body_is_the_same_file(
        self, http: httpx.AsyncClient, files: Path, base_url: str
    ) -> None:
        body = form(part(b"\r\n--" + BOUNDARY[:-1].encode() + b"\r\n-"))
        for step in (1, 2, 7, 50):
            raw = Raw(base_url)
            await raw.send("POST /v1/uploads?overwrite=true", {**FORM, "Content-Length": len(body)})
            for at in range(0, len(body), step):
                raw.writer.write(body[at : at + step])
                await raw.writer.drain()
                await asyncio.sleep(0)
            assert (await raw.head())[0] == 201
            assert shown(files) == {"a.bin": b"\r\n--" + BOUNDARY[:-1].encode() + b"\r\n-"}
            raw.close()

    async def test_one_that_is_cut_leaves_nothing(self, http: httpx.AsyncClient, files: Path, base_url: str) -> None:
        raw = Raw(base_url)
        await raw.send("POST /v1/uploads", {**FORM, "Content-Length": 5000}, part(b"x" * 100))
        await until(lambda: in_the_making(http))
        raw.close()

        async def gone() -> bool:
            return not await in_the_making(http)

        await until(gone)
        assert shown(files) == {}


class TestPut:
    async def test_of_a_form_the_file_is_kept_and_the_url_names_it(
        self, http: httpx.AsyncClient, files: Path, app: App
    ) -> None:
        for size, status in ((3_000_000, 201), (5, 200)):
            data = os.urandom(size)
            answer = await http.put("/v1/files/named/here", files={"file": ("not-this", data)})
            assert (answer.status_code, answer.json()["size"]) == (status, size)
            assert shown(files) == {"named/here": data}
        for bad in (form(), form(part(b"x"), part(b"y")), form(part(b"z" * 100_000))[:-5]):
            assert (await http.put("/v1/files/named/here", headers=FORM, content=bad)).status_code == 400
        assert shown(files) == {"named/here": data}
        assert await in_the_making(http) == []

    async def test_a_form_with_a_digest_is_refused_for_nobody_knows_of_what(self, http: httpx.AsyncClient) -> None:
        digest = {"Content-Digest": "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:"}
        answer = await http.put("/v1/files/a", headers=FORM | digest, content=form(part(b"abc")))
        assert answer.status_code == 415
        assert "curl -T PATH" in answer.json()["detail"]


class TestResumable:
    async def test_a_form_is_no_part_of_an_upload(self, http: httpx.AsyncClient, files: Path) -> None:
        for more in ({"Upload-Complete": "?1"}, {**TUS, "Upload-Length": "200"}):
            answer = await http.post("/v1/uploads", headers=FORM | more, content=form(part(b"abc")))
            assert answer.status_code == 415, answer.text
        assert await in_the_making(http) == []
        assert shown(files) == {}


class TestContentEncoding:
    async def test_is_refused_with_what_would_do_and_nothing_is_kept(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        body = gzip.compress(b"abc")
        tus = (await http.post("/v1/uploads", headers={**TUS, "Upload-Length": "3"})).headers["Location"]
        draft = (await http.post("/v1/uploads", headers={"Upload-Complete": "?0"})).headers["Location"]
        for method, url, headers in (
            ("PUT", "/v1/files/a", {}),
            ("POST", "/v1/uploads", {}),
            ("POST", "/v1/uploads", {"Upload-Complete": "?1"}),
            ("POST", "/v1/uploads", {**OCTETS, "Upload-Length": str(len(body)), **metadata(filename="a")}),
            ("PATCH", tus, {**OCTETS, "Upload-Offset": "0"}),
            ("PATCH", draft, {**PARTIAL, "Upload-Offset": "0", "Upload-Complete": "?1"}),
        ):
            for coding in ("gzip", "br", "gzip, identity", "Deflate"):
                answer = await http.request(method, url, headers={**headers, "Content-Encoding": coding}, content=body)
                assert answer.status_code == 415, (method, headers, answer.text)
                assert answer.headers["Accept-Encoding"] == "identity"
                assert "without that field" in answer.json()["detail"]
        assert shown(files) == {}
        answer = await http.put("/v1/files/a", headers={"Content-Encoding": "identity"}, content=b"abc")
        assert answer.status_code == 201
