"""Services on a store without any optional power: what they do without it, and how they say what they can't do."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.store_conformance import OpenStore, content, put, refused, sha256, without_powers
from tornado_app import problems
from tornado_app.files.service import FileService
from tornado_app.files.store import powers
from tornado_app.files.store.interface import FileStat
from tornado_app.files.store.memory.store import MemoryStore
from tornado_app.files.uploads.upload import UploadRecord
from tornado_app.files.workspace import Workspace
from tornado_app.settings import Settings


@pytest.fixture
def open_store(tmp_path: Path) -> OpenStore:
    return without_powers(tmp_path)


@pytest.fixture
async def service(settings: Settings, open_store: OpenStore) -> AsyncIterator[FileService]:
    service = FileService(dataclasses.replace(settings, reserve_space=0), open_store)
    await service.open()
    yield service
    await service.close()


async def appended(service: FileService, id: str, data: bytes, *, last: bool = False) -> None:
    """Append to an upload, which is begun if it is not there."""
    upload = service.uploads.find(id)
    if upload is None:
        upload = await service.uploads.create(UploadRecord("draft", f"{id}.bin", time.time()), id)
    writer = await service.uploads.write(upload, upload.offset)
    writer.write(data)
    await service.uploads.finish(writer, last=last)


async def test_an_upload_of_one_server_is_published_with_its_digest(service: FileService) -> None:
    await appended(service, "whole", b"one,")
    await appended(service, "whole", b"two", last=True)
    assert service.store.stat("whole.bin").sha256 == sha256(b"one,two")


async def test_an_upload_that_another_server_began_is_published_without_a_digest(
    service: FileService, settings: Settings, open_store: OpenStore
) -> None:
    await appended(service, "begun", b"one,")
    later = FileService(dataclasses.replace(settings, reserve_space=0), open_store)
    await later.open()
    await appended(later, "begun", b"two", last=True)
    await later.close()
    stat = service.store.stat("begun.bin")
    assert (stat.sha256, content(service.store, "begun.bin")) == (None, b"one,two")
    assert stat.etag


def test_work_starts_again_from_the_first_byte_and_nowhere_else(open_store: OpenStore) -> None:
    files = Workspace(open_store(), owner="me")
    files.stage("a", "key").write(b"0123456789")
    later = files.stage("a", "key")
    later.truncate(10)
    assert refused(later.truncate, 4).kind is problems.BROKEN
    assert refused(later.sha256).kind is problems.BROKEN
    assert later.tell() == 10
    later.truncate(0)
    later.write(b"new")
    assert later.publish() == sha256(b"new")
    files.stage("b", "other").write(b"one,")
    last = files.stage("b", "other")
    last.write(b"two")
    assert last.publish() == ""
    assert content(open_store(), "b") == b"one,two"


def test_parts_can_not_be_joined_without_reading_them(open_store: OpenStore) -> None:
    store = open_store()
    whole, part = store.create("whole", b""), store.create("part", b"")
    part.write([b"abc"])
    assert "can't do that; start again" in refused(powers.join, whole, [part]).detail
    assert whole.offset == 0


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_folders_are_made_of_whole_names_a_page_at_a_time(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(powers, "_PAGE", 2)
    store = MemoryStore()
    for name in ("a/1", "a/2", "a/3/4", "a/\U0010ffff/5", "b", "c/1", "c/2"):
        put(store, name, b"")
    found: list[str] = []
    after = ""
    while page := [item.name if isinstance(item, FileStat) else item for item in powers.level(store, "", after, count)]:
        assert len(page) <= count
        found += page
        after = page[-1]
    assert found == ["a/", "b", "c/"]
