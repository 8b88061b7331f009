"""The upload service itself: what it finds at its start, who may write, what stays open."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.block_digests import block_digest
from tests.support.files import file_service
from tests.support.servers import PATIENCE
from tests.support.sqlite_leases import SqliteLeases
from tornado_app import problems
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.service import FileService
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.uploads.lease.memory import MemoryLeases
from tornado_app.files.uploads.registry import MOST_OPEN
from tornado_app.files.uploads.service import Uploads
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.settings import Settings


def record(name: str | None = "a", **fields: object) -> UploadRecord:
    return UploadRecord(**{"kind": "tus", "name": name, "created": time.time(), **fields})  # type: ignore[arg-type]


@pytest.fixture
async def files(settings: Settings) -> AsyncIterator[FileService]:
    service = file_service(settings)
    await service.open()
    yield service
    await service.close()


@pytest.fixture
def uploads_dir(settings: Settings) -> Path:
    return settings.files_dir / ".holdfast/uploads"


class TestStart:
    async def test_what_nobody_can_come_back_to_is_cleared_away(self, settings: Settings, uploads_dir: Path) -> None:
        service = file_service(settings)
        await service.open()
        for number, kind in enumerate(("plain", "put")):
            upload = await service.uploads.create(record(f"f{number}", kind=kind))
            upload.staged.write([b"abc"])
        seed = await service.uploads.create(record("seed", kind="seed"), "seed-1")
        seed.staged.write([b"abc"])
        seed.staged.publish("seed")  # as if killed before it was forgotten
        kept = await service.uploads.create(record("kept"))
        await service.close()
        service = file_service(settings)
        await service.open()
        assert [upload.id for upload in service.uploads] == [kept.id] == os.listdir(uploads_dir)
        assert (settings.files_dir / "seed").read_bytes() == b"abc"
        await service.close()

    async def test_what_can_not_be_read_is_left_alone_and_stops_nothing(
        self, settings: Settings, uploads_dir: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name, info in (("spoilt", b"{"), ("other", b'{"kind": "no such"}')):
            (uploads_dir / name).mkdir(parents=True)
            (uploads_dir / name / "info").write_bytes(info)
            (uploads_dir / name / "data").write_bytes(b"bytes")
        (uploads_dir / "empty").mkdir()
        (uploads_dir / "a file").write_bytes(b"")
        service = file_service(settings)
        await service.open()
        assert list(service.uploads) == []
        assert "upload spoilt can't be read" in caplog.text
        assert (uploads_dir / "spoilt/data").read_bytes() == b"bytes"
        await service.close()

    @pytest.mark.parametrize("given", [False, True])
    async def test_the_digest_is_made_again_from_what_is_there(self, settings: Settings, given: bool) -> None:
        data = os.urandom(10_000_000)
        digests = {"sha-256": hashlib.sha256(data).digest()} if given else {}
        service = file_service(settings)
        await service.open()
        upload = await service.uploads.create(record("a", length=len(data), digests=digests))
        writer = await service.uploads.write(upload, 0)
        writer.write(data[:9_000_000])
        await service.uploads.finish(writer)
        await service.close()
        service = file_service(settings)
        await service.open()
        upload = service.uploads.get(upload.id)
        for offset in (9_000_000, 9_400_000, 9_800_000):  # it catches up while more arrives
            writer = await service.uploads.write(upload, offset)
            writer.write(data[offset : min(offset + 400_000, len(data))])
            await service.uploads.finish(writer)
        assert upload.published is not None
        assert upload.published.sha256 == (hashlib.sha256(data).hexdigest() if given else None)
        assert upload.published.block_digest == block_digest(data)
        await service.close()


class TestHolding:
    async def test_of_three_the_newest_gets_it(self, files: FileService) -> None:
        upload = await files.uploads.create(record(length=9))
        asked = []
        first = await files.uploads.write(upload, 0, lambda: asked.append(1))
        second = asyncio.ensure_future(files.uploads.write(upload, 0, lambda: asked.append(2)))
        third = asyncio.ensure_future(files.uploads.write(upload, 0, lambda: asked.append(3)))
        await asyncio.sleep(0)
        assert asked == [1]
        assert not second.done()
        first.write(b"")
        await files.uploads.abandon(first, "newer request")
        with pytest.raises(problems.ProblemError, match="a newer request for this upload took over"):
            await second
        writer = await third
        writer.write(b"abc")
        await files.uploads.finish(writer)
        assert upload.offset == 3
        assert asked == [1]

    async def test_a_lost_request_does_not_wait_for_a_publication(self, files: FileService) -> None:
        """It would wait without suspending, and stop the whole server."""
        upload = await files.uploads.create(record(length=3))
        (files.settings.files_dir / "a").write_bytes(b"published meanwhile")
        writer = await files.uploads.write(upload, 0)
        writer.write(b"abc")
        with pytest.raises(problems.ProblemError) as refused:
            await files.uploads.finish(writer)
        assert refused.value.kind is problems.FILE_EXISTS
        asked = 0

        def is_lost() -> bool:
            nonlocal asked
            asked += 1
            assert asked < 100, "it asks for ever"
            return True

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(
                files.uploads.request_release(upload),
                files.uploads.request_release(upload),
                files.uploads.request_release(upload, is_lost),
            )
        assert asked
        assert upload.is_ready_to_publish
        assert (files.settings.files_dir / "a").read_bytes() == b"published meanwhile"

    async def test_of_an_upload_that_is_cancelled_twice_nothing_is_left(self, files: FileService) -> None:
        upload = await files.uploads.create(record(length=3))
        await asyncio.gather(files.uploads.cancel(upload), files.uploads.cancel(upload))
        await files.uploads.cancel(upload)
        assert isinstance(files.uploads.leases, MemoryLeases)
        assert len(files.uploads.leases) == 0
        assert list(files.uploads) == []

    async def test_the_bytes_of_an_interrupted_request_are_kept(self, files: FileService) -> None:
        upload = await files.uploads.create(record(length=9))
        first = await files.uploads.write(upload, 0)
        first.write(b"abc")
        waiting = asyncio.ensure_future(files.uploads.request_release(upload))
        await asyncio.sleep(0)
        assert first.release_requested
        await files.uploads.abandon(first, "newer request")
        await waiting
        assert upload.offset == 3

    async def test_one_that_is_cancelled_meanwhile_is_gone_for_those_who_wait(self, files: FileService) -> None:
        upload = await files.uploads.create(record(length=9))
        first = await files.uploads.write(upload, 0)
        cancelling = asyncio.ensure_future(files.uploads.cancel(upload))
        await asyncio.sleep(0)
        await files.uploads.abandon(first, "newer request")
        await cancelling
        with pytest.raises(problems.ProblemError, match="was removed"):
            await files.uploads.write(upload, 0)


class TestTwoServers:
    """Two services on one directory, which share nothing but the files and the leases."""

    @pytest.fixture
    async def servers(self, settings: Settings, tmp_path: Path) -> AsyncIterator[list[Uploads]]:
        executor = BlockingExecutor(4, "test")
        leases = [SqliteLeases(tmp_path / "leases.sqlite", name) for name in ("one", "other")]
        stores = [LocalStore(settings.files_dir, durable=False) for _ in leases]
        yield [Uploads(settings, store, executor, leases=its) for store, its in zip(stores, leases, strict=True)]
        executor.close()
        for store, its in zip(stores, leases, strict=True):
            store.close()
            its.close()

    async def both(self, servers: list[Uploads]) -> tuple[Upload, Upload]:
        """Return an upload of 9 bytes as each of the two servers knows it."""
        one, other = servers
        await one.open()
        upload = await one.create(record("a", length=9))
        await other.open()
        return upload, other.get(upload.id)

    async def test_an_upload_goes_on_at_the_other_one(self, servers: list[Uploads], settings: Settings) -> None:
        one, other = servers
        here, there = await self.both(servers)
        cut = asyncio.Event()
        stalled = await one.write(here, 0, cut.set)
        stalled.write(b"abc")
        newer = asyncio.ensure_future(other.write(there, 3))
        await asyncio.wait_for(cut.wait(), PATIENCE)
        await one.abandon(stalled, "newer request")
        writer = await asyncio.wait_for(newer, PATIENCE)
        writer.write(b"def")
        await other.finish(writer)
        await one.request_release(here)
        assert (here.offset, there.offset) == (6, 6), "whoever asks gets the offset that the other one wrote"
        writer = await one.write(here, 6)
        writer.write(b"ghi")
        await one.finish(writer)
        assert (settings.files_dir / "a").read_bytes() == b"abcdefghi"
        assert here.published is not None
        assert here.published.sha256 == hashlib.sha256(b"abcdefghi").hexdigest()
        await other.request_release(there)
        assert there.complete

    async def test_who_was_taken_over_writes_no_more(
        self, servers: list[Uploads], settings: Settings, tmp_path: Path
    ) -> None:
        one, other = servers
        here, there = await self.both(servers)
        stopped = await one.write(here, 0)
        stopped.write(b"old")  # and the server is stopped before that is written
        with sqlite3.connect(tmp_path / "leases.sqlite") as database:
            database.execute("UPDATE leases SET expires = 0")
        database.close()
        writer = await other.write(there, 0)
        writer.write(b"new")
        with pytest.raises(problems.ProblemError) as refused:
            await one.finish(stopped)
        assert refused.value.kind is problems.LOCKED
        await other.finish(writer)
        assert (there.offset, there.staged.read(0, 9)) == (3, b"new")
        await one.request_release(here)
        assert here.offset == 3

    async def test_what_the_other_one_removed_is_gone(self, servers: list[Uploads]) -> None:
        one, other = servers
        here, there = await self.both(servers)
        writer = await other.write(there, 0)
        writer.write(b"abc")
        await other.finish(writer)
        there.staged.discard()
        with pytest.raises(problems.ProblemError) as refused:
            await one.write(here, 3)
        assert refused.value.kind is problems.NO_SUCH_UPLOAD
        assert one.find(here.id) is None


@pytest.mark.slow
async def test_many_uploads_hold_few_descriptors(files: FileService) -> None:
    uploads = [await files.uploads.create(record(f"f{number}", length=2)) for number in range(MOST_OPEN + 40)]
    for offset in (0, 1):
        for upload in uploads:
            writer = await files.uploads.write(upload, offset)
            writer.write(b"x")
            await files.uploads.finish(writer)
        await files.uploads.wait_for_tasks()
        data = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _exists(fd)]
        assert (
            sum(str(files.settings.files_dir) in path and ".holdfast/uploads/" in path for path in data)
            <= MOST_OPEN + 1
        )  # one may be on its way out
    assert all(upload.complete for upload in uploads)


def _exists(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")
