"""The end of an upload: shown as it grows, published, removed. What fails on the way leaves the bytes as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.files import file_service
from tornado_app import problems
from tornado_app.files.service import FileService
from tornado_app.files.store.local.staged.data import LocalStagedData
from tornado_app.files.uploads.upload import UploadRecord
from tornado_app.settings import Settings

GROWING = UploadRecord("seed", "a", 0.0, in_view=True)


@pytest.fixture
async def files(settings: Settings) -> AsyncIterator[FileService]:
    service = file_service(settings)
    await service.open()
    yield service
    await service.close()


async def append(files: FileService, upload: Any, data: bytes, *, last: bool = False) -> None:
    writer = await files.uploads.write(upload, upload.offset)
    writer.write(data)
    await files.uploads.finish(writer, last=last)


async def test_bytes_are_shown_in_the_call_that_commits_them(files: FileService, monkeypatch: Any) -> None:
    upload = await files.uploads.create(GROWING)
    calls: list[object] = []
    run = files.executor.run
    monkeypatch.setattr(files.executor, "run", lambda function, *args: calls.append(function) or run(function, *args))
    await append(files, upload, b"one")
    assert len(calls) == 1
    assert (files.settings.files_dir / "a").read_bytes() == b"one"
    await append(files, upload, b"two", last=True)
    assert upload.published is not None
    assert (files.settings.files_dir / "a").read_bytes() == b"onetwo"


async def test_bytes_that_may_not_be_shown_are_kept_and_the_refusal_is_the_answer(files: FileService) -> None:
    upload = await files.uploads.create(GROWING)
    (files.settings.files_dir / "a").write_bytes(b"of somebody else")
    with pytest.raises(problems.ProblemError) as caught:
        await append(files, upload, b"one")
    assert caught.value.kind is problems.FILE_EXISTS
    assert (upload.offset, upload.staged.read(0, 9)) == (3, b"one")
    assert (files.settings.files_dir / "a").read_bytes() == b"of somebody else"
    (files.settings.files_dir / "a").unlink()
    await append(files, upload, b"two")
    assert (files.settings.files_dir / "a").read_bytes() == b"onetwo"


async def test_an_upload_that_is_removed_is_shown_no_more(files: FileService) -> None:
    upload = await files.uploads.create(GROWING)
    await append(files, upload, b"one")
    await files.uploads.cancel(upload)
    assert not (files.settings.files_dir / "a").exists()
    assert upload.removed
    assert files.uploads.find(upload.id) is None


async def test_what_can_not_be_removed_is_logged_and_left_to_the_next_server(
    files: FileService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload = await files.uploads.create(UploadRecord("put", "a", 0.0, length=10))
    kept = await files.uploads.create(UploadRecord("tus", "b", 0.0, length=10))

    def broken(self: LocalStagedData) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(LocalStagedData, "discard", broken)
    await files.uploads.cancel_quietly(upload)
    await files.uploads.cancel_quietly(kept)
    assert caplog.text.count("could not be removed") == 2
    assert files.uploads.find(upload.id) is None, "nobody knows its id"
    assert files.uploads.find(kept.id) is kept, "its client may cancel it again"
