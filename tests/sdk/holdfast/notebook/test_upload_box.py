"""The kernel's side of the upload box, the bundle that the page gets, and links for downloads."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import holdfast
from holdfast._environment.jupyter import page_origins
from holdfast.widgets import DownloadLink, UploadBox
from holdfast.wire import FileLink
from tests.sdk.holdfast.notebook.conftest import Message, open_widgets, shows
from tornado_app.settings import read

STATIC = Path(holdfast.__file__).parent / "web"


@pytest.fixture
def answers(messages: list[Message]) -> Any:
    """Return the answers to the page, by the number of its question."""

    def found() -> dict[str, dict[str, Any]]:
        custom = [message.data["content"] for message in messages if message.data["method"] == "custom"]
        return {content["id"]: content for content in custom}

    return found


@pytest.fixture
async def box(client: holdfast.AsyncClient, messages: list[Message]) -> AsyncIterator[UploadBox]:
    box = client.files.upload_box("raw/")
    yield box
    box.close()


def say(box: UploadBox, content: dict[str, Any], *buffers: bytes) -> None:
    """A message of the page."""
    box._handle_custom_msg(content, [memoryview(data) for data in buffers])


async def test_pieces_through_the_kernel_become_a_file(
    box: UploadBox, client: holdfast.AsyncClient, answers: Any
) -> None:
    say(box, {"begin": "raw/a.txt", "size": 11, "key": "k", "id": "1"})
    await shows(lambda: answers().get("1") == {"id": "1", "offset": 0, "end": False})
    say(box, {"piece": 0, "key": "k", "id": "2"}, b"hello ")
    await shows(lambda: answers().get("2") == {"id": "2", "offset": 6, "end": False})
    say(box, {"piece": 0, "key": "k", "id": "3"}, b"hello ")  # again: its answer was lost
    await shows(lambda: answers().get("3") == {"id": "3", "offset": 6, "end": False})
    say(box, {"begin": "raw/a.txt", "size": 11, "key": "k", "id": "4"})  # paused, and resumed
    await shows(lambda: answers().get("4") == {"id": "4", "offset": 6, "end": False})
    say(box, {"piece": 6, "key": "k", "id": "5"}, b"world")
    await shows(lambda: answers().get("5") == {"id": "5", "offset": 11, "end": True})
    assert await client.files.read("raw/a.txt") == b"hello world"


async def test_what_is_done_is_a_trait_of_the_kernel(box: UploadBox, client: holdfast.AsyncClient) -> None:
    seen: list[Any] = []
    box.observe(lambda change: seen.append(change["new"]), "files")
    await client.files.write("raw/a.txt", b"hello")
    say(box, {"done": "raw/a.txt"})
    await shows(lambda: seen)
    (file,) = box.files
    assert (file.name, file.size, file.sha256) == ("raw/a.txt", 5, hashlib.sha256(b"hello").hexdigest())


async def test_what_is_given_up_leaves_nothing_on_the_server(
    box: UploadBox, client: holdfast.AsyncClient, answers: Any
) -> None:
    say(box, {"begin": "raw/a.txt", "size": 11, "key": "k", "id": "1"})
    await shows(lambda: "1" in answers())
    say(box, {"discard": True, "key": "k", "id": "2"})
    await shows(lambda: answers().get("2") == {"id": "2", "end": True})
    assert [upload async for upload in client.files.uploads()] == []


async def test_refusals_are_answered(box: UploadBox, client: holdfast.AsyncClient, answers: Any) -> None:
    await client.files.write("raw/a.txt", b"hello")
    say(box, {"begin": "raw/a.txt", "size": 11, "key": "k", "id": "1"})
    await shows(lambda: "there is a file 'raw/a.txt' already" in answers().get("1", {}).get("error", ""))
    say(box, {"begin": "raw/b.txt", "size": box.limit + 1, "key": "l", "id": "2"})
    await shows(lambda: "at most 100000000 go through the kernel" in answers().get("2", {}).get("error", ""))
    say(box, {"piece": 0, "key": "of another kernel", "id": "3"}, b"x")
    await shows(lambda: "restarted" in answers().get("3", {}).get("error", ""))


async def test_the_box_of_a_closed_client_says_so(base_url: str, messages: list[Message], answers: Any) -> None:
    client = holdfast.AsyncClient(base_url)
    box = client.files.upload_box()
    await client.close()
    for number, question in enumerate(({"token": True}, {"begin": "a.txt", "size": 11, "key": "k"})):
        say(box, {**question, "id": str(number)})
        await shows(lambda number=number: "was closed" in answers().get(str(number), {}).get("error", ""))
    box.close()


async def test_the_token_is_lent_but_kept_nowhere(messages: list[Message], answers: Any) -> None:
    """Traits are saved with a notebook."""
    async with holdfast.AsyncClient("http://127.0.0.1:9", token=lambda: "s3cret") as client:
        box = client.files.upload_box()
        assert "s3cret" not in json.dumps(box.get_state())
        say(box, {"token": True, "id": "1"})
        await shows(lambda: answers().get("1") == {"id": "1", "token": "s3cret"})
        box.close()


def test_the_vendored_tus_client_is_the_one_that_is_noted() -> None:
    said = (STATIC / "README.md").read_text()
    assert hashlib.sha256((STATIC / "tus.min.js").read_bytes()).hexdigest() in said
    assert "tus-js-client) 4.3.1" in said
    assert "MIT" in (STATIC / "tus.LICENSE").read_text()


def test_the_view_loads_nothing_from_elsewhere() -> None:
    own = (STATIC / "upload_box.js").read_text() + (STATIC / "upload_box.css").read_text()
    assert not re.findall(r"https?://|\bimport\b|url\(", own)
    assert "sourceMappingURL" not in UploadBox._esm


async def test_a_closed_box_leaves_no_model_and_no_thread(
    client: holdfast.AsyncClient, messages: list[Message], answers: Any
) -> None:
    models = open_widgets()
    before = set(models)
    box = client.files.upload_box()
    say(box, {"begin": "a.txt", "size": 11, "key": "k", "id": "1"})
    await shows(lambda: "1" in answers())
    box.close()
    box.layout.close()
    assert set(models) == before
    await shows(lambda: not [t for t in threading.enumerate() if t.name == "holdfast-upload-box"])


# -- links


def test_a_link_shows_its_file_and_not_its_url() -> None:
    signed = FileLink("a folder/née.csv", "/v1/files/a%20folder/n%C3%A9e.csv?expires=1&signature=abc", 1)
    link = DownloadLink("http://127.0.0.1:9", signed)
    assert str(link) == "http://127.0.0.1:9/v1/files/a%20folder/n%C3%A9e.csv?expires=1&signature=abc"
    assert "signature" not in repr(link) + repr(signed)
    assert 'download="née.csv"' in link._repr_html_()
    assert "&amp;signature=" in link._repr_html_()


async def test_a_link_is_followed_from_any_page(client: holdfast.AsyncClient, http: httpx.AsyncClient) -> None:
    await client.files.write("a.csv", b"a,b")
    link = await client.files.download_link("a.csv")
    assert str(link).startswith(f"{client.base_url}/v1/files/a.csv?expires=")
    visit = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}
    assert (await http.get(link.url, headers=visit)).content == b"a,b"
    elsewhere = await client.files.download_link("a", base_url="https://there/")
    assert elsewhere.url.startswith("https://there/v1/files/a?expires=")


# -- where the pages are


def test_the_origins_of_a_kernels_pages_are_those_of_its_jupyter_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "4711")
    assert page_origins() == []
    (tmp_path / "jpserver-4711.json").write_text('{"url": "http://lab.example:8888/base/"}')
    assert page_origins() == ["http://127.0.0.1:8888", "http://lab.example:8888", "http://localhost:8888"]
    for url, own in (
        ("http://[::1]:8888/", ["http://127.0.0.1:8888", "http://[::1]:8888", "http://localhost:8888"]),
        ("https://lab.example:443/", ["https://127.0.0.1", "https://lab.example", "https://localhost"]),
        ("http+unix://%2Frun%2Fjupyter.sock/", []),
    ):
        (tmp_path / "jpserver-4711.json").write_text(json.dumps({"url": url}))
        assert page_origins() == own
        assert read([], {"HOLDFAST_ALLOW_ORIGIN": ",".join(own)}).allow_origin == tuple(own)
    (tmp_path / "jpserver-4711.json").write_text("{")
    assert page_origins() == []
    monkeypatch.delenv("JPY_PARENT_PID")
    assert page_origins() == []


async def test_a_file_that_is_gone_again_is_not_told(box: UploadBox) -> None:
    say(box, {"done": "nothing"})
    await shows(lambda: not [t for t in threading.enumerate() if t.name == "holdfast-upload-box"])
    await asyncio.sleep(0)  # for what it may have left to the loop
    assert box.files == ()
