"""The queue between a request and the disk."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.files import file_service
from tornado_app import problems
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.service import FileService
from tornado_app.files.store.local.staged.data import LocalStagedData
from tornado_app.files.uploads.digest_check import DigestCheck
from tornado_app.files.uploads.upload import UploadRecord
from tornado_app.files.uploads.writer import QUEUED
from tornado_app.settings import Settings


async def test_bytes_that_are_being_written_are_not_counted_twice_towards_the_length(
    settings: Settings, monkeypatch: Any
) -> None:
    """The offset moves in a worker thread before the queue counts it: the end must not seem to come early."""
    files = file_service(settings)
    await files.open()
    try:
        uploads = files.uploads
        upload = await uploads.create(UploadRecord(kind="seed", name="x.bin", created=0.0, length=2 * QUEUED))
        writer = await uploads.write(upload, 0)
        written, go_on = asyncio.Event(), asyncio.Event()
        run = BlockingExecutor.run

        async def slowly(self: BlockingExecutor, function: Any, *arguments: Any) -> Any:
            result = await run(self, function, *arguments)
            written.set()
            await go_on.wait()
            return result

        monkeypatch.setattr(BlockingExecutor, "run", slowly)
        writer.write(b"a" * QUEUED)
        await written.wait()  # down, and still in the queue's count
        room = writer.write(b"b" * QUEUED)
        go_on.set()
        if room is not None:
            await room
        await uploads.finish(writer)
        assert upload.offset == 2 * QUEUED
        assert (settings.files_dir / "x.bin").read_bytes() == b"a" * QUEUED + b"b" * QUEUED
    finally:
        await files.close()


@pytest.fixture
async def files(settings: Settings) -> AsyncIterator[FileService]:
    service = file_service(settings)
    await service.open()
    yield service
    await service.close()


def check_of(data: bytes) -> DigestCheck:
    return DigestCheck({"sha256": hashlib.sha256(data).digest()})


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """`room` more bytes fit on the disk."""
    pwritev = os.pwritev
    left = {"room": 1 << 40}

    def limited(fd: int, pieces: list[bytes | memoryview], offset: int) -> int:
        some = pieces[0][: left["room"]]
        if not some:
            raise OSError(errno.ENOSPC, "No space left on device")
        left["room"] -= len(some)
        return pwritev(fd, [some], offset)

    monkeypatch.setattr(os, "pwritev", limited)
    return left


class TestOnAFullDisk:
    @pytest.mark.parametrize("size", [100, 6_000_000], ids=["at the end", "on the way"])
    async def test_provisional_bytes_go_and_what_is_acknowledged_later_survives_a_crash(
        self, files: FileService, disk: dict[str, int], size: int
    ) -> None:
        uploads, data = files.uploads, os.urandom(size)
        upload = await uploads.create(UploadRecord("tus", "a", 0.0, length=2 * size))
        writer = await uploads.write(upload, 0, check=check_of(data))
        disk["room"] = size // 2
        for start in range(0, size, 1 << 20):
            writer.write(data[start : start + (1 << 20)])
        with pytest.raises(problems.ProblemError, match="disk of the files directory is full"):
            await uploads.finish(writer)
        assert upload.offset == 0
        disk["room"] = 1 << 40
        writer = await uploads.write(upload, 0)
        writer.write(data)
        await uploads.finish(writer)
        assert upload.offset == size
        assert files.store.load(upload.id).offset == size, "what a restarted server would tell"

    async def test_what_is_kept_survives_a_power_cut(
        self, settings: Settings, disk: dict[str, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        safe = []
        sync = LocalStagedData.sync

        def noted(self: LocalStagedData) -> None:
            sync(self)
            safe.append(self.offset)

        monkeypatch.setattr(LocalStagedData, "sync", noted)
        files = file_service(dataclasses.replace(settings, durable=True))
        await files.open()
        upload = await files.uploads.create(UploadRecord("tus", "a", 0.0, length=100))
        disk["room"] = 7
        writer = await files.uploads.write(upload, 0)
        writer.write(b"x" * 10)
        with pytest.raises(problems.ProblemError, match="full"):
            await files.uploads.finish(writer)
        assert safe[-1] == upload.offset == 7
        disk["room"] = 7
        writer = await files.uploads.write(upload, 7)
        writer.write(b"x" * 10)
        await files.uploads.abandon(writer, "cut")
        assert safe[-1] == upload.offset == 14
        await files.close()


class TestOfTwoEnds:
    """A connection may break, or a newer request come, just when the body is whole: one of the two ends counts."""

    async def test_a_request_that_was_abandoned_can_not_finish(self, files: FileService) -> None:
        uploads, data = files.uploads, b"x" * 100
        upload = await uploads.create(UploadRecord("draft", "a", 0.0, length=200))
        older = await uploads.write(upload, 0, check=check_of(data))
        older.write(data)
        await uploads.abandon(older, "newer request")
        newer = await uploads.write(upload, 0)
        newer.write(b"y" * 50)
        with pytest.raises(problems.ProblemError, match="took over"):
            await uploads.finish(older)
        await uploads.finish(newer)
        assert (upload.offset, upload.staged.read(0, 100)) == (50, b"y" * 50)

    async def test_a_request_that_finishes_can_not_be_abandoned(self, files: FileService) -> None:
        uploads = files.uploads
        upload = await uploads.create(UploadRecord("put", "a", 0.0, length=3))
        writer = await uploads.write(upload, 0)
        writer.write(b"abc")
        finishing = asyncio.ensure_future(uploads.finish(writer))
        await asyncio.sleep(0)
        await uploads.abandon(writer, "connection lost")
        await finishing
        assert (files.settings.files_dir / "a").read_bytes() == b"abc"
