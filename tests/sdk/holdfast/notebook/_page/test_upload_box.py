"""The kernel's side of the upload box, and the module that the page gets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from typing import Any

import pytest

import holdfast
from holdfast.widgets import UploadBox
from tests.sdk.holdfast.notebook._page.conftest import Page
from tests.sdk.holdfast.notebook.conftest import open_widgets, shows


@pytest.fixture
def box(client: holdfast.AsyncClient, page: Page) -> UploadBox:
    return client.files.upload_box("raw/")


def begin(name: str, size: int, *, upload: str = "", overwrite: bool = False) -> dict[str, Any]:
    return {"begin": name, "size": size, "upload": upload, "overwrite": overwrite}


def piece(upload: str, offset: int, data: bytes, crc32: int | None = None) -> tuple[dict[str, Any], bytes]:
    return {"piece": offset, "upload": upload, "size": 11, "crc32": zlib.crc32(data) if crc32 is None else crc32}, data


async def test_pieces_through_the_kernel_become_a_file(
    box: UploadBox, client: holdfast.AsyncClient, page: Page
) -> None:
    begun = await page.ask(box, begin("raw/a.txt", 11))
    assert begun["offset"] == 0
    id = begun["upload"]
    assert await page.ask(box, *piece(id, 0, b"hello ")) == {"offset": 6}
    assert await page.ask(box, *piece(id, 0, b"hello ")) == {"offset": 6}, "again: its answer was lost"
    assert await page.ask(box, begin("raw/a.txt", 11, upload=id)) == {"offset": 6, "upload": id}, "paused, and resumed"
    assert await page.ask(box, *piece(id, 6, b"world")) == {"offset": 11}
    assert await client.files.read("raw/a.txt") == b"hello world"


async def test_pieces_are_sent_in_order_and_a_changed_one_is_not_kept(
    box: UploadBox, client: holdfast.AsyncClient, page: Page
) -> None:
    id = (await page.ask(box, begin("raw/a.txt", 11)))["upload"]
    changed, rest = await asyncio.gather(
        page.ask(box, *piece(id, 0, b"hellO ", crc32=zlib.crc32(b"hello "))), page.ask(box, *piece(id, 6, b"world"))
    )
    assert changed == {"offset": 0}
    assert rest == {"offset": 0}, "it does not fit"
    answers = await asyncio.gather(page.ask(box, *piece(id, 0, b"hello ")), page.ask(box, *piece(id, 6, b"world")))
    assert answers == [{"offset": 6}, {"offset": 11}]
    assert await client.files.read("raw/a.txt") == b"hello world"


async def test_another_kernel_goes_on_with_an_upload_and_begins_anew_what_has_expired(
    box: UploadBox, client: holdfast.AsyncClient, page: Page
) -> None:
    id = (await page.ask(box, begin("raw/a.txt", 11)))["upload"]
    await page.ask(box, *piece(id, 0, b"hello "))
    box.close()
    other = client.files.upload_box("raw/")
    assert await page.ask(other, begin("raw/a.txt", 11, upload=id)) == {"offset": 6, "upload": id}
    assert await page.ask(other, {"inspect": [id, "gone"]}) == {
        "uploads": {id: {"offset": 6, "complete": False}, "gone": None}
    }
    assert await page.ask(other, {"discard": id}) == {}
    anew = await page.ask(other, begin("raw/a.txt", 11, upload=id))
    assert anew["offset"] == 0
    assert anew["upload"] != id
    other.close()


async def test_only_the_server_of_the_kernel_confirms_a_file(
    box: UploadBox, client: holdfast.AsyncClient, page: Page
) -> None:
    seen: list[Any] = []
    box.observe(lambda change: seen.append(change["new"]), "files")
    id = (await page.ask(box, begin("raw/a.txt", 5)))["upload"]
    unknown = await page.ask(box, {"confirm": "of another server", "name": "raw/a.txt", "size": 5})
    assert "does not have this upload" in unknown["error"]
    question = {"confirm": id, "name": "raw/a.txt", "size": 5}
    early = await page.ask(box, question)
    assert "has 0 of 5 bytes" in early["error"]
    assert early["again"] is True
    await page.ask(box, *piece(id, 0, b"hello"))
    assert "has 5 of 6 bytes" in (await page.ask(box, {**question, "size": 6}))["error"]
    assert "error" in await page.ask(box, {**question, "name": "raw/b.txt"})
    assert seen == []
    assert await page.ask(box, question) == {"note": ""}
    await shows(lambda: seen)
    (file,) = box.files
    assert (file.name, file.size, file.sha256) == ("raw/a.txt", 5, hashlib.sha256(b"hello").hexdigest())
    await client.files.write("raw/a.txt", b"other", overwrite=True)
    await client.files.delete("raw/a.txt")
    assert await page.ask(box, question) == {"note": "deleted since"}


async def test_a_conflict_is_named_and_overwriting_solves_it(
    box: UploadBox, client: holdfast.AsyncClient, page: Page
) -> None:
    await client.files.write("raw/a.txt", b"hello")
    refused = await page.ask(box, begin("raw/a.txt", 11))
    assert "there is a file 'raw/a.txt' already" in refused["error"]
    assert refused["kind"] == "file-exists"
    id = (await page.ask(box, begin("raw/a.txt", 11, overwrite=True)))["upload"]
    await page.ask(box, *piece(id, 0, b"hello world"))
    assert await client.files.read("raw/a.txt") == b"hello world"


async def test_a_conflict_at_the_last_byte_is_named_too(
    box: UploadBox, client: holdfast.AsyncClient, page: Page
) -> None:
    id = (await page.ask(box, begin("raw/a.txt", 5)))["upload"]
    await client.files.write("raw/a.txt", b"other")
    assert (await page.ask(box, *piece(id, 0, b"hello")))["kind"] == "file-exists"


async def test_a_limit_is_kept(client: holdfast.AsyncClient, page: Page) -> None:
    box = UploadBox(client, limit=10)
    assert "at most 10 go through the kernel" in (await page.ask(box, begin("a.txt", 11)))["error"]


@pytest.mark.slow
async def test_a_box_without_its_server_is_told_to_ask_again(page: Page) -> None:
    async with holdfast.AsyncClient("http://127.0.0.1:9") as client:
        box = client.files.upload_box()
        for question in ({"route": "http://here"}, begin("a.txt", 11)):
            answer = await page.ask(box, question)
            assert "the kernel's server does not answer" in answer["error"]
            assert answer["again"] is True
        box.close()


async def test_the_box_of_a_closed_client_says_so(base_url: str, page: Page) -> None:
    client = holdfast.AsyncClient(base_url)
    box = client.files.upload_box()
    await client.close()
    for question in ({"route": "http://here"}, begin("a.txt", 11)):
        assert "was closed" in (await page.ask(box, question))["error"]
    box.close()


async def test_the_token_is_lent_but_kept_nowhere(base_url: str, page: Page) -> None:
    """Traits are saved with a notebook."""
    async with holdfast.AsyncClient(base_url, token=lambda: "s3cret") as client:
        box = client.files.upload_box()
        assert "s3cret" not in json.dumps(box.get_state())
        assert (await page.ask(box, {"route": "http://here"}))["token"] == "s3cret"
        box.close()


async def test_a_closed_box_leaves_no_model_and_no_thread(client: holdfast.AsyncClient, page: Page) -> None:
    models = open_widgets()
    before = set(models)
    box = client.files.upload_box()
    id = (await page.ask(box, begin("a.txt", 11)))["upload"]
    await page.ask(box, *piece(id, 0, b"hello "))
    box.close()
    box.layout.close()
    assert set(models) == before
    await page.is_quiet()


async def test_what_was_given_up_is_not_on_the_server(box: UploadBox, client: holdfast.AsyncClient, page: Page) -> None:
    id = (await page.ask(box, begin("raw/a.txt", 11)))["upload"]
    assert await page.ask(box, {"discard": id}) == {}
    assert [upload async for upload in client.files.uploads()] == []
    assert await page.ask(box, *piece(id, 0, b"hello "))


def test_the_view_is_one_module_with_its_tus_client() -> None:
    assert UploadBox._esm.count("export default") == 1
    assert "sourceMappingURL" not in UploadBox._esm
