"""Parts that are joined into one file: in order, once, and as soon as the last is complete."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.files import file_service
from tests.support.uploads import shown
from tornado_app import problems
from tornado_app.files.service import FileService
from tornado_app.files.uploads.concatenation import Concatenation
from tornado_app.files.uploads.expiry import JOINED_EXPIRY_S
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.problems import ProblemError
from tornado_app.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, reserve_space=0, max_upload_size=100)


@pytest.fixture
async def files(settings: Settings) -> AsyncIterator[FileService]:
    service = file_service(settings)
    await service.open()
    yield service
    await service.close()


@pytest.fixture
def concatenation(files: FileService) -> Concatenation:
    return files.uploads.concatenation


async def begun(files: FileService, data: bytes, length: int | None = None) -> Upload:
    """A part with some bytes in it; whole unless its `length` says otherwise."""
    size = len(data) if length is None else length
    part = await files.uploads.create(UploadRecord("tus", None, time.time(), length=size, concat="partial"))
    await append(files, part, data)
    return part


async def append(files: FileService, part: Upload, data: bytes) -> None:
    writer = await files.uploads.write(part, part.offset)
    writer.write(data)
    await files.uploads.finish(writer)


async def whole_of(files: FileService, name: str, *parts: Upload, overwrite: bool = False) -> Upload:
    record = UploadRecord("tus", name, time.time(), overwrite=overwrite, parts=[part.id for part in parts])
    return await files.uploads.create(record)


class TestCheck:
    async def test_only_parts_of_this_server_can_be_joined(
        self, files: FileService, concatenation: Concatenation
    ) -> None:
        part = await begun(files, b"abc")
        own = await files.uploads.create(UploadRecord("tus", "own", time.time(), length=3))
        broken = await begun(files, b"abc", 9)
        await files.uploads.registry.mark_broken(broken, "a test says so")
        concatenation.check([part.id, part.id])
        for ids in ([], ["none"], [part.id, own.id], [broken.id]):
            with pytest.raises(ProblemError) as refused:
                concatenation.check(ids)
            assert refused.value.kind is problems.BAD_REQUEST

    async def test_a_whole_that_is_too_long_is_refused_before_it_is_made(
        self, files: FileService, concatenation: Concatenation
    ) -> None:
        parts = [(await begun(files, b"x" * 40)).id for _ in range(3)]
        concatenation.check(parts[:2])
        with pytest.raises(ProblemError) as refused:
            concatenation.check(parts)
        assert refused.value.kind is problems.TOO_LARGE

    async def test_the_length_is_known_when_that_of_each_part_is(
        self, files: FileService, concatenation: Concatenation
    ) -> None:
        one, other = await begun(files, b"abc"), await begun(files, b"d", 9)
        assert concatenation.length([one.id, other.id, one.id]) == 15
        deferred = await files.uploads.create(UploadRecord("tus", None, time.time(), concat="partial"))
        assert concatenation.length([one.id, deferred.id]) is None
        assert concatenation.length([one.id, "none"]) is None


class TestJoin:
    async def test_parts_are_joined_in_the_order_of_the_request(
        self, files: FileService, concatenation: Concatenation
    ) -> None:
        first, second = await begun(files, b"first "), await begun(files, b"second ")
        whole = await whole_of(files, "a", second, first, second)
        await concatenation.begin(whole)
        assert shown(files.settings.files_dir) == {"a": b"second first second "}
        assert (whole.complete, whole.record.length) == (True, 20)

    async def test_the_last_part_that_completes_makes_the_file(
        self, files: FileService, concatenation: Concatenation
    ) -> None:
        parts = [await begun(files, b"a", 2), await begun(files, b"b", 2)]
        whole = await whole_of(files, "a", *parts)
        await concatenation.begin(whole)
        await append(files, parts[1], b"B")
        await files.uploads.wait_for_tasks()
        assert shown(files.settings.files_dir) == {}
        await append(files, parts[0], b"A")
        await files.uploads.wait_for_tasks()
        assert shown(files.settings.files_dir) == {"a": b"aAbB"}

    async def test_a_part_may_belong_to_several_files(self, files: FileService, concatenation: Concatenation) -> None:
        shared, other = await begun(files, b"s", 2), await begun(files, b"o")
        for name, parts in (("a", (shared, other)), ("b", (other, shared))):
            await concatenation.begin(await whole_of(files, name, *parts))
        await append(files, shared, b"S")
        await files.uploads.wait_for_tasks()
        assert shown(files.settings.files_dir) == {"a": b"sSo", "b": b"osS"}

    async def test_joins_at_once_do_not_wait_for_each_other(
        self, files: FileService, concatenation: Concatenation
    ) -> None:
        parts = [await begun(files, bytes([number]) * 5) for number in range(4)]
        wholes = [await whole_of(files, f"f{n}", *(parts[n:] + parts[:n])) for n in range(4)]
        async with asyncio.timeout(60):
            await asyncio.gather(*(concatenation.begin(whole) for whole in wholes))
        assert len(shown(files.settings.files_dir)) == 4

    async def test_a_join_of_the_same_whole_twice_makes_one_file(
        self, files: FileService, concatenation: Concatenation
    ) -> None:
        whole = await whole_of(files, "a", await begun(files, b"abc"))
        await asyncio.gather(
            concatenation.join(whole), concatenation.join_quietly(whole), files.uploads.request_release(whole)
        )
        assert shown(files.settings.files_dir) == {"a": b"abc"}

    async def test_the_digest_is_that_of_the_whole(self, files: FileService, concatenation: Concatenation) -> None:
        data = os.urandom(60)
        parts = [await begun(files, data[:25]), await begun(files, data[25:])]
        whole = await whole_of(files, "a", *parts)
        await concatenation.begin(whole)
        assert whole.published is not None
        assert files.store.stat("a").sha256 == whole.published.sha256 is not None

    async def test_a_part_that_is_used_is_not_kept_for_long(
        self, files: FileService, concatenation: Concatenation
    ) -> None:
        part = await begun(files, b"abc")
        before = files.uploads.expires(part)
        await concatenation.begin(await whole_of(files, "a", part))
        assert files.uploads.expires(part) < min(before, time.time() + JOINED_EXPIRY_S + 5)


class TestRefusals:
    async def test_a_name_that_was_taken_meanwhile_is_an_error_for_who_asks_and_a_line_in_the_log(
        self, files: FileService, concatenation: Concatenation, caplog: pytest.LogCaptureFixture
    ) -> None:
        part = await begun(files, b"a", 2)
        whole = await whole_of(files, "a", part)
        await concatenation.begin(whole)
        (files.settings.files_dir / "a").write_bytes(b"another's")
        with caplog.at_level(logging.WARNING):
            await append(files, part, b"b")
            await files.uploads.wait_for_tasks()
        assert f"upload {whole.id} can't be joined" in caplog.text
        assert shown(files.settings.files_dir) == {"a": b"another's"}
        assert files.uploads.find(part.id) is part, "the parts are kept"

    async def test_one_made_of_the_same_parts_is_found_again(
        self, files: FileService, concatenation: Concatenation
    ) -> None:
        """A client whose answer was lost asks a second time."""
        part = await begun(files, b"abc")
        whole = await whole_of(files, "a", part)
        await concatenation.begin(whole)
        etag = files.store.stat("a").etag
        assert concatenation.made(whole.record, etag) is whole
        assert concatenation.made(whole.record, "another") is None
        assert concatenation.made(UploadRecord("tus", "a", 0.0), etag) is None

    async def test_a_part_that_is_cancelled_ends_the_wait(
        self, files: FileService, concatenation: Concatenation
    ) -> None:
        parts = [await begun(files, b"a"), await begun(files, b"b", 2)]
        whole = await whole_of(files, "a", *parts)
        await concatenation.begin(whole)
        await files.uploads.cancel(parts[0])
        await append(files, parts[1], b"B")
        await files.uploads.wait_for_tasks()
        assert shown(files.settings.files_dir) == {}
        assert not whole.complete

    async def test_a_server_that_starts_anew_joins_what_waited(self, settings: Settings) -> None:
        files = file_service(settings)
        await files.open()
        part = await begun(files, b"abc")
        await whole_of(files, "a", part)  # and nobody has begun to join it
        await files.close()
        files = file_service(settings)
        await files.open()
        await files.uploads.wait_for_tasks()
        assert shown(settings.files_dir) == {"a": b"abc"}
        await files.close()
