"""The session that requests of one upload share: one lease, its release, and servers that take turns."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast import wire
from holdfast.digests import BLOCK
from tests.support.blocks import content, send, whole
from tests.support.sqlite_leases import SqliteLeases
from tornado_app import problems
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.uploads.blocks.service import BlockUploads
from tornado_app.files.uploads.blocks.session import BlockSession
from tornado_app.files.uploads.blocks.sources import Copier
from tornado_app.files.uploads.lease.memory import MemoryLeases
from tornado_app.files.uploads.service import Uploads
from tornado_app.settings import Settings

DATA = content(3 * BLOCK + 1)


class Server:
    """The services of one server on a directory that it shares with others."""

    def __init__(self, settings: Settings, name: str, folder: Path) -> None:
        self.executor = BlockingExecutor(2, name)
        self.store = LocalStore(settings.files_dir)
        self.leases = SqliteLeases(folder / "leases.sqlite", name)
        self.uploads = Uploads(settings, self.store, self.executor, leases=self.leases)
        self.block_uploads = BlockUploads(self.store, self.uploads, self.executor)

    async def open(self) -> None:
        await self.uploads.open()
        self.block_uploads.open()

    async def close(self) -> None:
        await self.uploads.close()
        self.executor.close()
        self.store.close()
        self.leases.close()


async def test_servers_take_turns_and_each_knows_the_blocks_of_the_other(settings: Settings, tmp_path: Path) -> None:
    one = Server(settings, "one", tmp_path)
    await one.open()
    upload = await one.block_uploads.create(wire.BlockUploadRequest("a", len(DATA)))
    await send(one, upload, DATA, 0, 1)
    other = Server(settings, "other", tmp_path)
    await other.open()
    there = other.block_uploads.get(upload.id)
    await send(other, there, DATA, 2, 3)
    assert (await other.block_uploads.state(there)).missing == [(1, 2), (3, 4)]
    await send(one, upload, DATA, 3, 4)
    assert (await one.block_uploads.state(upload)).missing == [(1, 2)]
    await send(other, there, DATA, 1, 2)
    stat, is_new = await other.block_uploads.end(there, wire.BlockUploadEnd(whole(DATA)))
    assert (is_new, stat.block_digest) == (True, whole(DATA))
    await other.close()
    await one.close()
    assert (settings.files_dir / "a").read_bytes() == DATA


class TestSession:
    def session(self, leases: MemoryLeases, executor: BlockingExecutor) -> BlockSession:
        def open_data():  # type: ignore[no-untyped-def]
            raise problems.NO_SUCH_UPLOAD("gone")

        async def reload(data: object) -> None:
            raise AssertionError("there is one server")

        return BlockSession("a", leases, executor, open_data, reload)

    async def test_a_session_that_can_not_be_opened_keeps_no_lease(self) -> None:
        leases, executor = MemoryLeases(), BlockingExecutor(1, "test")
        session = self.session(leases, executor)
        refused = await asyncio.gather(session.join(Copier()), session.join(Copier()), return_exceptions=True)
        assert [getattr(error, "kind", None) for error in refused] == [problems.NO_SUCH_UPLOAD] * 2
        assert session.is_over
        assert not session.is_open
        assert leases.holder("a") is None
        with pytest.raises(RuntimeError):
            _ = session.data
        executor.close()

    async def test_members_are_told_to_end_once_somebody_else_asks(self) -> None:
        session = self.session(MemoryLeases(), BlockingExecutor(1, "test"))
        members = [Copier(), Copier()]
        session.members.update(members)
        assert session.active_at > 0
        session.on_release_requested()
        assert all(member.is_to_end for member in members)
        assert session.is_over
        assert session.active_at < 0
