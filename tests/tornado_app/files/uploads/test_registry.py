"""The registry of uploads: look-up, places, and records that are written before they count."""

from __future__ import annotations

import dataclasses
import errno
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.support.files import file_service
from tornado_app import problems
from tornado_app.files.service import FileService
from tornado_app.files.uploads.registry import UploadRegistry
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.problems import Kind, ProblemError
from tornado_app.settings import Settings


@pytest.fixture
async def files(settings: Settings) -> AsyncIterator[FileService]:
    small = dataclasses.replace(
        settings, reserve_space=0, max_uploads=3, max_uploads_each=2, max_upload_size=100, upload_expiry=3600.0
    )
    service = file_service(small)
    await service.open()
    yield service
    await service.close()


@pytest.fixture
def registry(files: FileService) -> UploadRegistry:
    return files.uploads.registry


async def made(files: FileService, id: str, *, client: str = "", **fields: Any) -> Upload:
    return await files.uploads.create(UploadRecord("tus", id, time.time(), **fields), id, client=client)


def refusal(work: Any, *arguments: Any, **keywords: Any) -> Kind:
    with pytest.raises(ProblemError) as refused:
        work(*arguments, **keywords)
    return refused.value.kind


class TestLookUp:
    async def test_each_way_not_to_be_there_has_an_answer_of_its_own(
        self, files: FileService, registry: UploadRegistry
    ) -> None:
        kept, cancelled, expired = [await made(files, id) for id in ("kept", "cancelled", "expired")]
        await files.uploads.cancel(cancelled)
        await files.uploads.cancel(expired, expired=True)
        assert registry.get("kept") is registry.find("kept") is kept
        assert refusal(registry.get, "none") is problems.NO_SUCH_UPLOAD
        assert refusal(registry.get, "cancelled") is problems.NO_SUCH_UPLOAD
        assert refusal(registry.get, "expired") is problems.GONE
        assert registry.find("expired") is None
        assert refusal(registry.check_usable, cancelled) is problems.NO_SUCH_UPLOAD

    async def test_pages_are_in_the_order_of_ids(self, files: FileService, registry: UploadRegistry) -> None:
        for id in ("b", "c", "a"):
            await made(files, id)
        assert [upload.id for upload in registry.after("", 2)] == ["a", "b"]
        assert [upload.id for upload in registry.after("b", 9)] == ["c"]
        assert len(registry) == 3

    async def test_an_upload_may_be_removed_while_all_are_visited(
        self, files: FileService, registry: UploadRegistry
    ) -> None:
        for id in ("a", "b"):
            await made(files, id)
        for upload in registry:
            registry.remove(upload)
        assert list(registry) == []


class TestPlaces:
    async def test_there_is_a_most_for_all_and_for_each_client(
        self, files: FileService, registry: UploadRegistry
    ) -> None:
        await made(files, "a", client="one")
        await made(files, "b", client="one")
        assert refusal(registry.reserve, "c", "one") is problems.TOO_MANY
        await made(files, "c", client="other")
        assert refusal(registry.reserve, "d", "third") is problems.TOO_MANY
        assert registry.in_the_making == 3
        await files.uploads.cancel(registry.get("a"))
        await made(files, "d", client="one")

    async def test_the_server_itself_has_no_share(self, files: FileService) -> None:
        for id in ("a", "b", "c"):
            await made(files, id)

    async def test_two_can_not_be_made_under_one_id(self, files: FileService, registry: UploadRegistry) -> None:
        await made(files, "a")
        assert refusal(registry.reserve, "a", "") is problems.CONFLICT
        registry.reserve("b", "")
        assert refusal(registry.reserve, "b", "") is problems.CONFLICT
        registry.vacate("b")
        await made(files, "b")

    async def test_a_creation_that_fails_takes_no_place(
        self, files: FileService, registry: UploadRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(id: str, info: bytes) -> None:
            raise problems.NO_SPACE("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(files.store, "create", full)
            with pytest.raises(ProblemError):
                await made(files, "a")
        assert registry.in_the_making == 0
        await made(files, "a")

    async def test_what_is_complete_takes_no_place(self, files: FileService, registry: UploadRegistry) -> None:
        upload = await made(files, "a", length=3)
        assert registry.takes_place("a")
        writer = await files.uploads.write(upload, 0)
        writer.write(b"abc")
        await files.uploads.finish(writer)
        assert not registry.takes_place("a")
        assert registry.find("a") is upload, "its state is kept"


class TestRecords:
    def stored(self, files: FileService, upload: Upload) -> UploadRecord:
        return msgspec.json.decode(files.store.load(upload.id).info, type=UploadRecord)

    async def test_a_length_is_set_once(self, files: FileService, registry: UploadRegistry) -> None:
        upload = await made(files, "a")
        writer = await files.uploads.write(upload, 0)
        writer.write(b"abc")
        await files.uploads.finish(writer)
        for length, kind in ((2, problems.INCONSISTENT_LENGTH), (101, problems.TOO_LARGE)):
            with pytest.raises(ProblemError) as refused:
                await registry.set_length(upload, length)
            assert refused.value.kind is kind
        await registry.set_length(upload, 5)
        await registry.set_length(upload, 5)
        assert self.stored(files, upload).length == 5
        with pytest.raises(ProblemError) as refused:
            await registry.set_length(upload, 6)
        assert (refused.value.kind, refused.value.members["bytes_read"]) == (problems.INCONSISTENT_LENGTH, 3)

    async def test_a_change_that_can_not_be_written_is_none(
        self, files: FileService, registry: UploadRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload = await made(files, "a")

        def fail(info: bytes) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(upload.staged, "set_info", fail)
        with pytest.raises(OSError, match="Input/output"):
            await registry.update_record(upload, length=5)
        assert upload.record.length is None

    async def test_a_broken_upload_can_only_be_deleted_even_if_that_can_not_be_written(
        self,
        files: FileService,
        registry: UploadRegistry,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        upload = await made(files, "a")

        def fail(info: bytes) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(upload.staged, "set_info", fail)
            await registry.mark_broken(upload, "a test says so")
        assert "could not be written" in caplog.text
        assert refusal(registry.get, "a") is problems.BROKEN
        assert registry.get("a", broken=True) is upload
        assert registry.in_the_making == 0
        await files.uploads.cancel(upload)
        assert refusal(registry.get, "a", broken=True) is problems.NO_SUCH_UPLOAD

    async def test_a_later_server_knows_that_it_is_broken(self, files: FileService, registry: UploadRegistry) -> None:
        upload = await made(files, "a")
        await registry.mark_broken(upload, "a test says so")
        assert self.stored(files, upload).broken == "a test says so"
