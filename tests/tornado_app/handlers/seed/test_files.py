"""The seed's download and upload, sentence by sentence: what is promised, and what bad input gets."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.support.block_digests import etag_of
from tests.support.servers import PATIENCE
from tornado_app.app import App
from tornado_app.settings import Settings

TEXT = "zwölf,Boxkämpfer,🥊\n" * 40
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, chunk_size=100, reserve_space=0)


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


async def ok(request: Awaitable[httpx.Response]) -> dict[str, Any]:
    """The JSON of an answer that is a 200."""
    answer = await request
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    body: dict[str, Any] = answer.json()
    return body


async def problem(request: Awaitable[httpx.Response], status: int, says: str) -> dict[str, Any]:
    """The problem details of a refusal, after checking that it says what was wrong."""
    answer = await request
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert says in body["detail"], body
    return body


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def shown(files: Path) -> dict[str, bytes]:
    """Every file that a user would see."""
    return {
        str(path.relative_to(files)): path.read_bytes()
        for path in sorted(files.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(files).parts)
    }


class Cut:
    """Sends a request by hand and cuts it: `await Cut(base_url).send(head, body)`."""

    def __init__(self, base_url: str) -> None:
        self.port = int(base_url.rpartition(":")[2])

    async def open(self, target: str, length: int, body: bytes, *headers: str) -> asyncio.StreamWriter:
        """Start a POST that promises `length` bytes and send `body`."""
        self.reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"POST {target} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Content-Length: {length}", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        return writer

    async def send(self, target: str, length: int, body: bytes, *headers: str) -> None:
        """The same, once the server wants the body, then close.

        Whoever closes before the server has asked the system who it is may not come in.
        """
        writer = await self.open(target, length, b"", "Expect: 100-continue", *headers)
        assert b" 100 " in await self.reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def until(condition: Callable[[], Awaitable[Any]], within: float = PATIENCE) -> Any:
    """The first true value of an async condition."""
    async with asyncio.timeout(within):
        while not (value := await condition()):
            await asyncio.sleep(0.005)
        return value


async def stands_at(http: httpx.AsyncClient, name: str, offset: int) -> None:
    """Wait until the upload stands at `offset`."""

    async def there() -> bool:
        answer = await http.get("/upload/", params={"file_name": name})
        return answer.status_code == 200 and answer.json()["bytes_read"] == offset

    await until(there)


class TestDownload:
    async def test_a_loop_of_gets_brings_the_whole_text(self, http: httpx.AsyncClient, files: Path) -> None:
        (files / "a.csv").write_text(TEXT)
        size = len(TEXT.encode())
        text, piece = "", {"bytes_read": 0, "is_complete": False}
        pieces = 0
        while not piece["is_complete"]:
            before = piece["bytes_read"]
            piece = await ok(http.get(f"/download/?file_name=a.csv&bytes_read={before}"))
            text += piece["file_content"]
            assert before < piece["bytes_read"] <= before + 100
            assert len(piece["file_content"].encode()) == piece["bytes_read"] - before
            assert piece["file_size"] == size
            assert piece["percentage_done"] == round(100 * piece["bytes_read"] / size, 2)
            pieces += 1
        assert text == TEXT
        assert piece["bytes_read"] == size
        assert piece["percentage_done"] == 100
        assert pieces >= size / 100

    @pytest.mark.parametrize("slash", ["", "/"])
    async def test_slashes_after_path_and_values_are_no_part_of_them(
        self, http: httpx.AsyncClient, files: Path, slash: str
    ) -> None:
        (files / "x.csv").write_text("0123456789")
        for query in (
            "file_name=x.csv/&bytes_read=4/",
            "bytes_read=4/&file_name=x.csv/",
            "file_name=x.csv&bytes_read=4",
        ):
            piece = await ok(http.get(f"/download{slash}?{query}"))
            assert piece["file_content"] == "456789"

    async def test_bytes_read_left_out_is_0(self, http: httpx.AsyncClient, files: Path) -> None:
        (files / "a").write_text("abc")
        assert (await ok(http.get("/download/?file_name=a")))["file_content"] == "abc"

    async def test_base64_carries_any_bytes(self, http: httpx.AsyncClient, files: Path) -> None:
        data = bytes(range(256))
        (files / "b").write_bytes(data)
        got, piece = b"", {"bytes_read": 0, "is_complete": False}
        while not piece["is_complete"]:
            piece = await ok(http.get(f"/download/?file_name=b&encoding=base64&bytes_read={piece['bytes_read']}"))
            got += base64.b64decode(piece["file_content"])
        assert got == data

    @pytest.mark.parametrize(("data", "start"), [(b"ab\xffcd", 0), ("ä".encode(), 1), (b"x" * 99 + b"\xc3", 0)])
    async def test_bytes_that_are_not_text_say_to_use_base64(
        self, http: httpx.AsyncClient, files: Path, data: bytes, start: int
    ) -> None:
        (files / "b").write_bytes(data)
        await problem(http.get(f"/download/?file_name=b&bytes_read={start}"), 400, "Ask with encoding=base64")

    async def test_an_empty_file_is_complete_at_once(self, http: httpx.AsyncClient, files: Path) -> None:
        (files / "empty").touch()
        piece = await ok(http.get("/download/?file_name=empty"))
        assert (piece["file_content"], piece["bytes_read"], piece["is_complete"]) == ("", 0, True)
        assert piece["percentage_done"] == 100

    async def test_the_end_itself_is_an_empty_complete_piece(self, http: httpx.AsyncClient, files: Path) -> None:
        (files / "a").write_text("abc")
        piece = await ok(http.get("/download/?file_name=a&bytes_read=3"))
        assert (piece["file_content"], piece["is_complete"]) == ("", True)

    async def test_two_versions_are_never_spliced(self, http: httpx.AsyncClient, files: Path) -> None:
        (files / "a").write_text("old " * 50)
        etag = (await ok(http.get("/download/?file_name=a")))["etag"]
        await ok(http.get(f"/download/?file_name=a&bytes_read=100&etag={etag}"))
        (files / "a").write_text("new " * 50)
        said = await problem(http.get(f"/download/?file_name=a&bytes_read=100&etag={etag}"), 400, "has changed since")
        assert said["etag"] == (await ok(http.get("/download/?file_name=a")))["etag"] != etag

    @pytest.mark.parametrize(
        ("query", "status", "says"),
        [
            ("", 400, "file_name is missing"),
            ("file_name=", 400, "file_name is missing"),
            ("file_name=a&bytes=3", 400, "unknown parameter 'bytes'; this endpoint takes file_name, bytes_read"),
            ("file_name=a&file_name=b", 400, "given 2 times"),
            ("file_name=a&bytes_read=-1", 400, "bytes_read must be a whole number from 0, not '-1'"),
            ("file_name=a&bytes_read=x", 400, "not 'x'"),
            ("file_name=a&bytes_read=1.5", 400, "not '1.5'"),
            ("file_name=a&bytes_read=1_0", 400, "not '1_0'"),
            ("file_name=a&bytes_read=%D9%A3", 400, "whole number"),
            ("file_name=a&bytes_read=" + "9" * 30, 400, "whole number"),
            ("file_name=a&bytes_read=4", 400, "past the end of 'a'. It has 3 bytes"),
            ("file_name=a&encoding=latin-1", 400, "encoding must be base64 or text"),
            ("file_name=%ff", 400, "not UTF-8"),
            ("file_name=missing", 404, "no file 'missing'"),
            ("file_name=folder/missing", 404, "no file"),
            ("file_name=folder", 404, "is a folder"),
            ("file_name=/etc/passwd", 404, "absolute"),
            ("file_name=../secret", 404, "names no file"),
            ("file_name=%2e%2e/secret", 404, "names no file"),
            ("file_name=folder/../../secret", 404, "names no file"),
            ("file_name=folder%5c..%5csecret", 404, "backslash"),
            ("file_name=a%00.csv", 404, "control characters"),
            ("file_name=.nothing", 404, "no file"),
            ("file_name=.holdfast/uploads/x", 404, "reserved for the server"),
            ("file_name=link", 404, "leaves the files directory"),
            ("file_name=a/b", 404, "through a file"),
        ],
    )
    async def test_bad_input_is_told_what_is_wrong(
        self, http: httpx.AsyncClient, files: Path, query: str, status: int, says: str
    ) -> None:
        (files / "a").write_text("abc")
        (files / "folder").mkdir()
        (files / ".hidden").write_text("hidden")
        (files.parent / "secret").write_text("s3cr3t")
        (files / "link").symlink_to(files.parent / "secret")
        said = await problem(http.get(f"/download/?{query}"), status, says)
        assert "s3cr3t" not in json.dumps(said)


class TestUpload:
    async def test_pieces_are_appended_where_the_upload_stands(self, http: httpx.AsyncClient, files: Path) -> None:
        data = TEXT.encode()
        sent = 0
        while sent < len(data):
            piece = data[sent : sent + 333]
            answer = await ok(http.post(f"/upload/?file_name=up.csv&bytes_read={sent}", content=piece))
            sent += len(piece)
            assert answer["bytes_read"] == sent
            assert not answer["is_complete"]
            assert shown(files) == {"up.csv": data[:sent]}  # it grows under its name
        assert await ok(http.get("/upload/?file_name=up.csv")) == answer
        closed = await ok(http.post(f"/upload/?file_name=up.csv&bytes_read={sent}&is_complete=true"))
        assert (closed["bytes_read"], closed["is_complete"], closed["sha256"]) == (sent, True, sha256(data))
        assert await ok(http.get("/upload/?file_name=up.csv")) == closed
        assert shown(files) == {"up.csv": data}
        assert os.listdir(files / ".holdfast/uploads") == []

    async def test_with_file_size_the_file_shows_when_it_is_whole(self, http: httpx.AsyncClient, files: Path) -> None:
        first = await ok(http.post("/upload/?file_name=d/a&bytes_read=0&file_size=10", content=b"01234"))
        assert (first["bytes_read"], first["is_complete"], first["file_size"]) == (5, False, 10)
        assert shown(files) == {}
        assert (await ok(http.get("/upload/?file_name=d/a")))["bytes_read"] == 5
        last = await ok(http.post("/upload/?file_name=d/a&bytes_read=5", content=b"56789"))
        assert (last["bytes_read"], last["is_complete"], last["sha256"]) == (10, True, sha256(b"0123456789"))
        assert shown(files) == {"d/a": b"0123456789"}

    @pytest.mark.parametrize("query", ["&file_size=0", "&is_complete=true"])
    async def test_an_empty_file_goes_up(self, http: httpx.AsyncClient, files: Path, query: str) -> None:
        answer = await ok(http.post(f"/upload/?file_name=a&bytes_read=0{query}"))
        assert (answer["bytes_read"], answer["is_complete"], answer["sha256"]) == (0, True, sha256(b""))
        assert shown(files) == {"a": b""}

    async def test_every_kind_of_body_carries_text(self, http: httpx.AsyncClient, files: Path) -> None:
        data = TEXT.encode()
        bodies: list[dict[str, Any]] = [
            {"content": data},
            {"content": data, "headers": {"Content-Type": "text/plain; charset=utf-8"}},
            {"content": data, "headers": {"Content-Type": "application/octet-stream"}},
            {"data": {"text": TEXT}},
            {"files": {"text": (None, TEXT)}},
            {"files": {"text": ("a.txt", data, "text/csv")}},
            {"json": {"text": TEXT}},
            {
                "content": json.dumps({"text": TEXT}, ensure_ascii=False).encode(),
                "headers": {"Content-Type": "application/json"},
            },
        ]
        for number, body in enumerate(bodies):
            answer = await ok(http.post(f"/upload/?file_name=f{number}&bytes_read=0&is_complete=true", **body))
            assert answer["bytes_read"] == len(data)
        assert shown(files) == {f"f{number}": data for number in range(len(bodies))}

    async def test_every_kind_of_body_carries_base64(self, http: httpx.AsyncClient, files: Path) -> None:
        data = bytes(range(256))
        coded = base64.b64encode(data).decode()
        bodies: list[dict[str, Any]] = [{"content": coded}, {"data": {"text": coded}}, {"json": {"text": coded}}]
        for number, body in enumerate(bodies):
            await ok(http.post(f"/upload/?file_name=f{number}&encoding=base64&is_complete=true", **body))
        assert list(shown(files).values()) == [data] * 3

    @pytest.mark.parametrize("query", ["bytes_read=0", "bytes_read=99", "bytes_read=2"])
    async def test_elsewhere_than_it_stands_is_a_400_that_tells_where(
        self, http: httpx.AsyncClient, files: Path, query: str
    ) -> None:
        await ok(http.post("/upload/?file_name=a&bytes_read=0", content=b"12345"))
        said = await problem(http.post(f"/upload/?file_name=a&{query}", content=b"xx"), 400, "stands at byte 5")
        assert said["bytes_read"] == 5
        assert (await ok(http.post("/upload/?file_name=a&bytes_read=5", content=b"6")))["bytes_read"] == 6
        assert shown(files) == {"a": b"123456"}

    async def test_an_upload_that_never_began_stands_at_0(self, http: httpx.AsyncClient) -> None:
        said = await problem(http.post("/upload/?file_name=a&bytes_read=5", content=b"x"), 400, "stands at byte 0")
        assert said["bytes_read"] == 0
        await problem(http.get("/upload/?file_name=a"), 404, "no file 'a'")

    async def test_a_published_name_is_replaced_only_with_overwrite(self, http: httpx.AsyncClient, files: Path) -> None:
        (files / "a").write_text("published")
        for query in ("bytes_read=0", "bytes_read=0&file_size=3", "bytes_read=9", "bytes_read=0&is_complete=true"):
            said = await problem(http.post(f"/upload/?file_name=a&{query}", content=b"new"), 400, "overwrite=true")
            assert (said["bytes_read"], said["is_complete"]) == (9, True)
        assert shown(files) == {"a": b"published"}

    async def test_with_file_size_the_old_file_stays_until_the_new_one_is_whole(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        (files / "a").write_text("old")
        await ok(http.post("/upload/?file_name=a&bytes_read=0&file_size=6&overwrite=true", content=b"new"))
        assert shown(files) == {"a": b"old"}
        assert (await ok(http.get("/download/?file_name=a")))["file_content"] == "old"
        assert (await ok(http.get("/upload/?file_name=a")))["bytes_read"] == 3
        await ok(http.post("/upload/?file_name=a&bytes_read=3", content=b"er!"))
        assert shown(files) == {"a": b"newer!"}

    async def test_without_file_size_the_old_file_is_replaced_at_the_first_piece(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        (files / "a").write_text("old")
        await ok(http.post("/upload/?file_name=a&bytes_read=0&overwrite=true", content=b"new"))
        assert shown(files) == {"a": b"new"}

    @pytest.mark.parametrize("query", ["&file_size=6", "&is_complete=true"])
    async def test_a_name_that_is_taken_on_the_way_is_replaced_only_with_overwrite(
        self, http: httpx.AsyncClient, files: Path, query: str
    ) -> None:
        await ok(http.post("/upload/?file_name=a&file_size=6&bytes_read=0", content=b"abc"))
        (files / "a").write_text("taken")
        await problem(
            http.post(f"/upload/?file_name=a&bytes_read=3{query}", content=b"def"), 400, "Say overwrite=true to replace"
        )
        assert (await ok(http.get("/upload/?file_name=a")))["bytes_read"] == 6
        assert shown(files) == {"a": b"taken"}
        assert (await ok(http.post(f"/upload/?file_name=a&bytes_read=6{query}&overwrite=true")))["is_complete"]
        assert shown(files) == {"a": b"abcdef"}

    async def test_overwrite_at_0_starts_again(self, http: httpx.AsyncClient, files: Path) -> None:
        for query in ("", "&file_size=4"):
            await ok(http.post(f"/upload/?file_name=a{query}&bytes_read=0&overwrite=true", content=b"xyz"))
            await ok(http.post(f"/upload/?file_name=a{query}&bytes_read=0&overwrite=true", content=b"ab"))
            answer = await ok(
                http.post("/upload/?file_name=a&bytes_read=2&is_complete=true&overwrite=true", content=b"cd")
            )
            assert answer["bytes_read"] == 4
            assert shown(files) == {"a": b"abcd"}

    async def test_a_client_that_lost_the_last_answer_learns_that_it_is_done(self, http: httpx.AsyncClient) -> None:
        await ok(http.post("/upload/?file_name=a&file_size=3", content=b"abc"))
        said = await problem(http.post("/upload/?file_name=a&file_size=3", content=b"abc"), 400, "published already")
        assert (said["bytes_read"], said["is_complete"]) == (3, True)

    async def test_a_file_that_was_put_there_by_hand_is_complete(self, http: httpx.AsyncClient, files: Path) -> None:
        (files / "a").write_text("by hand")
        status = await ok(http.get("/upload/?file_name=a"))
        assert (status["bytes_read"], status["is_complete"]) == (7, True)

    async def test_a_file_size_may_be_told_later_and_never_changes(self, http: httpx.AsyncClient, files: Path) -> None:
        await ok(http.post("/upload/?file_name=a&bytes_read=0", content=b"abc"))
        await problem(http.post("/upload/?file_name=a&bytes_read=3&file_size=2"), 400, "go past file_size=2")
        await ok(http.post("/upload/?file_name=a&bytes_read=3&file_size=5", content=b"d"))
        await problem(http.post("/upload/?file_name=a&bytes_read=4&file_size=6", content=b"ef"), 400, "began with 5")
        answer = await ok(http.post("/upload/?file_name=a&bytes_read=4&file_size=5", content=b"e"))
        assert answer["is_complete"]
        assert shown(files) == {"a": b"abcde"}

    async def test_more_than_file_size_is_refused_and_nothing_past_it_is_kept(
        self, http: httpx.AsyncClient, files: Path
    ) -> None:
        await problem(http.post("/upload/?file_name=a&file_size=3", content=b"abcd"), 400, "go past file_size=3")
        await problem(http.get("/upload/?file_name=a"), 404, "no file")

        async def chunks() -> AsyncIterator[bytes]:
            yield b"ab"
            yield b"cd"

        await problem(http.post("/upload/?file_name=a&file_size=3", content=chunks()), 400, "past the upload's end")
        status = await ok(http.get("/upload/?file_name=a"))
        assert (status["bytes_read"], status["is_complete"]) == (3, False)
        assert shown(files) == {}
        assert (await ok(http.post("/upload/?file_name=a&bytes_read=3")))["is_complete"]

    async def test_is_complete_before_the_end_is_refused_and_the_bytes_stay(self, http: httpx.AsyncClient) -> None:
        said = await problem(
            http.post("/upload/?file_name=a&file_size=9&is_complete=true", content=b"abc"),
            400,
            "can't end at byte 3 of 9",
        )
        assert said["bytes_read"] == 3
        assert (await ok(http.get("/upload/?file_name=a")))["bytes_read"] == 3

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("bytes_read=0", "file_name is missing"),
            ("file_name=a&size=3", "unknown parameter 'size'"),
            ("file_name=a&bytes_read=-1", "whole number"),
            ("file_name=a&file_size=x", "file_size must be a whole number"),
            ("file_name=a&is_complete=maybe", "is_complete must be true or false"),
            ("file_name=a&overwrite=2", "overwrite must be true or false"),
            ("file_name=a&encoding=gzip", "encoding must be base64 or text"),
            ("file_name=../a", "names no file"),
            ("file_name=%2e%2e/a", "names no file"),
            ("file_name=/a", "absolute"),
            ("file_name=a%00", "control"),
            ("file_name=a%5cb", "backslash"),
            ("file_name=.holdfast/a", "reserved"),
            ("file_name=a%E2%80%AEb", "RIGHT-TO-LEFT OVERRIDE"),
            ("file_name=folder", "is a folder"),
            ("file_name=folder/link/a", "leaves the files directory"),
            ("file_name=folder/link", "leaves the files directory"),
            ("file_name=file/a", "through a file"),
            ("file_name=" + "x" * 300, "255 bytes"),
        ],
    )
    async def test_bad_input_is_told_what_is_wrong_and_leaves_nothing(
        self, http: httpx.AsyncClient, files: Path, query: str, says: str
    ) -> None:
        (files / "folder").mkdir()
        (files / "file").touch()
        (files / "folder/link").symlink_to(files.parent)
        await problem(http.post(f"/upload/?{query}", content=b"data"), 400, says)
        assert shown(files) == {"file": b""}
        assert os.listdir(files / ".holdfast/uploads") == []

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"data": {"txt": "abc"}}, "a field 'txt'"),
            ({"content": b"text=%zz", "headers": FORM}, "starts no escape"),
            ({"json": {"text": 5}}, "must be a string"),
            ({"json": {"text": "abc", "more": 1}}, "must end after"),
            ({"content": b'{"text": "abc', "headers": {"Content-Type": "application/json"}}, "middle of the text"),
            ({"files": {"file": b"abc"}}, "a field 'file'"),
            ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, "needs a boundary"),
            ({"content": b"x", "headers": {"Content-Encoding": "gzip"}}, "the Content-Encoding gzip"),
        ],
    )
    async def test_a_body_that_can_not_be_read_leaves_the_upload_where_it_stood(
        self, http: httpx.AsyncClient, files: Path, body: dict[str, Any], says: str
    ) -> None:
        await ok(http.post("/upload/?file_name=a&bytes_read=0", content=b"good"))
        await problem(http.post("/upload/?file_name=a&bytes_read=4", **body), 400, says)
        assert (await ok(http.get("/upload/?file_name=a")))["bytes_read"] == 4
        assert shown(files) == {"a": b"good"}

    @pytest.mark.parametrize("query", ["", "&file_size=9", "&encoding=base64", "&overwrite=true"])
    async def test_a_first_body_that_can_not_be_read_begins_no_upload(
        self, http: httpx.AsyncClient, files: Path, query: str
    ) -> None:
        for body in (b"text=abcd%zz", b"text=abc%", b"other=abcd"):
            said = await problem(http.post(f"/upload/?file_name=d/a{query}", content=body, headers=FORM), 400, "form")
            assert said["bytes_read"] == 0
        await problem(http.get("/upload/?file_name=d/a"), 404, "no file")
        assert shown(files) == {}
        assert os.listdir(files / ".holdfast/uploads") == []

    async def test_bad_base64_far_into_a_body_takes_all_of_it_back(self, http: httpx.AsyncClient, files: Path) -> None:
        await ok(http.post("/upload/?file_name=a&bytes_read=0", content=b"good"))
        coded = base64.b64encode(b"x" * 3_000_000) + b"!!!!"
        await problem(http.post("/upload/?file_name=a&bytes_read=4&encoding=base64", content=coded), 400, "not base64")
        assert (await ok(http.get("/upload/?file_name=a")))["bytes_read"] == 4
        answer = await ok(http.post("/upload/?file_name=a&bytes_read=4&is_complete=true", content=b" end"))
        assert answer["sha256"] == sha256(b"good end")

    async def test_of_first_pieces_at_once_only_one_is_taken(self, http: httpx.AsyncClient, files: Path) -> None:
        answers = await asyncio.gather(
            *(http.post("/upload/?file_name=a&bytes_read=0", content=b"%d" % number) for number in range(8)),
            return_exceptions=True,  # a newer request ends an older one's connection
        )
        assert [answer.status_code for answer in answers if isinstance(answer, httpx.Response)].count(200) <= 1
        assert len(shown(files)["a"]) == 1


class TestCutBodies:
    @pytest.mark.parametrize("query", ["", "&file_size=4000000"])
    async def test_what_arrived_is_kept_and_the_offset_tells(
        self, http: httpx.AsyncClient, base_url: str, files: Path, query: str
    ) -> None:
        data = os.urandom(4_000_000)
        await Cut(base_url).send(f"/upload/?file_name=a&bytes_read=0{query}", 4_000_000, data[:2_500_001])
        await stands_at(http, "a", 2_500_001)
        answer = await ok(
            http.post(f"/upload/?file_name=a&bytes_read=2500001{query}&is_complete=true", content=data[2_500_001:])
        )
        assert (answer["bytes_read"], answer["sha256"]) == (4_000_000, None)  # it is made later
        assert (await http.head("/v1/files/a")).headers["ETag"] == etag_of(data)
        assert shown(files) == {"a": data}

    async def test_a_cut_form_keeps_the_text_that_arrived(self, http: httpx.AsyncClient, base_url: str) -> None:
        body = urlencode({"text": "ä" * 1000}).encode()
        await Cut(base_url).send(
            "/upload/?file_name=a&bytes_read=0", 10_000, body[:-1], f"Content-Type: {FORM['Content-Type']}"
        )
        await stands_at(http, "a", 1999)

    async def test_a_newer_request_ends_a_stalled_one(
        self, http: httpx.AsyncClient, base_url: str, files: Path
    ) -> None:
        cut = Cut(base_url)
        stalled = await cut.open("/upload/?file_name=a&bytes_read=0&file_size=9", 9, b"abc")
        await asyncio.sleep(0)

        async def goes_on() -> bool:
            answer = await http.post("/upload/?file_name=a&bytes_read=3&file_size=9", content=b"defghi")
            return answer.status_code == 200 and answer.json()["is_complete"]

        await until(goes_on)
        assert await cut.reader.read() == b""
        stalled.close()
        assert shown(files) == {"a": b"abcdefghi"}


class TestCancel:
    @pytest.mark.parametrize("query", ["", "&file_size=9"])
    @pytest.mark.parametrize("slash", ["", "/"])
    async def test_it_removes_the_intermediate_file_and_nothing_else(
        self, http: httpx.AsyncClient, files: Path, query: str, slash: str
    ) -> None:
        (files / "other").write_text("other")
        await ok(http.post(f"/upload/?file_name=d/a&bytes_read=0{query}", content=b"abc"))
        await ok(http.post("/upload/?file_name=d/b&bytes_read=0", content=b"abc"))
        answer = await ok(http.post(f"/upload/cancel{slash}?file_name=d/a{slash}"))
        assert answer == {"file_name": "d/a", "cancelled": True}
        assert shown(files) == {"other": b"other", "d/b": b"abc"}
        assert len(os.listdir(files / ".holdfast/uploads")) == 1
        await problem(http.get("/upload/?file_name=d/a"), 404, "no file")

    async def test_a_published_file_is_never_touched(self, http: httpx.AsyncClient, files: Path) -> None:
        await ok(http.post("/upload/?file_name=a&file_size=3", content=b"abc"))
        await ok(http.post("/upload/?file_name=b&bytes_read=0&is_complete=true", content=b"abc"))
        (files / "c").write_text("abc")
        for name in ("a", "b", "c", "missing"):
            await problem(http.post(f"/upload/cancel/?file_name={name}"), 404, "no upload of")
        assert shown(files) == {"a": b"abc", "b": b"abc", "c": b"abc"}

    async def test_a_cancelled_replacement_leaves_the_old_file(self, http: httpx.AsyncClient, files: Path) -> None:
        (files / "a").write_text("old")
        await ok(http.post("/upload/?file_name=a&file_size=9&overwrite=true", content=b"new"))
        await ok(http.post("/upload/cancel/?file_name=a"))
        assert shown(files) == {"a": b"old"}

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("", "file_name is missing"),
            ("file_name=a&x=1", "unknown parameter 'x'"),
            ("file_name=../a", "names no file"),
        ],
    )
    async def test_bad_input(self, http: httpx.AsyncClient, query: str, says: str) -> None:
        await problem(http.post(f"/upload/cancel/?{query}"), 400, says)


class TestRefusals:
    async def test_a_refusal_of_a_big_body_is_an_answer_and_not_a_reset(self, base_url: str) -> None:
        cut = Cut(base_url)
        writer = await cut.open("/upload/?file_name=../a", 300 << 20, b"")
        head = await cut.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        for _ in range(20):  # it may go on sending, which is dropped
            writer.write(b"x" * (1 << 20))
            await writer.drain()
        writer.close()

    async def test_the_connection_lives_on_after_a_refused_body(self, base_url: str) -> None:
        cut = Cut(base_url)
        writer = await cut.open("/upload/?file_name=../a", 3_000_000, b"x" * 3_000_000)
        head = await cut.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        await cut.reader.readexactly(length)
        writer.write(b"GET /upload/?file_name=a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await cut.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        writer.close()

    async def test_expect_100_continue_is_answered_before_the_body(self, base_url: str) -> None:
        cut = Cut(base_url)
        writer = await cut.open("/upload/?file_name=../a", 100, b"", "Expect: 100-continue")
        assert (await cut.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        writer.close()
        writer = await cut.open("/upload/?file_name=a&bytes_read=0", 3, b"", "Expect: 100-continue")
        assert (await cut.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"abc")
        assert (await cut.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()

    async def test_only_400_404_and_500_are_used(self, http: httpx.AsyncClient, app: App) -> None:
        def broken(*arguments: object) -> None:
            raise RuntimeError("a bug")

        app.services.files.store.stat = broken  # type: ignore[method-assign]
        said = await problem(http.get("/upload/?file_name=a"), 500, "error id")
        assert "bug" not in json.dumps({key: value for key, value in said.items() if key != "title"})


class TestIdle:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, idle_timeout=0.05)

    async def test_a_silent_sender_is_cut_and_its_bytes_stay(self, http: httpx.AsyncClient, base_url: str) -> None:
        cut = Cut(base_url)
        writer = await cut.open("/upload/?file_name=a&bytes_read=0", 100, b"abc")
        assert await cut.reader.read() == b""
        await stands_at(http, "a", 3)
        writer.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", "form", "json", "multipart", "base64"])
def test_memory_does_not_grow_with_the_body(spawn_server: Callable[..., Any], kind: str) -> None:
    server = spawn_server("--reserve-space", "0")
    types = {
        "raw": "application/octet-stream",
        "form": FORM["Content-Type"],
        "json": "application/json",
        "multipart": "multipart/form-data; boundary=b",
        "base64": "text/plain",
    }
    starts = {
        "form": b"text=",
        "json": b'{"text": "',
        "multipart": b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n',
    }
    ends = {"json": b'"}', "multipart": b"\r\n--b--\r\n"}
    piece = {"form": b"%41bcdefghij+" * 5000, "json": b"abc\\u00e9\\n" * 7000}.get(kind, b"abcdefgh" * 8192)

    def body(size: int) -> Any:
        yield starts.get(kind, b"")
        for _ in range(size // len(piece)):
            yield piece
        yield ends.get(kind, b"")

    def peak() -> int:
        status = Path(f"/proc/{server.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024

    encoding = "base64" if kind == "base64" else "text"

    def upload(name: str, size: int) -> None:
        url = f"{server.url}/upload/?file_name={name}&bytes_read=0&encoding={encoding}&is_complete=true"
        answer = httpx.post(url, content=body(size), headers={"Content-Type": types[kind]}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["bytes_read"] == (server.files_dir / name).stat().st_size > size // 4

    upload("warm", 20 << 20)
    before = peak()
    upload("big", 150 << 20)
    assert peak() - before < 16 << 20
