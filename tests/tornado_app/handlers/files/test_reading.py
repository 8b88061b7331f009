"""`/v1/files`: whole files, listing, deleting."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.downloads import BIG, SMALL, Fields, get, raw, validators
from tests.support.uploads import TUS, metadata
from tornado_app.protocols import dates
from tornado_app.settings import Settings

pytestmark = pytest.mark.usefixtures("both_ways")


# -- whole files


@pytest.mark.parametrize(("name", "content"), [("small.bin", SMALL), ("big.bin", BIG)])
async def test_a_file_comes_whole(
    http: httpx.AsyncClient, files: Path, way_out: str, name: str, content: bytes
) -> None:
    answer = await get(http, name)
    assert answer.status_code == 200
    assert answer.content == content
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert dates.read(answer.headers["Last-Modified"]) == int((files / name).stat().st_mtime)
    assert answer.headers["ETag"].startswith('"')


async def test_an_empty_file_is_a_whole_answer(http: httpx.AsyncClient, files: Path) -> None:
    (files / "empty.csv").touch()
    answer = await get(http, "empty.csv")
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("name", "path", "disposition"),
    [
        ("a b.csv", "a%20b.csv", 'attachment; filename="a b.csv"'),
        ("deep/er/a.csv", "deep/er/a.csv", 'attachment; filename="a.csv"'),
        ("deep/er/a.csv", "deep%2Fer%2Fa.csv", 'attachment; filename="a.csv"'),
        ("Grüße €.csv", "Gr%C3%BC%C3%9Fe%20%E2%82%AC.csv", "filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%E2%82%AC.csv"),
        ("100%.csv", "100%25.csv", "filename*=UTF-8''100%25.csv"),
        ("a+b.csv", "a+b.csv", 'attachment; filename="a+b.csv"'),
    ],
)
async def test_names_of_any_script_and_in_folders(
    http: httpx.AsyncClient, files: Path, name: str, path: str, disposition: str
) -> None:
    (files / name).parent.mkdir(parents=True, exist_ok=True)
    (files / name).write_text("x,y\n")
    answer = await get(http, path)
    assert (answer.status_code, answer.text) == (200, "x,y\n")
    assert disposition in answer.headers["Content-Disposition"]
    assert answer.headers["Content-Type"] == "text/csv"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nothing.bin", 404),
        ("nothing/at/all", 404),
        ("folder", 400),
        ("small.bin/x", 400),
        ("%2E%2E/%2E%2E/etc/passwd", 400),
        ("a%2F..%2F..%2Fetc%2Fpasswd", 400),
        ("%2Fetc%2Fpasswd", 400),
        (".holdfast/uploads/x", 400),
        (".holdfast", 400),
        ("link/secret", 400),
        ("a%00b", 400),
        ("%FF", 400),
        ("a%0Ab", 400),
        ("a//b", 400),
        ("a%E2%80%AEb", 400),
    ],
)
async def test_what_can_be_no_file_is_not_found_and_not_written(
    base_url: str, files: Path, path: str, status: int
) -> None:
    (files / "folder").mkdir()
    (files / "link").symlink_to("/")
    # Bare sockets: clients tidy such paths up.
    close = "Host: 127.0.0.1\r\nConnection: close\r\n"
    wanted = {"GET": 404, "HEAD": 404, "DELETE": 404 if "%E2" in path else status}
    if status == 400:
        wanted["PUT"] = 400
    for method, expected in wanted.items():
        answer = await raw(base_url, f"{method} /v1/files/{path} HTTP/1.1\r\n{close}Content-Length: 0\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % expected), head
        assert b"application/problem+json" in head
        assert method == "HEAD" or b'"detail":"' in body


async def test_names_with_a_leading_dot_are_names_like_any_other(http: httpx.AsyncClient, files: Path) -> None:
    for name in (".nojekyll", ".gitattributes", "a.zarr/.zgroup", "site/.well-known/.x"):
        assert (await http.put(f"/v1/files/{name}", content=b"x")).status_code == 201
        answer = await get(http, name)
        assert (answer.status_code, answer.content) == (200, b"x")
        assert f'filename="{name.rpartition("/")[2]}"' in answer.headers["Content-Disposition"]
        assert [file["name"] for file in (await http.get("/v1/files", params={"prefix": name})).json()["items"]] == [
            name
        ]
        assert (await http.delete(f"/v1/files/{name}")).status_code == 204


async def test_other_methods_are_refused_with_those_that_are_allowed(http: httpx.AsyncClient, files: Path) -> None:
    for method in ("POST", "PATCH"):
        answer = await http.request(method, "/v1/files/small.bin")
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}
    answer = await http.options("/v1/files/small.bin")
    assert answer.status_code == 204
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-2"}, {"Range": "bytes=99999-"}])
async def test_a_head_says_what_a_plain_get_would(http: httpx.AsyncClient, files: Path, headers: Fields) -> None:
    for name in ("small.bin", "big.bin"):
        whole = await get(http, name)
        head = await http.head(f"/v1/files/{name}", headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        assert {**head.headers, "date": ""} == {**whole.headers, "date": ""}


# -- the list


@pytest.fixture
async def listed(http: httpx.AsyncClient, settings: Settings) -> list[str]:
    names = ["a.csv", "b/1.csv", "b/2.csv", "b/c/3.json", "ü.txt"]
    for name in names:
        (settings.files_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.files_dir / name).write_text(name)
    return names


async def test_files_are_listed_by_name_with_what_is_known_of_them(http: httpx.AsyncClient, listed: list[str]) -> None:
    await http.put("/v1/files/sent.csv", content=b"1,2\n")
    page = (await http.get("/v1/files")).json()
    assert [item["name"] for item in page["items"]] == sorted([*listed, "sent.csv"])
    assert page["next"] is None
    by_name = {item["name"]: item for item in page["items"]}
    assert by_name["b/c/3.json"]["content_type"] == "application/json"
    assert by_name["b/c/3.json"]["sha256"] is None
    sent = by_name["sent.csv"]
    assert (sent["size"], sent["sha256"]) == (4, hashlib.sha256(b"1,2\n").hexdigest())
    assert sent["etag"] == (await http.head("/v1/files/sent.csv")).headers["ETag"].strip('"')


async def test_a_list_has_a_prefix_and_pages(http: httpx.AsyncClient, listed: list[str]) -> None:
    async def names(**query: Any) -> list[str]:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = (await http.get("/v1/files", params={**query, "cursor": cursor})).json()
            found += [item["name"] for item in page["items"]]
            assert len(page["items"]) <= query.get("limit", 100)
            cursor = page["next"]
        return found

    assert await names(prefix="b/") == ["b/1.csv", "b/2.csv", "b/c/3.json"]
    assert await names(prefix="b/c") == ["b/c/3.json"]
    assert await names(prefix="nothing") == []
    for limit in (1, 2, 3):
        assert await names(limit=limit) == listed
    assert (await http.get("/v1/files/")).json()["items"]
    for wrong in ("0", "-1", "x", "100000"):
        assert (await http.get("/v1/files", params={"limit": wrong})).status_code == 400


# -- deleting


async def test_a_list_by_level_has_files_and_prefixes(http: httpx.AsyncClient, listed: list[str]) -> None:
    (await http.put("/v1/files/b/c/.zgroup", content=b"{}")).raise_for_status()

    async def level(**query: Any) -> tuple[list[str], list[str], str | None]:
        page = (await http.get("/v1/files", params={"delimiter": "/", **query})).raise_for_status().json()
        return [item["name"] for item in page["items"]], page["prefixes"], page["next"]

    assert await level() == (["a.csv", "ü.txt"], ["b/"], None)
    assert await level(limit=2) == (["a.csv"], ["b/"], "b/")
    assert await level(limit=2, cursor="b/") == (["ü.txt"], [], None)
    assert await level(prefix="b/") == (["b/1.csv", "b/2.csv"], ["b/c/"], None)
    assert await level(prefix="b/", limit=1, cursor="b/1.csv") == (["b/2.csv"], [], "b/2.csv")
    assert await level(prefix="b") == ([], ["b/"], None)
    assert await level(prefix="b/c/") == (["b/c/.zgroup", "b/c/3.json"], [], None)
    for nowhere in ("x/", "a.csv/", "../", "b//", ".holdfast/", "/"):
        assert await level(prefix=nowhere) == ([], [], None)
    refused = await http.get("/v1/files", params={"delimiter": "|"})
    assert refused.status_code == 400
    assert "delimiter" in refused.json()["detail"]


async def test_a_file_is_deleted(http: httpx.AsyncClient, files: Path) -> None:
    answer = await http.delete("/v1/files/small.bin")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not (files / "small.bin").exists()
    assert (await http.delete("/v1/files/small.bin")).status_code == 404


async def test_a_file_is_deleted_only_as_it_was_known(http: httpx.AsyncClient, files: Path) -> None:
    etag, _ = await validators(http)
    (files / "small.bin").write_bytes(b"new")
    for headers in (
        {"If-Match": etag},
        {"If-Unmodified-Since": dates.write(1_000_000_000)},
        {"If-None-Match": "*"},
    ):
        assert (await http.delete("/v1/files/small.bin", headers=headers)).status_code == 412
    assert (await http.delete("/v1/files/small.bin", headers={"If-Match": "unquoted"})).status_code == 400
    assert (files / "small.bin").read_bytes() == b"new"
    etag, _ = await validators(http)
    assert (await http.delete("/v1/files/small.bin", headers={"If-Match": etag})).status_code == 204


# -- pages of other sites


class TestOrigins:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "a.csv").write_text("1")
        return Settings(
            port=0,
            files_dir=tmp_path / "files",
            data_dir=tmp_path / "data",
            allow_origin=("https://lab.example",),
            token="t",
        )

    async def test_an_allowed_page_may_read_every_header_of_an_answer(self, http: httpx.AsyncClient) -> None:
        headers = {"Origin": "https://lab.example", "Authorization": "Bearer t"}
        for path in ("/v1/files/a.csv", "/v1/files"):
            answer = await http.get(path, headers=headers)
            assert answer.status_code == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "https://lab.example"
            exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
            assert {"ETag", "Content-Range", "Accept-Ranges", "Repr-Digest", "Content-Disposition"} <= exposed

    async def test_an_allowed_page_may_ask_before_it_sends(self, http: httpx.AsyncClient) -> None:
        answer = await http.options(
            "/v1/files/a.csv", headers={"Origin": "https://lab.example", "Access-Control-Request-Method": "PUT"}
        )
        assert answer.status_code == 204
        assert "PUT" in answer.headers["Access-Control-Allow-Methods"].split(", ")
        assert {"Authorization", "Range", "If-Range", "If-Match", "Repr-Digest"} <= set(
            answer.headers["Access-Control-Allow-Headers"].split(", ")
        )

    async def test_any_other_page_may_not(self, http: httpx.AsyncClient) -> None:
        headers = {"Origin": "https://evil.example", "Authorization": "Bearer t"}
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            answer = await http.request(method, "/v1/files/a.csv", headers=headers)
            assert answer.status_code == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
        assert (await http.get("/v1/files/a.csv")).status_code == 401


async def test_dot_names_come_in_on_every_way(http: httpx.AsyncClient, files: Path) -> None:
    tus = {**TUS, "Upload-Length": "1", "Content-Type": "application/offset+octet-stream"}
    draft = {"Upload-Complete": "?1", "Content-Disposition": 'attachment; filename=".draft/.x"'}
    answers = [
        await http.put("/v1/files/.put/.x", content=b"x"),
        await http.post("/v1/uploads", headers=tus | metadata(filename=".tus/.x"), content=b"x"),
        await http.post("/v1/uploads", headers=draft, content=b"x"),
        await http.post("/upload/?file_name=.seed/.x&file_size=1", content=b"x"),
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 200], [answer.text for answer in answers]
    wanted = {f"{way}/.x" for way in (".put", ".tus", ".draft", ".seed")}
    found = (await http.get("/v1/files", params={"prefix": "."})).json()["items"]
    assert {file["name"] for file in found} == wanted
    assert (await http.get("/download/?file_name=.seed/.x")).json()["file_content"] == "x"
