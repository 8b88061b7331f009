"""Requests that bring a small file each: their place and their memory are given up however they end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.files import file_service
from tornado_app import problems
from tornado_app.files.buffers import COLLECTED
from tornado_app.files.service import FileService
from tornado_app.files.uploads.small_files.requests import SmallUpload
from tornado_app.settings import Settings


@pytest.fixture
async def files(settings: Settings) -> AsyncIterator[FileService]:
    service = file_service(settings)
    await service.open()
    yield service
    await service.close()


def begin(files: FileService, data: bytes, length: int | None = None) -> SmallUpload:
    size = len(data) if length is None else length
    upload = files.published.begin_small_put("a", length=size, digests={}, block_digest=None)
    upload.data += data
    return upload


async def test_a_file_is_published_and_its_memory_given_back(files: FileService) -> None:
    upload = begin(files, b"123")
    assert COLLECTED.used == 3
    info, replaces = await files.published.finish_small_put(upload, {})
    assert (info.size, replaces, COLLECTED.used) == (3, False, 0)
    assert (files.settings.files_dir / "a").read_bytes() == b"123"


async def test_one_that_is_cut_or_refused_gives_its_memory_back_once(files: FileService) -> None:
    upload = begin(files, b"123", length=10)
    files.published.cancel_small_put(upload)
    files.published.cancel_small_put(upload)
    assert COLLECTED.used == 0
    (files.settings.files_dir / "a").write_bytes(b"there")
    with pytest.raises(problems.ProblemError):
        await files.published.finish_small_put(begin(files, b"123"), {"If-None-Match": "*"})
    assert COLLECTED.used == 0


async def test_one_for_which_there_is_no_memory_takes_no_place(
    files: FileService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(COLLECTED, "most", 5)
    first = begin(files, b"123")
    with pytest.raises(problems.ProblemError) as caught:
        begin(files, b"456")
    assert caught.value.kind is problems.UNAVAILABLE
    files.published.cancel_small_put(first)
    files.published.cancel_small_put(begin(files, b"45678"))
    assert COLLECTED.used == 0
