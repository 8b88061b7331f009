"""A literal client of the seed's own description: urllib alone, URLs written out, loops as its README words them."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.servers import ServerProcess, wait_until

TEXT = "".join(f"{line},Zürich,東京,{line * line}\n" for line in range(2000))


def call(method: str, url: str, body: bytes | None = None, content_type: str | None = None) -> Any:
    """Send it, and read the JSON answer; a status other than 200 raises `HTTPError`."""
    request = urllib.request.Request(url, data=body if body is not None or method == "GET" else b"", method=method)
    if content_type:
        request.add_header("Content-Type", content_type)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        return json.load(answer)


def refusal(method: str, url: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    """Status and problem details of a request that is refused."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        call(method, url, body)
    with caught.value as error:
        assert error.headers["Content-Type"] == "application/problem+json"
        return error.code, json.load(error)


def form(text: str) -> bytes:
    return urllib.parse.urlencode({"text": text}).encode()


Spawn = Callable[..., ServerProcess]

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def url(spawn_server: Spawn) -> str:
    return spawn_server("--chunk-size", "5000").url


@pytest.mark.slow
class TestProcess:
    def test_a_get_starts_it_and_the_same_get_tells_how_it_stands(self, spawn_server: Spawn) -> None:
        server = spawn_server()
        (server.files_dir / "a.txt").write_bytes(b"a" * 10)
        first = call("GET", f"{server.url}/nightly-1/process/")
        assert first["id"] == "nightly-1"
        assert first["work_type"] == "manifest"
        assert first["state"] in ("queued", "running", "succeeded")
        assert {"done", "total", "note"} <= set(first["progress"])
        assert {"created", "started", "ended", "result", "error"} <= set(first)

        def ended() -> Any:
            now = call("GET", f"{server.url}/nightly-1/process")
            return now if now["ended"] else None

        last = wait_until(ended)
        assert last["state"] == "succeeded"
        assert last["attempt"] == 1
        assert "a.txt" in (server.files_dir / "SHA256SUMS").read_text()

    def test_pause_resume_cancel(self, spawn_server: Spawn) -> None:
        server = spawn_server()
        with (server.files_dir / "big.bin").open("wb") as big:
            big.truncate(4 << 30)  # a hole: as long to digest as real bytes
        process = f"{server.url}/one/process/"
        call("GET", process)

        def state() -> str:
            return str(call("GET", process)["state"])

        wait_until(lambda: state() == "running")
        assert call("POST", process + "pause/")["state"] in ("pausing", "paused")
        wait_until(lambda: state() == "paused")
        status, problem = refusal("POST", process + "pause/")
        assert (status, problem["state"]) == (400, "paused")
        assert "resume" in problem["detail"]

        status, problem = refusal("POST", process + "resume/", b'{"work_types": ["no-such-thing"]}')
        assert status == 400
        assert "manifest" in problem["detail"]
        assert state() == "paused"
        resumed = call("POST", process + "resume/", b'{"work_types": ["manifest", "import-csv"]}', "application/json")
        assert resumed["state"] in ("queued", "running")
        call("POST", process + "pause")
        wait_until(lambda: state() == "paused")
        assert call("POST", process + "resume")["state"] in ("queued", "running")
        assert call("POST", process + "cancel/")["state"] in ("cancelling", "cancelled")
        wait_until(lambda: state() == "cancelled")
        status, problem = refusal("POST", process + "cancel/")
        assert (status, problem["state"]) == (400, "cancelled")
        assert not (server.files_dir / "SHA256SUMS").exists()

    def test_an_unknown_process_is_a_404_for_every_verb(self, url: str) -> None:
        for verb in ("pause", "resume", "cancel"):
            status, problem = refusal("POST", f"{url}/never-started/process/{verb}/")
            assert (status, problem["status"]) == (404, 404)
            assert "never-started" in problem["detail"]

    def test_a_bad_id_is_a_400_that_says_what_an_id_is(self, url: str) -> None:
        for bad in ("a%20b", "x" * 129, "%C3%BC"):
            status, problem = refusal("GET", f"{url}/{bad}/process/")
            assert status == 400
            assert "128" in problem["detail"]


@pytest.mark.slow
class TestDownload:
    def download(self, url: str, name: str, slash: str) -> tuple[str, int]:
        """The text of a file and in how many pieces it came."""
        text, read, pieces, complete = "", 0, 0, False
        while not complete:
            piece = call("GET", f"{url}/download/?file_name={name}{slash}&bytes_read={read}{slash}")
            text += piece["file_content"]
            assert piece["bytes_read"] == len(text.encode())
            read, complete, pieces = piece["bytes_read"], piece["is_complete"], pieces + 1
        return text, pieces

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_get_loops_until_complete(self, spawn_server: Spawn, slash: str) -> None:
        server = spawn_server("--chunk-size", "5000")
        (server.files_dir / "x.csv").write_text(TEXT, encoding="utf-8")
        text, pieces = self.download(server.url, "x.csv", slash)
        assert text == TEXT
        assert pieces >= len(TEXT.encode()) / 5000

    def test_bytes_read_may_be_left_out(self, spawn_server: Spawn) -> None:
        server = spawn_server()
        (server.files_dir / "small.txt").write_text("hello", encoding="utf-8")
        piece = call("GET", f"{server.url}/download?file_name=small.txt")
        assert (piece["file_content"], piece["bytes_read"], piece["is_complete"]) == ("hello", 5, True)

    def test_what_is_not_there_is_404_and_past_the_end_400(self, spawn_server: Spawn) -> None:
        server = spawn_server()
        (server.files_dir / "small.txt").write_text("hello", encoding="utf-8")
        assert refusal("GET", f"{server.url}/download/?file_name=none.txt")[0] == 404
        status, problem = refusal("GET", f"{server.url}/download/?file_name=small.txt&bytes_read=6")
        assert status == 400
        assert "5" in problem["detail"]


@pytest.mark.slow
class TestUpload:
    @pytest.mark.parametrize("slash", ["", "/"])
    def test_post_loops_with_text_until_the_file_is_there(self, spawn_server: Spawn, slash: str) -> None:
        server = spawn_server()
        sent = 0
        for start in range(0, len(TEXT), 7000):
            query = f"file_name=up.csv{slash}&bytes_read={sent}{slash}"
            piece = TEXT[start : start + 7000]
            answer = call("POST", f"{server.url}/upload/?{query}", form(piece), FORM)
            sent += len(piece.encode())
            assert answer["bytes_read"] == sent
        assert (server.files_dir / "up.csv").read_text(encoding="utf-8") == TEXT
        closed = call("POST", f"{server.url}/upload/?file_name=up.csv&bytes_read={sent}&is_complete=true", b"")
        assert closed["is_complete"]
        assert call("GET", f"{server.url}/upload/?file_name=up.csv")["is_complete"]

    def test_a_client_that_lost_an_answer_goes_on_from_where_the_upload_stands(self, url: str) -> None:
        call("POST", f"{url}/upload/?file_name=lost.txt&bytes_read=0", form("first,"), FORM)
        status, problem = refusal("POST", f"{url}/upload/?file_name=lost.txt&bytes_read=0", form("first,"))
        assert status == 400
        assert problem["bytes_read"] == 6
        assert call("GET", f"{url}/upload/?file_name=lost.txt")["bytes_read"] == 6
        answer = call("POST", f"{url}/upload/?file_name=lost.txt&bytes_read=6", form("second"), FORM)
        assert answer["bytes_read"] == 12

    def test_cancel_removes_what_was_sent_and_nothing_else(self, spawn_server: Spawn) -> None:
        server = spawn_server()
        (server.files_dir / "kept.txt").write_text("kept", encoding="utf-8")
        call("POST", f"{server.url}/upload/?file_name=gone.txt&bytes_read=0", form("part"), FORM)
        call("POST", f"{server.url}/upload/cancel/?file_name=gone.txt")
        assert refusal("GET", f"{server.url}/upload/?file_name=gone.txt")[0] == 404
        assert refusal("POST", f"{server.url}/upload/cancel/?file_name=gone.txt")[0] == 404
        assert refusal("POST", f"{server.url}/upload/cancel/?file_name=kept.txt")[0] == 404
        assert sorted(p.name for p in server.files_dir.iterdir() if not p.name.startswith(".")) == ["kept.txt"]
