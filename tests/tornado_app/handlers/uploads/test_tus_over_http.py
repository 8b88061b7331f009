"""tus 1.0.0: the core and each extension, header by header."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import os
import time
import zlib
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import PATIENCE
from tests.support.uploads import OCTETS, TUS, Raw, metadata, shown, until
from tornado_app import clocks
from tornado_app.app import App
from tornado_app.settings import Settings

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(
        settings, max_upload_size=10_000_000, max_uploads=20, reserve_space=0, allow_origin=("https://page.example",)
    )


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


async def create(http: httpx.AsyncClient, length: int | None, **headers: Any) -> str:
    """Create an upload; its URL."""
    size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    answer = await http.post("/v1/uploads", headers={**TUS, **size, **headers})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    return str(answer.headers["Location"])


async def patch(http: httpx.AsyncClient, url: str, offset: int, data: bytes, **headers: str) -> httpx.Response:
    return await http.patch(url, headers={**OCTETS, "Upload-Offset": str(offset), **headers}, content=data)


async def offset(http: httpx.AsyncClient, url: str) -> int:
    answer = await http.head(url, headers=TUS)
    assert answer.status_code == 200, answer.headers
    return int(answer.headers["Upload-Offset"])


def assert_refused(answer: httpx.Response, status: int, says: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    body: dict[str, Any] = answer.json()
    assert says in body["detail"], body
    return body


def checksum(algorithm: str, data: bytes) -> dict[str, str]:
    digest = zlib.crc32(data).to_bytes(4, "big") if algorithm == "crc32" else hashlib.new(algorithm, data).digest()
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(digest).decode()}"}


class TestCore:
    async def test_pieces_become_a_file(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, 10, **metadata(filename="folder/a.txt"))
        assert url.startswith("/v1/uploads/")
        first = await patch(http, url, 0, b"01234")
        assert (first.status_code, first.headers["Upload-Offset"], first.content) == (204, "5", b"")
        assert shown(files) == {}
        assert await offset(http, url) == 5
        last = await patch(http, url, 5, b"56789")
        assert (last.status_code, last.headers["Upload-Offset"]) == (204, "10")
        assert shown(files) == {"folder/a.txt": b"0123456789"}
        assert await offset(http, url) == 10

    async def test_head_tells_offset_length_and_metadata_and_is_not_cached(self, http: httpx.AsyncClient) -> None:
        sent = "filename w6Q=,empty,is_confidential ,name  " + base64.b64encode(b"\xff\0").decode()
        sent = sent.replace("name  ", "name ")
        url = await create(http, 10, **{"Upload-Metadata": sent})
        answer = await http.head(url, headers=TUS)
        assert answer.headers["Upload-Offset"] == "0"
        assert answer.headers["Upload-Length"] == "10"
        assert answer.headers["Upload-Metadata"] == sent.strip()
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert "ETag" not in answer.headers

    @pytest.mark.parametrize("wrong", [0, 4, 6, 99])
    async def test_another_offset_is_a_409_and_changes_nothing(self, http: httpx.AsyncClient, wrong: int) -> None:
        url = await create(http, 100)
        await patch(http, url, 0, b"01234")
        said = assert_refused(await patch(http, url, wrong, b"x"), 409, "stands at byte 5")
        assert (said["expected-offset"], said["provided-offset"]) == (5, wrong)
        assert await offset(http, url) == 5

    @pytest.mark.parametrize("value", ["-1", "+1", "x", "", "1.0", "1_0", "٣", "9" * 19, "1,1"])
    async def test_an_offset_that_is_no_number_is_a_400(self, http: httpx.AsyncClient, value: str) -> None:
        url = await create(http, 100)
        headers = {**OCTETS, "Upload-Offset": value.encode()}
        assert_refused(await http.patch(url, headers=headers, content=b"x"), 400, "Upload-Offset")  # type: ignore[arg-type]

    async def test_a_missing_offset_is_a_400(self, http: httpx.AsyncClient) -> None:
        url = await create(http, 100)
        assert_refused(await http.patch(url, headers=OCTETS, content=b"x"), 400, "Upload-Offset is missing")

    @pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", ""])
    async def test_another_media_type_is_a_415_that_tells_the_right_one(
        self, http: httpx.AsyncClient, kind: str
    ) -> None:
        url = await create(http, 100)
        answer = await http.patch(url, headers={**TUS, "Upload-Offset": "0", "Content-Type": kind}, content=b"x")
        assert_refused(answer, 415, "application/offset+octet-stream")
        assert answer.headers["Accept-Patch"] == "application/offset+octet-stream"
        assert await offset(http, url) == 0

    async def test_what_is_not_there_is_a_404_without_an_offset(self, http: httpx.AsyncClient) -> None:
        for answer in (
            await http.head("/v1/uploads/nope", headers=TUS),
            await patch(http, "/v1/uploads/nope", 0, b""),
            await http.delete("/v1/uploads/nope", headers=TUS),
        ):
            assert answer.status_code == 404
            assert "Upload-Offset" not in answer.headers

    @pytest.mark.parametrize("version", [None, "0.2.2", "1.0.1", "1.0.0, 1.0.0"])
    async def test_another_version_is_a_412_with_the_right_one(
        self, http: httpx.AsyncClient, version: str | None
    ) -> None:
        url = await create(http, 10)
        headers = {"Content-Type": OCTETS["Content-Type"], "Upload-Offset": "0", "Upload-Length": "5"}
        if version is not None:
            headers["Tus-Resumable"] = version
        answers = [
            await http.post("/v1/uploads", headers=headers),
            await http.patch(url, headers=headers, content=b"x"),
            await http.head(url, headers=headers),
            await http.delete(url, headers=headers),
        ]
        for answer in answers:
            assert answer.status_code == 412
            assert answer.headers["Tus-Version"] == "1.0.0"
            assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert await offset(http, url) == 0

    async def test_options_tells_what_there_is_without_a_version(self, http: httpx.AsyncClient) -> None:
        url = await create(http, 10)
        for target in ("/v1/uploads", url):
            answer = await http.options(target, headers={"Tus-Resumable": "0.1"})
            assert answer.status_code == 204
            assert answer.headers["Tus-Version"] == "1.0.0"
            assert answer.headers["Tus-Max-Size"] == "10000000"
            assert set(answer.headers["Tus-Extension"].split(",")) == {
                *("creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum", "termination"),
                *("concatenation", "concatenation-unfinished"),
            }
            assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,md5,crc32"

    async def test_the_method_may_be_overridden(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, 5, **metadata(filename="a"))
        headers = {**OCTETS, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
        answer = await http.post(url, headers=headers, content=b"abc")
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "3")
        answer = await http.post(url, headers={**TUS, "X-HTTP-Method-Override": "head"})
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (200, "3")
        answer = await http.post(url, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})
        assert answer.status_code == 204
        assert (await http.head(url, headers=TUS)).status_code == 404
        assert (await http.post(url, headers=TUS)).status_code == 405

    async def test_in_place_of_a_head_an_error_has_no_content_either(self, base_url: str) -> None:
        raw = Raw(base_url)
        headers = {**TUS, "X-HTTP-Method-Override": "HEAD", "Content-Length": 0}
        await raw.send("POST /v1/uploads/none", headers)
        status, fields = await raw.head()
        assert (status, fields["Content-Length"]) == (404, "0")
        raw.writer.write(f"GET /v1/uploads/none HTTP/1.1\r\nHost: 127.0.0.1:{raw.port}\r\n\r\n".encode())
        assert (await raw.head())[0] == 404, "the connection is good for another request"
        raw.close()

    async def test_a_head_stays_one(self, http: httpx.AsyncClient) -> None:
        url = await create(http, 5)
        answer = await http.head(url, headers={**TUS, "X-HTTP-Method-Override": "GET"})
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (200, "0")

    async def test_bytes_past_the_length_are_refused_before_they_come(self, http: httpx.AsyncClient) -> None:
        url = await create(http, 5)
        assert_refused(await patch(http, url, 0, b"123456"), 400, "go past the upload's length of 5")
        assert await offset(http, url) == 0
        assert (await patch(http, url, 0, b"123")).status_code == 204
        assert_refused(await patch(http, url, 3, b"456"), 400, "go past")

    async def test_a_stream_past_the_length_keeps_nothing_after_it(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, 5, **metadata(filename="a"))

        async def chunks() -> AsyncIterator[bytes]:
            yield b"1234"
            yield b"5678"

        answer = await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=chunks())
        assert_refused(answer, 400, "past the upload's end at 5 bytes")
        assert shown(files) == {}
        assert (await patch(http, url, 5, b"")).status_code == 204
        assert shown(files) == {"a": b"12345"}

    async def test_an_empty_patch_on_a_complete_upload_is_a_204(self, http: httpx.AsyncClient) -> None:
        url = await create(http, 3)
        await patch(http, url, 0, b"abc")
        answer = await patch(http, url, 3, b"")
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "3")
        assert_refused(await patch(http, url, 3, b"d"), 400, "go past")
        assert_refused(await patch(http, url, 0, b"abc"), 409, "stands at byte 3")

    async def test_without_a_name_the_file_is_named_by_the_upload(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, 3)
        await patch(http, url, 0, b"abc")
        assert shown(files) == {url.rpartition("/")[2]: b"abc"}


class TestCreation:
    async def test_an_upload_of_length_zero_is_complete_at_once(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, 0, **metadata(filename="empty"))
        assert shown(files) == {"empty": b""}
        assert await offset(http, url) == 0

    @pytest.mark.parametrize(
        ("headers", "status", "says"),
        [
            ({}, 400, "Give Upload-Length, or Upload-Defer-Length: 1"),
            ({"Upload-Length": "5", "Upload-Defer-Length": "1"}, 400, "twice or not at all"),
            ({"Upload-Length": "-5"}, 400, "Upload-Length must be a whole number"),
            ({"Upload-Length": "5.5"}, 400, "Upload-Length must be a whole number"),
            ({"Upload-Defer-Length": "2"}, 400, "Upload-Defer-Length must be 1"),
            ({"Upload-Length": "10000001"}, 413, "more than the 10000000"),
            ({"Upload-Length": "5", "Upload-Metadata": "filename,filename YQ=="}, 400, "'filename' twice"),
            ({"Upload-Length": "5", "Upload-Metadata": "filename not-base64"}, 400, "not base64"),
            ({"Upload-Length": "5", "Upload-Metadata": ",a YQ=="}, 400, "A key is missing"),
            ({"Upload-Length": "5", "Upload-Metadata": "a YQ==,"}, 400, "A key is missing"),
            ({"Upload-Length": "5", "Upload-Metadata": "filename /w=="}, 400, "filename is not UTF-8"),
            ({"Upload-Length": "5", **metadata(filename="../a")}, 400, "names no file"),
            ({"Upload-Length": "5", **metadata(filename="/a")}, 400, "absolute"),
            ({"Upload-Length": "5", **metadata(filename=".holdfast/a")}, 400, "reserved"),
            ({"Upload-Length": "5", **metadata(filename="a\nb")}, 400, "control"),
            ({"Upload-Length": "5", **metadata(filename="there")}, 409, "overwrite=true"),
            ({"Upload-Length": "5", **metadata(filename="folder")}, 400, "is a folder"),
            ({"Upload-Length": "5", **metadata(filename="there/a")}, 400, "through a file"),
            ({"Upload-Length": "5", **metadata(sha256="abc")}, 400, "64 hex digits"),
            ({"Upload-Length": "5", "Upload-Checksum": "sha512 YQ=="}, 400, "'sha512' is not known"),
            ({"Upload-Length": "5", "Upload-Concat": "part"}, 400, "Upload-Concat must be"),
            ({"Upload-Length": "5", "Upload-Concat": "final;/v1/uploads/a"}, 400, "leave out Upload-Length"),
            ({"Upload-Concat": "final;/v1/uploads/a"}, 400, "no partial upload"),
            ({"Upload-Concat": "final;/elsewhere/a"}, 400, "not the URL of an upload here"),
            ({"Upload-Concat": "final;"}, 400, "Upload-Concat must be"),
        ],
    )
    async def test_what_can_not_be_is_refused_and_makes_nothing(
        self, http: httpx.AsyncClient, files: Path, headers: dict[str, str], status: int, says: str
    ) -> None:
        (files / "there").touch()
        (files / "folder").mkdir()
        assert_refused(await http.post("/v1/uploads", headers={**TUS, **headers}), status, says)
        assert os.listdir(files / ".holdfast/uploads") == []

    async def test_content_may_come_with_the_creation(self, http: httpx.AsyncClient, files: Path) -> None:
        headers = {**OCTETS, "Upload-Length": "5", **metadata(filename="a")}
        answer = await http.post("/v1/uploads", headers=headers, content=b"123")
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "3")
        assert (await patch(http, answer.headers["Location"], 3, b"45")).status_code == 204
        answer = await http.post("/v1/uploads", headers={**headers, **metadata(filename="b")}, content=b"12345")
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "5")
        assert shown(files) == {"a": b"12345", "b": b"12345"}

    async def test_content_of_another_type_or_too_much_of_it_makes_nothing(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        headers = {**TUS, "Upload-Length": "5"}
        assert_refused(await http.post("/v1/uploads", headers=headers, content=b"123"), 415, "Content-Type must be")
        headers = {**OCTETS, "Upload-Length": "2"}
        assert_refused(await http.post("/v1/uploads", headers=headers, content=b"123"), 400, "go past")
        assert os.listdir(files / ".holdfast/uploads") == []

    async def test_the_length_may_be_told_later_and_then_stays(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, None, **metadata(filename="a"))
        head = (await http.head(url, headers=TUS)).headers
        assert head["Upload-Defer-Length"] == "1"
        assert "Upload-Length" not in head
        await patch(http, url, 0, b"123")
        assert_refused(
            await patch(http, url, 3, b"", **{"Upload-Length": "2"}), 400, "go past the upload's length of 2"
        )
        assert_refused(await patch(http, url, 3, b"", **{"Upload-Length": "10000001"}), 413, "more than")
        assert (await patch(http, url, 3, b"4", **{"Upload-Length": "5"})).headers["Upload-Offset"] == "4"
        head = (await http.head(url, headers=TUS)).headers
        assert (head["Upload-Length"], "Upload-Defer-Length" in head) == ("5", False)
        assert_refused(await patch(http, url, 4, b"", **{"Upload-Length": "6"}), 400, "can't be 6: it is 5")
        await patch(http, url, 4, b"5", **{"Upload-Length": "5"})
        assert shown(files) == {"a": b"12345"}

    async def test_a_deferred_length_can_not_pass_the_server_s_limit(self, http: httpx.AsyncClient) -> None:
        url = await create(http, None)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(11):
                yield b"x" * 1_000_000

        assert_refused(await patch(http, url, 0, b"x" * 10_000_001), 413, "more than the 10000000")
        assert await offset(http, url) == 0
        answer = await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=chunks())
        assert_refused(answer, 413, "past the 10000000 bytes that this server takes")
        assert await offset(http, url) == 10_000_000

    async def test_overwrite_in_the_metadata_or_the_query_replaces_a_file(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        (files / "a").write_text("old")
        url = await create(http, 3, **metadata(filename="a", overwrite="true"))
        await patch(http, url, 0, b"one")
        assert shown(files) == {"a": b"one"}
        answer = await http.post(
            "/v1/uploads?overwrite=true",
            headers={**OCTETS, "Upload-Length": "3", **metadata(filename="a")},
            content=b"two",
        )
        assert answer.status_code == 201
        assert shown(files) == {"a": b"two"}
        answer = await http.post("/v1/uploads?overwrite=maybe", headers={**TUS, "Upload-Length": "3"})
        assert_refused(answer, 400, "overwrite must be true or false")

    async def test_there_is_a_most_of_uploads_in_the_making(self, http: httpx.AsyncClient) -> None:
        urls = [await create(http, 1) for _ in range(20)]
        answer = await http.post("/v1/uploads", headers={**TUS, "Upload-Length": "1"})
        assert_refused(answer, 429, "--max-uploads")
        assert int(answer.headers["Retry-After"]) > 0
        await patch(http, urls[0], 0, b"x")
        await http.delete(urls[1], headers=TUS)
        for _ in range(2):
            await create(http, 1)

    async def test_a_digest_of_the_whole_is_checked_before_it_is_published(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        good = hashlib.sha256(b"abc").hexdigest()
        url = await create(http, 3, **metadata(filename="good", sha256=good))
        await patch(http, url, 0, b"abc")
        url = await create(http, 3, **metadata(filename="bad", sha256=good.upper()))
        assert_refused(await patch(http, url, 0, b"abd"), 460, "nothing was published")
        assert shown(files) == {"good": b"abc"}
        assert await offset(http, url) == 3
        assert_refused(await patch(http, url, 3, b""), 460, "nothing was published")

    @pytest.mark.parametrize(
        "said",
        [metadata(filename="a"), {"Upload-Defer-Length": "1"}, {"Upload-Concat": "partial"}, {"Upload-Checksum": "x"}],
    )
    async def test_a_post_that_only_tus_can_mean_without_its_version_is_a_412_and_creates_nothing(
        self, http: httpx.AsyncClient, files: Path, said: dict[str, str]
    ) -> None:
        for more in ({}, {"Upload-Length": "3"}, {"Upload-Complete": "?1"}):
            answer = await http.post("/v1/uploads", headers={**said, **more}, content=b"abc")
            assert (answer.status_code, answer.headers["Tus-Version"]) == (412, "1.0.0")
        assert shown(files) == {}
        assert (await http.get("/v1/uploads")).json()["items"] == []


class TestChecksum:
    @pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5", "crc32"])
    @pytest.mark.parametrize("size", [5, 3_000_000])
    async def test_a_right_one_lets_bytes_in_and_a_wrong_one_does_not(
        self, http: httpx.AsyncClient, files: Path, algorithm: str, size: int
    ) -> None:
        data = os.urandom(size)
        url = await create(http, 2 * size, **metadata(filename="a"))
        answer = await patch(http, url, 0, data, **checksum(algorithm, b"other"))
        assert_refused(answer, 460, "Send it again")
        assert await offset(http, url) == 0
        answer = await patch(http, url, 0, data, **checksum(algorithm, data))
        assert answer.headers["Upload-Offset"] == str(size)
        assert_refused(await patch(http, url, size, data, **checksum(algorithm, b"")), 460, "Send it again")
        assert await offset(http, url) == size
        assert (await patch(http, url, size, data)).status_code == 204
        assert shown(files) == {"a": data + data}

    @pytest.mark.parametrize(
        ("field", "says"),
        [
            ("sha512 YQ==", "'sha512' is not known here; known are sha1"),
            ("sha1", "not 0"),
            ("sha1 YQ==", "20 octets, not 1"),
            ("sha1 ???", "ALGORITHM BASE64"),
            ("", "is not known"),
        ],
    )
    async def test_one_that_can_not_be_is_a_400(self, http: httpx.AsyncClient, field: str, says: str) -> None:
        url = await create(http, 5)
        assert_refused(await patch(http, url, 0, b"x", **{"Upload-Checksum": field}), 400, says)
        assert await offset(http, url) == 0

    async def test_one_on_a_creation_is_honoured(self, http: httpx.AsyncClient, files: Path) -> None:
        headers = {**OCTETS, "Upload-Length": "3", **metadata(filename="a")}
        answer = await http.post("/v1/uploads", headers={**headers, **checksum("sha1", b"abd")}, content=b"abc")
        assert_refused(answer, 460, "Send it again")
        assert os.listdir(files / ".holdfast/uploads") == []
        answer = await http.post("/v1/uploads", headers={**headers, **checksum("sha1", b"abc")}, content=b"abc")
        assert answer.status_code == 201
        assert shown(files) == {"a": b"abc"}

    @pytest.mark.parametrize("size", [1000, 3_000_000])
    async def test_bytes_of_a_checksummed_request_that_was_cut_are_dropped(
        self, http: httpx.AsyncClient, base_url: str, size: int
    ) -> None:
        url = await create(http, 5_000_000)
        await patch(http, url, 0, b"sure")
        raw = Raw(base_url)
        headers = {**OCTETS, "Upload-Offset": "4", "Content-Length": "4000000", **checksum("sha1", b"never")}
        await raw.send(f"PATCH {url}", headers, b"x" * size)
        raw.close()
        assert await offset(http, url) == 4

    async def test_too_much_under_a_checksum_takes_all_of_it_back(self, http: httpx.AsyncClient) -> None:
        url = await create(http, 2_000_000)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 1_000_000

        headers = {**OCTETS, "Upload-Offset": "0", **checksum("sha1", b"x" * 3_000_000)}
        assert_refused(await http.patch(url, headers=headers, content=chunks()), 400, "past the upload's end")
        assert await offset(http, url) == 0


class TestExpiration:
    async def test_every_answer_about_an_unfinished_upload_tells_when_it_goes(self, http: httpx.AsyncClient) -> None:
        answer = await http.post("/v1/uploads", headers={**TUS, "Upload-Length": "5"})
        url = answer.headers["Location"]
        for told, expiry in (
            (answer, 900),  # nothing of it is there yet
            (await patch(http, url, 0, b"123"), 604_800),
            (await http.head(url, headers=TUS), 604_800),
        ):
            left = parsedate_to_datetime(told.headers["Upload-Expires"]).timestamp() - time.time()
            assert expiry - 100 < left < expiry + 10
        assert "Upload-Expires" not in (await patch(http, url, 3, b"45")).headers

    async def test_an_abandoned_upload_is_gone_and_a_live_one_is_not(
        self, http: httpx.AsyncClient, app: App, files: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = await create(http, 5, **metadata(filename="a"))
        await patch(http, url, 0, b"123")
        done = await create(http, 0, **metadata(filename="done"))
        seed = await http.post("/upload/?file_name=grown&bytes_read=0", content=b"in view")
        assert seed.status_code == 200
        expiry = app.services.files.expiry
        await expiry.sweep()
        assert await offset(http, url) == 3
        now = clocks.steady()
        monkeypatch.setattr(clocks, "steady", lambda: now + 8 * 86400)
        await expiry.sweep()
        monkeypatch.undo()
        assert_refused(await patch(http, url, 3, b"45"), 410, "has expired. Create another")
        assert (await http.head(done, headers=TUS)).status_code == 410
        assert os.listdir(files / ".holdfast/uploads") == []
        assert shown(files) == {"done": b"", "grown": b"in view"}  # what users see is closed, not removed


class TestTermination:
    async def test_an_upload_is_given_up(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, 5)
        await patch(http, url, 0, b"123")
        answer = await http.delete(url, headers=TUS)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await http.head(url, headers=TUS)).status_code == 404
        assert os.listdir(files / ".holdfast/uploads") == []

    async def test_deleting_a_finished_one_keeps_the_file(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, 3, **metadata(filename="a"))
        await patch(http, url, 0, b"abc")
        assert (await http.delete(url, headers=TUS)).status_code == 204
        assert (await http.head(url, headers=TUS)).status_code == 404
        assert shown(files) == {"a": b"abc"}


class TestConcatenation:
    async def parts(self, http: httpx.AsyncClient, *contents: bytes) -> list[str]:
        urls = []
        for content in contents:
            url = await create(http, len(content), **{"Upload-Concat": "partial"})
            if content:
                await patch(http, url, 0, content)
            urls.append(url)
        return urls

    async def join(self, http: httpx.AsyncClient, urls: list[str], **headers: str) -> httpx.Response:
        return await http.post("/v1/uploads", headers={**TUS, "Upload-Concat": f"final;{' '.join(urls)}", **headers})

    async def test_parts_are_joined_in_order(self, http: httpx.AsyncClient, files: Path, base_url: str) -> None:
        urls = await self.parts(http, b"Hello ", b"", b"world")
        assert shown(files) == {}  # a part is no file
        head = (await http.head(urls[0], headers=TUS)).headers
        assert (head["Upload-Concat"], head["Upload-Offset"], head["Upload-Length"]) == ("partial", "6", "6")
        field = [base_url + urls[0], urls[1], urls[2], urls[0]]  # absolute and relative, and one twice
        answer = await self.join(
            http, field, **metadata(filename="joined", sha256=hashlib.sha256(b"Hello worldHello ").hexdigest())
        )
        assert answer.status_code == 201
        assert shown(files) == {"joined": b"Hello worldHello "}
        head = (await http.head(answer.headers["Location"], headers=TUS)).headers
        assert head["Upload-Concat"] == f"final;{' '.join(field)}"
        assert (head["Upload-Offset"], head["Upload-Length"]) == ("17", "17")
        answer = await self.join(http, urls, **metadata(filename="again"))
        assert shown(files)["again"] == b"Hello world"

    async def test_a_final_upload_takes_no_content(self, http: httpx.AsyncClient) -> None:
        urls = await self.parts(http, b"a")
        final = (await self.join(http, urls)).headers["Location"]
        assert_refused(await patch(http, final, 1, b""), 403, "made of its parts")
        headers = {**OCTETS, "Upload-Concat": f"final;{urls[0]}"}
        assert_refused(await http.post("/v1/uploads", headers=headers, content=b"x"), 400, "no content")

    async def test_it_may_be_asked_for_before_its_parts_are_there(self, http: httpx.AsyncClient, files: Path) -> None:
        first = await create(http, 3, **{"Upload-Concat": "partial"})
        second = await create(http, None, **{"Upload-Concat": "partial"})
        final = (await self.join(http, [first, second], **metadata(filename="a"))).headers["Location"]
        head = (await http.head(final, headers=TUS)).headers
        assert "Upload-Offset" not in head
        assert "Upload-Length" not in head
        await patch(http, first, 0, b"123")
        await patch(http, second, 0, b"4", **{"Upload-Length": "2"})
        head = (await http.head(final, headers=TUS)).headers
        assert ("Upload-Offset" in head, head["Upload-Length"]) == (False, "5")
        assert shown(files) == {}
        await patch(http, second, 1, b"5")

        async def joined() -> bool:
            return shown(files) == {"a": b"12345"}

        await until(joined)
        head = (await http.head(final, headers=TUS)).headers
        assert (head["Upload-Offset"], head["Upload-Length"]) == ("5", "5")

    async def test_parts_may_be_joined_several_times_at_once(self, http: httpx.AsyncClient, files: Path) -> None:
        urls = await self.parts(http, b"Hello ", b"world")
        answers = await asyncio.gather(*(self.join(http, urls, **metadata(filename=f"f{n}")) for n in range(8)))
        assert [answer.status_code for answer in answers] == [201] * 8
        assert shown(files) == {f"f{n}": b"Hello world" for n in range(8)}

    async def test_a_join_whose_answer_was_lost_can_be_asked_for_again(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        urls = await self.parts(http, b"Hello ", b"world")
        first = await self.join(http, urls, **metadata(filename="a"))
        again = await self.join(http, urls, **metadata(filename="a"))
        assert (again.status_code, again.headers["Location"]) == (201, first.headers["Location"])
        assert_refused(await self.join(http, urls[::-1], **metadata(filename="a")), 409, "there is a file 'a' already")
        await http.put("/v1/files/a", content=b"another")
        assert_refused(await self.join(http, urls, **metadata(filename="a")), 409, "there is a file 'a' already")
        assert shown(files) == {"a": b"another"}

    async def test_parts_of_unknown_length_can_not_pass_the_server_s_limit(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        urls = [await create(http, None, **{"Upload-Concat": "partial"}) for _ in range(2)]
        final = (await self.join(http, urls)).headers["Location"]
        for url in urls:
            await patch(http, url, 0, b"x" * 5_000_001, **{"Upload-Length": "5000001"})
        answer = await http.head(final, headers=TUS)
        assert (answer.status_code, "Upload-Offset" in answer.headers) == (200, False)
        assert shown(files) == {}

    async def test_only_parts_can_be_joined(self, http: httpx.AsyncClient) -> None:
        whole = await create(http, 3)
        assert_refused(await self.join(http, [whole]), 400, "no partial upload")
        part = (await self.parts(http, b"x"))[0]
        await http.delete(part, headers=TUS)
        assert_refused(await self.join(http, [part]), 400, "no partial upload")

    async def test_what_is_too_long_together_is_refused(self, http: httpx.AsyncClient) -> None:
        urls = [await create(http, 9_000_000, **{"Upload-Concat": "partial"}) for _ in range(2)]
        assert_refused(await self.join(http, urls), 413, "18000000 bytes are more than")

    async def test_a_name_that_was_taken_meanwhile_is_a_409_and_the_parts_stay(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        urls = await self.parts(http, b"a", b"b")
        rival = await create(http, 1, **metadata(filename="x"))
        waiting = await create(http, 1, **{"Upload-Concat": "partial"})
        final = (await self.join(http, [*urls, waiting], **metadata(filename="x"))).headers["Location"]
        await patch(http, rival, 0, b"r")
        await patch(http, waiting, 0, b"c")

        async def joined() -> bool:
            return "Upload-Offset" in (await http.head(final, headers=TUS)).headers

        await until(joined)
        assert shown(files) == {"x": b"r"}
        assert [await offset(http, url) for url in urls] == [1, 1]
        await http.delete("/v1/files/x")
        assert await offset(http, final) == 3  # asked again, it is published
        assert shown(files) == {"x": b"abc"}


class TestConcurrency:
    async def test_a_newer_request_ends_a_stalled_one_within_a_second(
        self, http: httpx.AsyncClient, base_url: str, files: Path
    ) -> None:
        url = await create(http, 9, **metadata(filename="a"))
        stalled = Raw(base_url)
        await stalled.send(f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "9"}, b"abc")

        async def arrived() -> bool:
            return bool((await http.get(url)).json()["offset"] >= 0)

        await until(arrived)
        async with asyncio.timeout(PATIENCE):
            stands = await offset(http, url)
            assert await stalled.is_closed()
        stalled.close()
        rest = b"abcdefghi"[stands:]
        assert (await patch(http, url, stands, rest)).status_code == 204
        assert shown(files) == {"a": b"abcdefghi"}

    async def test_a_newer_patch_and_a_delete_end_it_too(self, http: httpx.AsyncClient, base_url: str) -> None:
        url = await create(http, 9)
        for newer in ("PATCH", "DELETE"):
            stalled = Raw(base_url)
            await stalled.send(
                f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "9", "Expect": "100-continue"}
            )
            assert (await stalled.head())[0] == 100
            async with asyncio.timeout(PATIENCE):
                answer = await http.request(newer, url, headers={**OCTETS, "Upload-Offset": "0"})
                assert answer.status_code == 204
                assert await stalled.is_closed()
            stalled.close()

    async def test_asking_as_json_ends_nothing(self, http: httpx.AsyncClient, base_url: str) -> None:
        url = await create(http, 9)
        busy = Raw(base_url)
        await busy.send(
            f"PATCH {url}", {**OCTETS, "Upload-Offset": "0", "Content-Length": "4", "Expect": "100-continue"}
        )
        await busy.head()
        answer = await http.get(url)
        assert (answer.json()["offset"], answer.json()["length"], answer.json()["complete"]) == (0, 9, False)
        assert "Upload-Offset" not in answer.headers
        busy.writer.write(b"abcd")
        assert (await busy.head())[0] == 204
        assert (await http.get(url)).headers["Upload-Offset"] == "4"
        busy.close()

    async def test_of_two_patches_at_one_offset_one_is_taken(self, http: httpx.AsyncClient) -> None:
        url = await create(http, 100)
        answers = await asyncio.gather(*(patch(http, url, 0, b"x" * 10) for _ in range(6)), return_exceptions=True)
        taken = [a for a in answers if isinstance(a, httpx.Response) and a.status_code == 204]
        assert len(taken) <= 1
        assert await offset(http, url) == 10

    async def test_of_uploads_to_one_name_the_first_wins_and_the_others_keep_their_bytes(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        urls = [await create(http, 2, **metadata(filename="a")) for _ in range(3)]
        for url in urls:
            await patch(http, url, 0, b"1")
        answers = [await patch(http, url, 1, str(number).encode()) for number, url in enumerate(urls)]
        assert [answer.status_code for answer in answers] == [204, 409, 409]
        assert "there is a file 'a' already" in answers[1].json()["detail"]
        assert answers[1].headers["Upload-Offset"] == "2"
        assert shown(files) == {"a": b"10"}
        assert await offset(http, urls[1]) == 2
        assert_refused(await patch(http, urls[1], 2, b""), 409, "there is a file 'a' already")
        await http.delete("/v1/files/a")
        assert (await patch(http, urls[2], 2, b"")).status_code == 204
        assert shown(files) == {"a": b"12"}

    async def test_one_that_says_overwrite_wins_later(self, http: httpx.AsyncClient, files: Path) -> None:
        first = await create(http, 1, **metadata(filename="a"))
        second = await create(http, 1, **metadata(filename="a", overwrite="true"))
        await patch(http, first, 0, b"1")
        assert (await patch(http, second, 0, b"2")).status_code == 204
        assert shown(files) == {"a": b"2"}


class TestBrowsers:
    async def test_a_preflight_lets_every_header_through_and_answers_expose_them(self, http: httpx.AsyncClient) -> None:
        origin = {"Origin": "https://page.example"}
        answer = await http.options(
            "/v1/uploads", headers={**origin, "Access-Control-Request-Method": "POST", "Sec-Fetch-Site": "cross-site"}
        )
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "https://page.example"
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        allowed = answer.headers["Access-Control-Allow-Headers"].lower()
        for name in (
            "tus-resumable",
            "upload-length",
            "upload-offset",
            "upload-metadata",
            "upload-concat",
            "authorization",
            "x-request-id",  # tus-js-client sends it when it is asked to
        ):
            assert name in allowed
        answer = await http.post("/v1/uploads", headers={**origin, **TUS, "Upload-Length": "5"})
        exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
        assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) == exposed
        assert {
            "Location",
            "Upload-Offset",
            "Upload-Length",
            "Tus-Resumable",
            "Upload-Expires",
            "Upload-Metadata",
            "Accept-Patch",
            "Retry-After",
        } <= exposed
        refused = await http.post("/v1/uploads", headers={**origin, **TUS})
        assert refused.status_code == 400
        assert refused.headers["Access-Control-Allow-Origin"] == "https://page.example"

    async def test_uploads_are_listed(self, http: httpx.AsyncClient) -> None:
        ids = sorted([(await create(http, 5, **metadata(filename=f"f{n}"))).rpartition("/")[2] for n in range(3)])
        page = (await http.get("/v1/uploads?limit=2")).json()
        assert [item["id"] for item in page["items"]] == ids[:2]
        page = (await http.get(f"/v1/uploads?limit=2&cursor={page['next']}")).json()
        assert ([item["id"] for item in page["items"]], page["next"]) == (ids[2:], None)


class TestBehindAProxy:
    @pytest.mark.parametrize("trust", [True, False])
    async def test_locations_carry_the_forwarded_prefix_only_of_a_trusted_proxy(
        self, http: httpx.AsyncClient, app: App, trust: bool
    ) -> None:
        app.services.settings = dataclasses.replace(app.services.settings, trust_proxy=trust)
        for prefix, taken in (("/holdfast", True), ("/a/b/", True), ("//evil.example", False), ("/x y", False)):
            answer = await http.post("/v1/uploads", headers={**TUS, "Upload-Length": "1", "X-Forwarded-Prefix": prefix})
            wanted = prefix.rstrip("/") if trust and taken else ""
            assert answer.headers["Location"].startswith(f"{wanted}/v1/uploads/")


class TestPlain:
    async def test_a_post_without_a_protocol_is_the_whole_file(self, http: httpx.AsyncClient, files: Path) -> None:
        headers = {"Content-Disposition": "attachment; filename*=UTF-8''d%2F%C3%A4.txt"}
        answer = await http.post("/v1/uploads", headers=headers, content=b"plain")
        assert answer.status_code == 201
        assert answer.headers["Location"] == "/v1/files/d/%C3%A4.txt"
        assert answer.json()["sha256"] == hashlib.sha256(b"plain").hexdigest()
        assert shown(files) == {"d/ä.txt": b"plain"}
        assert os.listdir(files / ".holdfast/uploads") == []
        refused = await http.post("/v1/uploads", headers=headers, content=b"again")
        assert refused.status_code == 409
        assert (await http.post("/v1/uploads?overwrite=true", headers=headers, content=b"again")).status_code == 201

    async def test_nobody_can_go_on_with_a_cut_one_so_nothing_stays(
        self, http: httpx.AsyncClient, base_url: str, files: Path
    ) -> None:
        raw = Raw(base_url)
        await raw.send("POST /v1/uploads", {"Content-Length": "9"}, b"abc")
        raw.close()

        async def nothing() -> bool:
            return not os.listdir(files / ".holdfast/uploads") and not (await http.get("/v1/uploads")).json()["items"]

        await until(nothing)
        assert shown(files) == {}

    async def test_bad_headers_are_told_and_make_nothing(self, http: httpx.AsyncClient, files: Path) -> None:
        for headers, says in (
            ({"Content-Disposition": 'attachment; filename="../a"'}, "names no file"),
            ({"Content-Disposition": "attachment; filename=a b"}, "can't be read"),
            ({"Repr-Digest": "sha-256=abc"}, "Repr-Digest can't be read"),
            ({"Content-Digest": "nope"}, "Content-Digest can't be read"),
        ):
            answer = await http.post("/v1/uploads", headers=headers, content=b"x")
            assert answer.status_code == 400
            assert says in answer.json()["detail"]
        assert os.listdir(files / ".holdfast/uploads") == []
        answer = await http.patch("/v1/uploads/x", content=b"x")
        assert answer.status_code == 415


async def test_a_trailer_is_refused_and_the_upload_goes_on(http: httpx.AsyncClient, base_url: str) -> None:
    """The guard of why checksum-trailer is not offered: Tornado's parser refuses every trailer."""
    url = await create(http, 10)
    raw = Raw(base_url)
    headers = {**OCTETS, "Upload-Offset": "0", "Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}
    trailer = b"Upload-Checksum: sha1 " + base64.b64encode(hashlib.sha1(b"abc").digest())
    await raw.send(f"PATCH {url}", headers, b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n\r\n")
    assert (await raw.head())[0] == 400, "Tornado reads trailers now: checksum-trailer can be had"
    raw.close()
    assert "checksum-trailer" not in (await http.options("/v1/uploads")).headers["Tus-Extension"]
    stands = await offset(http, url)
    assert stands in (0, 3)
    assert (await patch(http, url, stands, b"abcdefghij"[stands:])).status_code == 204
