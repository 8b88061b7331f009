"""Resumable Uploads for HTTP (IETF draft, interop version 8), section by section."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import PATIENCE
from tests.support.uploads import PARTIAL, TUS, Raw, shown, until
from tornado_app.settings import Settings

IANA = "https://iana.org/assignments/http-problem-types"
INTEROP = {"Upload-Draft-Interop-Version": "8"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, max_upload_size=10_000_000, reserve_space=0)


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


def named(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'inline; filename="{name}"'}


def digest(field: str, data: bytes, algorithm: str = "sha-256") -> dict[str, str]:
    made = hashlib.new(algorithm.replace("-", ""), data).digest()
    return {field: f"{algorithm}=:{base64.b64encode(made).decode()}:"}


async def create(http: httpx.AsyncClient, data: bytes = b"", **headers: str) -> str:
    """Begin an upload that is not complete; its URL."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await http.post("/v1/uploads", headers={"Upload-Complete": "?0", **fields}, content=data)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Upload-Complete"] == "?0"
    return str(answer.headers["Location"])


async def append(
    http: httpx.AsyncClient, url: str, offset: int, data: Any, complete: str | None = "?0", **headers: str
) -> httpx.Response:
    fields = {**PARTIAL, "Upload-Offset": str(offset), **{name.replace("_", "-"): v for name, v in headers.items()}}
    if complete is not None:
        fields["Upload-Complete"] = complete
    return await http.patch(url, headers=fields, content=data)


async def stands(http: httpx.AsyncClient, url: str) -> tuple[int, str]:
    """Offset and completeness."""
    answer = await http.head(url)
    assert answer.status_code == 204
    return int(answer.headers["Upload-Offset"]), answer.headers["Upload-Complete"]


def assert_refused(answer: httpx.Response, status: int, says: str, kind: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Upload-Complete"] == "?0"
    body: dict[str, Any] = answer.json()
    assert says in body["detail"], body
    if kind is not None:
        assert body["type"] == f"{IANA}#{kind}"
    return body


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    """A body whose length nobody knows: it goes out in chunks."""
    for piece in data:
        yield piece


class TestCreation:
    async def test_the_whole_in_one_request_is_answered_with_the_file(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        headers = {"Upload-Complete": "?1", "Upload-Length": "5", **named("d/a.txt")}
        answer = await http.post("/v1/uploads", headers=headers, content=b"hello")
        assert answer.status_code == 201
        assert answer.headers["Upload-Complete"] == "?1"
        assert answer.headers["Location"] == "/v1/files/d/a.txt"
        assert answer.headers["Repr-Digest"] == digest("x", b"hello")["x"]
        assert answer.json()["size"] == 5
        assert shown(files) == {"d/a.txt": b"hello"}

    async def test_a_part_is_answered_with_the_upload(self, http: httpx.AsyncClient, files: Path) -> None:
        headers = {"Upload-Complete": "?0", "Upload-Length": "10", **named("a")}
        answer = await http.post("/v1/uploads", headers=headers, content=b"hello")
        assert answer.status_code == 201
        assert answer.headers["Location"].startswith("/v1/uploads/")
        assert answer.headers["Upload-Complete"] == "?0"
        assert answer.headers["Upload-Offset"] == "5"
        assert "max-size=10000000" in answer.headers["Upload-Limit"]
        assert shown(files) == {}

    async def test_an_empty_creation_learns_the_url(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http)
        assert await stands(http, url) == (0, "?0")
        assert (await append(http, url, 0, b"", "?1")).status_code == 201
        assert shown(files) == {url.rpartition("/")[2]: b""}

    async def test_a_stream_of_unknown_length_is_complete_when_it_ends(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        headers = {"Upload-Complete": "?1", **named("a")}
        answer = await http.post("/v1/uploads", headers=headers, content=pieces(b"one", b"two"))
        assert (answer.status_code, answer.headers["Upload-Complete"]) == (201, "?1")
        assert shown(files) == {"a": b"onetwo"}

    @pytest.mark.parametrize("field", ["1", "true", "?2", "?1, ?1", "", "?T", "?1;=x"])
    async def test_an_ill_formed_upload_complete_never_completes(
        self, http: httpx.AsyncClient, files: Path, field: str
    ) -> None:
        answer = await http.post("/v1/uploads", headers={"Upload-Complete": field}, content=b"abc")
        assert (answer.status_code, answer.headers["Upload-Complete"]) == (201, "?0")
        assert shown(files) == {}

    async def test_with_an_ill_formed_upload_complete_there_is_no_104(self, base_url: str) -> None:
        for field, first in (("1", 201), ("?0", 104)):
            raw = Raw(base_url)
            headers = {"Upload-Complete": field, "Upload-Draft-Interop-Version": "8", "Content-Length": 3}
            await raw.send("POST /v1/uploads", headers, b"abc")
            assert (await raw.head())[0] == first
            raw.close()

    @pytest.mark.parametrize("field", ["?1", "?1;a", '?1;a="b";c=1', " ?1 "])
    async def test_parameters_of_a_field_are_passed_over(self, http: httpx.AsyncClient, field: str) -> None:
        answer = await http.post("/v1/uploads", headers={"Upload-Complete": field.strip()}, content=b"abc")
        assert answer.headers["Upload-Complete"] == "?1"

    @pytest.mark.parametrize("field", ["-5", "+5", "5.0", "0x5", "1_0", "x", '"5"', ":NQ==:", "9" * 16, "5, 5", "(5)"])
    async def test_an_ill_formed_length_is_as_if_it_were_not_there(self, http: httpx.AsyncClient, field: str) -> None:
        answer = await http.post(
            "/v1/uploads", headers={"Upload-Complete": "?0", "Upload-Length": field}, content=b"abc"
        )
        assert answer.status_code == 201
        assert "Upload-Length" not in (await http.head(answer.headers["Location"])).headers

    async def test_lengths_that_differ_are_refused_and_make_nothing(self, http: httpx.AsyncClient, files: Path) -> None:
        for complete, length in (("?1", "4"), ("?1", "2"), ("?0", "2")):
            headers = {"Upload-Complete": complete, "Upload-Length": length}
            answer = await http.post("/v1/uploads", headers=headers, content=b"abc")
            assert_refused(answer, 400, "", "inconsistent-upload-length")
        assert os.listdir(files / ".holdfast/uploads") == []

    async def test_more_than_the_limit_is_a_413_that_tells_it(self, http: httpx.AsyncClient, files: Path) -> None:
        headers = {"Upload-Complete": "?0", "Upload-Length": "10000001"}
        answer = await http.post("/v1/uploads", headers=headers)
        assert_refused(answer, 413, "more than the 10000000")
        assert answer.headers["Upload-Limit"] == "max-size=10000000"
        answer = await http.post("/v1/uploads", headers={"Upload-Complete": "?0"}, content=b"x" * 10_000_001)
        assert_refused(answer, 413, "more than the 10000000")
        assert os.listdir(files / ".holdfast/uploads") == []

    @pytest.mark.parametrize(
        ("headers", "status", "says"),
        [
            (named("../a"), 400, "names no file"),
            (named("/a"), 400, "absolute"),
            (named("there"), 409, "overwrite=true"),
            ({"Content-Disposition": "inline; filename=a b"}, 400, "can't be read"),
            ({"Repr-Digest": "sha-256=:YQ==:"}, 400, "Repr-Digest can't be read"),
            ({"Content-Digest": "sha-256"}, 400, "Content-Digest can't be read"),
        ],
    )
    async def test_what_can_not_be_makes_nothing(
        self, http: httpx.AsyncClient, files: Path, headers: dict[str, str], status: int, says: str
    ) -> None:
        (files / "there").touch()
        answer = await http.post("/v1/uploads", headers={"Upload-Complete": "?1", **headers}, content=b"abc")
        assert_refused(answer, status, says)
        assert os.listdir(files / ".holdfast/uploads") == []
        assert shown(files) == {"there": b""}

    async def test_options_tell_the_limits(self, http: httpx.AsyncClient) -> None:
        assert "max-size=10000000" in (await http.options("/v1/uploads")).headers["Upload-Limit"]
        assert "Upload-Limit" not in (await http.options("/v1/uploads", headers={"Upload-Complete": "?1"})).headers


class TestInterimResponses:
    async def test_creation_is_announced_with_location_and_limits(self, base_url: str, files: Path) -> None:
        raw = Raw(base_url)
        await raw.send("POST /v1/uploads", {**INTEROP, "Upload-Complete": "?1", "Content-Length": 5, **named("a")})
        status, headers = await raw.head()
        assert status == 104
        assert headers["Upload-Draft-Interop-Version"] == "8"
        assert headers["Location"].startswith("/v1/uploads/")
        assert "max-size=10000000" in headers["Upload-Limit"]
        assert "Upload-Offset" not in headers
        raw.writer.write(b"hello")
        status, headers = await raw.head()
        assert (status, headers["Upload-Complete"]) == (201, "?1")
        raw.close()
        assert shown(files) == {"a": b"hello"}

    async def test_what_is_down_is_told_now_and_then_without_a_location(self, base_url: str) -> None:
        raw = Raw(base_url)
        size = 9_900_000  # more than may wait in the queue
        await raw.send("POST /v1/uploads", {**INTEROP, "Upload-Complete": "?0", "Content-Length": size}, b"x" * size)
        status, headers = await raw.head()
        url = headers["Location"]
        told = []
        while status == 104:
            status, headers = await raw.head()
            if status == 104:
                assert "Location" not in headers
                assert headers["Upload-Draft-Interop-Version"] == "8"
                told.append(int(headers["Upload-Offset"]))
        raw.close()
        assert status == 201
        assert headers["Location"] == url
        assert told == sorted(set(told))
        assert 1 <= len(told) <= size >> 20
        assert all(0 < offset <= size for offset in told)

    async def test_an_expectation_gets_100_as_well(self, base_url: str) -> None:
        raw = Raw(base_url)
        headers = {**INTEROP, "Upload-Complete": "?1", "Content-Length": 2, "Expect": "100-continue"}
        await raw.send("POST /v1/uploads", headers)
        assert [(await raw.head())[0], (await raw.head())[0]] == [104, 100]
        raw.writer.write(b"ab")
        assert (await raw.head())[0] == 201
        raw.close()

    @pytest.mark.parametrize("version", [None, "7", "9", "8.0", '"8"', "?1", "08x"])
    async def test_another_version_gets_none_and_is_served(self, base_url: str, version: str | None) -> None:
        raw = Raw(base_url)
        headers = {"Upload-Complete": "?1", "Content-Length": 2}
        if version is not None:
            headers["Upload-Draft-Interop-Version"] = version
        await raw.send("POST /v1/uploads", headers, b"ab")
        assert (await raw.head())[0] == 201
        raw.close()

    async def test_http_1_0_gets_none(self, base_url: str) -> None:
        raw = Raw(base_url)
        raw.reader, raw.writer = await asyncio.open_connection("127.0.0.1", raw.port)
        raw.writer.write(
            b"POST /v1/uploads HTTP/1.0\r\nHost: 127.0.0.1\r\nUpload-Draft-Interop-Version: 8\r\n"
            b"Upload-Complete: ?1\r\nContent-Length: 2\r\n\r\nab"
        )
        assert (await raw.head())[0] == 201
        raw.close()

    async def test_a_client_that_was_cut_goes_on_from_the_announced_url(
        self, http: httpx.AsyncClient, base_url: str, files: Path
    ) -> None:
        data = os.urandom(3_000_000)
        raw = Raw(base_url)
        headers = {**INTEROP, "Upload-Complete": "?1", "Content-Length": len(data), **named("a")}
        await raw.send("POST /v1/uploads", headers, data[:2_000_000])
        url = (await raw.head())[1]["Location"]
        raw.close()

        async def arrived() -> bool:
            return (await stands(http, url)) == (2_000_000, "?0")

        await until(arrived)
        answer = await append(http, url, 2_000_000, data[2_000_000:], "?1")
        assert (answer.status_code, answer.headers["Upload-Complete"]) == (201, "?1")
        assert shown(files) == {"a": data}


class TestOffsetRetrieval:
    async def test_head_tells_all_of_the_state(self, http: httpx.AsyncClient) -> None:
        url = await create(http, b"abc", Upload_Length="10")
        answer = await http.head(url)
        assert answer.status_code == 204
        assert answer.headers["Upload-Offset"] == "3"
        assert answer.headers["Upload-Complete"] == "?0"
        assert answer.headers["Upload-Length"] == "10"
        assert "max-age=" in answer.headers["Upload-Limit"]
        assert answer.headers["Cache-Control"] == "no-store"

    async def test_fields_in_a_head_are_no_error(self, http: httpx.AsyncClient) -> None:
        url = await create(http, b"abc")
        answer = await http.head(url, headers={"Upload-Offset": "3", "Upload-Complete": "?0", "Upload-Length": "x"})
        assert answer.status_code == 204

    async def test_get_tells_the_same_and_the_upload_as_json(self, http: httpx.AsyncClient) -> None:
        url = await create(http, b"abc")
        answer = await http.get(url, headers=INTEROP)
        assert (answer.status_code, answer.headers["Upload-Offset"], answer.headers["Upload-Complete"]) == (
            200,
            "3",
            "?0",
        )
        assert answer.json()["offset"] == 3

    async def test_a_completed_upload_stays_and_says_so(self, http: httpx.AsyncClient) -> None:
        url = await create(http, b"abc")
        await append(http, url, 3, b"d", "?1")
        assert await stands(http, url) == (4, "?1")

    async def test_having_every_byte_completes_nothing(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, b"abc", Upload_Length="3")
        assert await stands(http, url) == (3, "?0")
        assert shown(files) == {}
        assert (await append(http, url, 3, b"", "?1")).status_code == 201
        assert await stands(http, url) == (3, "?1")

    async def test_what_is_not_there_is_a_404(self, http: httpx.AsyncClient) -> None:
        for answer in (
            await http.head("/v1/uploads/x"),
            await http.get("/v1/uploads/x"),
            await http.delete("/v1/uploads/x"),
        ):
            assert answer.status_code == 404


class TestAppend:
    async def test_parts_follow_one_another(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, b"ab", **{"Content-Disposition": 'inline; filename="a"'})
        answer = await append(http, url, 2, b"cd")
        assert (answer.status_code, answer.headers["Upload-Complete"], answer.headers["Upload-Offset"]) == (
            204,
            "?0",
            "4",
        )
        answer = await append(http, url, 4, b"ef", "?1")
        assert (answer.status_code, answer.headers["Upload-Complete"]) == (201, "?1")
        assert answer.json()["name"] == "a"
        assert shown(files) == {"a": b"abcdef"}

    async def test_another_offset_is_a_409_with_the_right_one(self, http: httpx.AsyncClient) -> None:
        url = await create(http, b"abc")
        for wrong in (0, 2, 4, 999_999_999_999_999):
            answer = await append(http, url, wrong, b"x", "?1")
            said = assert_refused(answer, 409, "stands at byte 3", "mismatching-upload-offset")
            assert answer.headers["Upload-Offset"] == "3"
            assert (said["expected-offset"], said["provided-offset"]) == (3, wrong)
        assert await stands(http, url) == (3, "?0")

    @pytest.mark.parametrize("field", [None, "-1", "x", "3.0", "+3", "3, 3", "?1", "1" * 16])
    async def test_without_a_usable_offset_it_is_a_400(self, http: httpx.AsyncClient, field: str | None) -> None:
        url = await create(http, b"abc")
        headers = {**PARTIAL, "Upload-Complete": "?1", **({} if field is None else {"Upload-Offset": field})}
        assert_refused(await http.patch(url, headers=headers, content=b"x"), 400, "Upload-Offset is missing")
        assert await stands(http, url) == (3, "?0")

    @pytest.mark.parametrize("field", [None, "1", "yes", "?1, ?0"])
    async def test_without_a_usable_upload_complete_it_is_not_the_last(
        self, http: httpx.AsyncClient, field: str | None
    ) -> None:
        url = await create(http, b"abc")
        answer = await append(http, url, 3, b"d", field)
        assert (answer.status_code, answer.headers["Upload-Complete"]) == (204, "?0")

    @pytest.mark.parametrize("kind", ["application/partial-upload; a=b", "Application/Partial-Upload"])
    async def test_the_media_type_has_any_case_and_may_have_parameters(
        self, http: httpx.AsyncClient, kind: str
    ) -> None:
        url = await create(http, b"abc")
        assert (await append(http, url, 3, b"d", Content_Type=kind)).status_code == 204

    @pytest.mark.parametrize("kind", ["application/octet-stream", "text/plain", ""])
    async def test_another_media_type_is_a_415_that_tells_the_right_one(
        self, http: httpx.AsyncClient, kind: str
    ) -> None:
        url = await create(http, b"abc")
        answer = await append(http, url, 3, b"d", Content_Type=kind)
        assert_refused(answer, 415, "application/partial-upload")
        assert answer.headers["Accept-Patch"] == "application/partial-upload"
        assert await stands(http, url) == (3, "?0")

    async def test_a_length_that_changes_is_refused(self, http: httpx.AsyncClient) -> None:
        url = await create(http, b"abc", Upload_Length="10")
        for complete, length, data in (
            ("?0", "11", b"d"),
            ("?1", "10", b"d"),
            ("?1", "4", b"d"),
            ("?0", "10", b"x" * 8),
        ):
            answer = await append(http, url, 3, data, complete, Upload_Length=length)
            assert_refused(answer, 400, "", "inconsistent-upload-length")
        assert await stands(http, url) == (3, "?0")
        assert (await append(http, url, 3, b"defghij", "?1", Upload_Length="10")).status_code == 201

    async def test_a_length_may_be_told_later(self, http: httpx.AsyncClient) -> None:
        url = await create(http, b"abc")
        await append(http, url, 3, b"d", Upload_Length="6")
        assert (await http.head(url)).headers["Upload-Length"] == "6"
        answer = await append(http, url, 4, b"x" * 3)
        assert_refused(answer, 400, "go past", "inconsistent-upload-length")
        assert_refused(await append(http, url, 4, b"", Upload_Length="2"), 400, "", "inconsistent-upload-length")

    @pytest.mark.parametrize("complete", ["?0", "?1"])
    async def test_a_stream_past_the_length_ends_the_upload_for_good(
        self, http: httpx.AsyncClient, files: Path, complete: str
    ) -> None:
        url = await create(http, b"abc", Upload_Length="5")
        answer = await append(http, url, 3, pieces(b"d", b"efgh"), complete)
        assert_refused(answer, 400, "past the upload's end at 5 bytes")
        assert "Upload-Offset" not in answer.headers
        for again in (
            await http.head(url),
            await http.get(url),
            await append(http, url, 5, b"", "?1"),
            await append(http, url, 3, b"de", "?1"),
        ):
            assert again.status_code == 410
            assert again.headers.get("Upload-Complete", "?0") == "?0"
        assert shown(files) == {}
        assert (await http.delete(url)).status_code == 204
        assert (await http.head(url)).status_code == 404

    async def test_a_stream_past_the_length_of_a_creation_does_so_too(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        headers = {"Upload-Complete": "?1", "Upload-Length": "3"}
        answer = await http.post("/v1/uploads", headers=headers, content=pieces(b"ab", b"cd"))
        assert_refused(answer, 400, "past the upload's end at 3 bytes")
        (item,) = (await http.get("/v1/uploads")).json()["items"]
        assert (await http.head(f"/v1/uploads/{item['id']}")).status_code == 410
        assert shown(files) == {}

    async def test_a_stream_that_ends_short_of_the_length_is_kept_and_not_complete(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        url = await create(http, b"abc", Upload_Length="9")
        answer = await append(http, url, 3, pieces(b"de", b"f"), "?1")
        assert_refused(answer, 400, "can't end at byte 6 of 9", "inconsistent-upload-length")
        assert answer.headers["Upload-Offset"] == "6"
        assert await stands(http, url) == (6, "?0")
        assert shown(files) == {}

    async def test_to_a_completed_upload_nothing_is_appended_and_its_answer_may_be_asked_for_again(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        url = await create(http, b"abc", **{"Content-Disposition": 'inline; filename="a"'})
        final = await append(http, url, 3, b"d", "?1")
        assert_refused(await append(http, url, 4, b"e", "?1"), 409, "the upload is complete")
        assert_refused(await append(http, url, 4, b"", "?0"), 409, "the upload is complete")
        assert_refused(await append(http, url, 3, b"d", "?1"), 409, "stands at byte 4", "mismatching-upload-offset")
        again = await append(http, url, 4, b"", "?1")
        assert (again.status_code, again.headers["Upload-Complete"]) == (201, "?1")
        assert again.json() == final.json()
        assert shown(files) == {"a": b"abcd"}

    async def test_past_the_limit_of_the_server_nothing_is_kept(self, http: httpx.AsyncClient) -> None:
        url = await create(http, b"")
        answer = await append(http, url, 0, b"x" * 10_000_001, "?1")
        assert_refused(answer, 413, "more than the 10000000")
        assert answer.headers["Upload-Limit"] == "max-size=10000000"
        assert await stands(http, url) == (0, "?0")

    async def test_an_upload_of_tus_is_not_gone_on_with_here(self, http: httpx.AsyncClient) -> None:
        made = await http.post("/v1/uploads", headers={**TUS, "Upload-Length": "5"})
        url = made.headers["Location"]
        assert_refused(await append(http, url, 0, b"x"), 409, "not created by this protocol")
        mine = await create(http)
        headers = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        answer = await http.patch(mine, headers=headers, content=b"x")
        assert answer.status_code == 409
        assert "not created by tus" in answer.json()["detail"]

    async def test_a_name_that_was_taken_meanwhile_is_a_409_and_the_bytes_stay(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        urls = [await create(http, b"1", **{"Content-Disposition": 'inline; filename="a"'}) for _ in range(2)]
        assert (await append(http, urls[0], 1, b"2", "?1")).status_code == 201
        answer = await append(http, urls[1], 1, b"3", "?1")
        assert_refused(answer, 409, "there is a file 'a' already")
        assert await stands(http, urls[1]) == (2, "?0")
        await http.delete("/v1/files/a")
        assert (await append(http, urls[1], 2, b"", "?1")).status_code == 201
        assert shown(files) == {"a": b"13"}


class TestCancellation:
    async def test_an_upload_is_given_up_and_a_file_stays(self, http: httpx.AsyncClient, files: Path) -> None:
        url = await create(http, b"abc")
        done = await create(http, b"abc", **{"Content-Disposition": 'inline; filename="a"'})
        await append(http, done, 3, b"", "?1")
        for each in (url, done):
            assert (await http.delete(each)).status_code == 204
            assert (await http.head(each)).status_code == 404
        assert shown(files) == {"a": b"abc"}
        assert os.listdir(files / ".holdfast/uploads") == []

    async def test_it_ends_a_request_that_is_under_way(self, http: httpx.AsyncClient, base_url: str) -> None:
        raw = Raw(base_url)
        await raw.send("POST /v1/uploads", {**INTEROP, "Upload-Complete": "?1", "Content-Length": 9}, b"abc")
        url = (await raw.head())[1]["Location"]
        async with asyncio.timeout(PATIENCE):
            assert (await http.delete(url)).status_code == 204
            assert await raw.is_closed()
        raw.close()


class TestConcurrency:
    @pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH"])
    async def test_a_newer_request_ends_an_older_one_and_gets_a_true_offset(
        self, http: httpx.AsyncClient, base_url: str, method: str
    ) -> None:
        raw = Raw(base_url)
        await raw.send("POST /v1/uploads", {**INTEROP, "Upload-Complete": "?1", "Content-Length": 9}, b"abc")
        url = (await raw.head())[1]["Location"]
        async with asyncio.timeout(PATIENCE):
            headers = {**INTEROP, **PARTIAL, "Upload-Offset": "99"}
            answer = await http.request(method, url, headers=headers)
            offset = int(answer.headers["Upload-Offset"])
            assert await raw.is_closed()
        raw.close()
        assert (await append(http, url, offset, b"abcdefghi"[offset:], "?1")).status_code == 201


class TestDigests:
    async def test_content_that_does_not_match_is_not_appended(self, http: httpx.AsyncClient) -> None:
        url = await create(http, b"abc")
        for size in (3, 2_500_000):
            for algorithm in ("sha-256", "sha-512"):
                data = os.urandom(size)
                wrong = digest("Content-Digest", b"other", algorithm)
                assert_refused(await append(http, url, 3, data, "?0", **wrong), 400, "Send it again")
                assert await stands(http, url) == (3, "?0")
        answer = await append(http, url, 3, data, "?1", **digest("Content-Digest", data, "sha-512"))
        assert answer.status_code == 201

    async def test_a_creation_whose_content_does_not_match_stands_at_zero(self, http: httpx.AsyncClient) -> None:
        headers = {"Upload-Complete": "?1", **digest("Content-Digest", b"other")}
        answer = await http.post("/v1/uploads", headers=headers, content=b"abc")
        assert_refused(answer, 400, "Send it again")
        assert await stands(http, answer.headers["Location"]) == (0, "?0")

    @pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
    async def test_a_whole_that_does_not_match_is_not_published(
        self, http: httpx.AsyncClient, files: Path, algorithm: str
    ) -> None:
        good = {"Content-Disposition": 'inline; filename="good"', **digest("Repr-Digest", b"abcd", algorithm)}
        url = await create(http, b"abc", **good)
        assert (await append(http, url, 3, b"d", "?1")).status_code == 201
        bad = {"Content-Disposition": 'inline; filename="bad"', **digest("Repr-Digest", b"other", algorithm)}
        url = await create(http, b"abc", **bad)
        assert_refused(await append(http, url, 3, b"d", "?1"), 400, "nothing was published")
        assert shown(files) == {"good": b"abcd"}
        assert await stands(http, url) == (4, "?0")

    async def test_algorithms_that_are_not_known_are_passed_over(self, http: httpx.AsyncClient) -> None:
        headers = {"Upload-Complete": "?1", "Content-Digest": "md5=:YQ==:", "Repr-Digest": "unixsum=:YQ==:"}
        assert (await http.post("/v1/uploads", headers=headers, content=b"abc")).status_code == 201


class TestWithoutLimits:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, max_upload_size=0)

    async def test_there_is_always_a_limit_field(self, http: httpx.AsyncClient) -> None:
        assert (await http.options("/v1/uploads")).headers["Upload-Limit"] == "max-age=604800"
