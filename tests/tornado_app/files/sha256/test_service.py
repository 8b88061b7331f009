"""The SHA-256 service: a digest for each file that lacks one, of the version that is there, and in nobody's way."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from holdfast.digests import BLOCK, of_block
from tests.support.servers import PATIENCE, children_of_this_process
from tornado_app.files import metrics
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.sha256 import service as sha256_service
from tornado_app.files.sha256.service import Sha256Service
from tornado_app.files.store.interface import FileDigests, FileStat
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.store.local.reader import LocalReader
from tornado_app.files.store.memory.contents import MemoryContents
from tornado_app.files.store.memory.store import MemoryStore
from tornado_app.files.store.optional_powers import PendingDigest

pytestmark = pytest.mark.slow  # most start a process

Store = LocalStore | MemoryStore
DATA = os.urandom(3 * BLOCK + 77)
OTHER = os.urandom(2 * BLOCK + 5)


class Gate:
    """`Pacing` by hand: background work may do `left` more pieces."""

    def __init__(self) -> None:
        self.left = 0
        self.waiting = 0
        self._changed = asyncio.Event()

    def allow(self, pieces: int) -> None:
        self.left += pieces
        self._changed.set()

    async def turn(self, since: float) -> None:
        assert since > 0
        self.waiting += 1
        try:
            while not self.left:
                self._changed.clear()
                await self._changed.wait()
        finally:
            self.waiting -= 1
        self.left -= 1


class Made:
    """A service on a store, with the digests that it has announced."""

    def __init__(self, store: Store, executor: BlockingExecutor) -> None:
        self.store = store
        self.gate = Gate()
        self.digests: list[FileStat] = []
        self.service = Sha256Service(store, executor.run, self.digests.append, pacing=self.gate)

    def publish(self, name: str, data: bytes) -> FileStat:
        """Publish a file as an upload does whose client sent no SHA-256."""
        staged = self.store.create("one", b"{}")
        staged.write([data])
        blocks = b"".join(of_block(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK))
        stat = staged.publish(name, FileDigests(blocks=blocks))
        staged.discard()
        self.service.published()
        return stat

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.002)

    async def until_digest(self, name: str) -> str:
        """Wait until the store knows the digest, and return it."""
        await self.until(lambda: self.store.stat(name).sha256)
        return self.store.stat(name).sha256 or ""

    async def begin(self, name: str = "a") -> None:
        """Let the service hash the first piece of the one file, and wait for the second turn."""
        self.gate.allow(1)
        await self.until(lambda: not self.gate.left and self.gate.waiting)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sha256_service, "STEP", 1 << 20)


@contextlib.asynccontextmanager
async def made(store: Store) -> AsyncIterator[Made]:
    executor = BlockingExecutor(2, "test")
    it = Made(store, executor)
    it.service.open()
    yield it
    await it.service.close()
    executor.close()


@pytest.fixture(params=["local", "memory"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Made]:
    store: Store = MemoryStore(marks_digests=True)
    if request.param == "local":
        store = LocalStore(tmp_path / "files", marks_digests=True)
    async with made(store) as it:
        yield it
    store.close()


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Made]:
    store = LocalStore(tmp_path / "files", marks_digests=True)
    async with made(store) as it:
        yield it
    store.close()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_a_file_gets_its_digest_after_its_publication_and_keeps_its_etag(either: Made) -> None:
    stat = either.publish("a", DATA)
    assert stat.sha256 is None
    assert either.store.pending_count == 1
    either.gate.allow(100)
    assert await either.until_digest("a") == sha256(DATA)
    now = either.store.stat("a")
    assert (now.etag, now.block_digest) == (stat.etag, stat.block_digest)
    await either.until(lambda: either.digests)
    assert [(each.name, each.sha256) for each in either.digests] == [("a", sha256(DATA))]
    assert either.store.pending_count == 0
    assert either.store.pending_digests(10) == []


async def test_background_work_waits_for_its_turn_and_somebody_who_asks_does_not(either: Made) -> None:
    either.publish("a", DATA)
    stat = either.publish("b", OTHER)
    await either.until(lambda: either.gate.waiting)
    future = either.service.ask(stat, "client")
    assert future is not None
    await asyncio.wait_for(future, PATIENCE)
    assert either.store.stat("b").sha256 == sha256(OTHER)
    assert either.store.stat("a").sha256 is None  # the gate is closed
    either.gate.allow(100)
    assert await either.until_digest("a") == sha256(DATA)


async def test_a_file_in_hand_makes_way_for_one_that_is_asked_for_and_goes_on_behind_it(either: Made) -> None:
    either.publish("a", DATA)
    await either.begin()
    before = metrics_bytes()
    future = either.service.ask(either.publish("b", OTHER), "client")
    assert future is not None
    await asyncio.wait_for(future, PATIENCE)
    either.gate.allow(100)
    assert await either.until_digest("a") == sha256(DATA)
    assert metrics_bytes() - before == len(OTHER) + len(DATA) - (1 << 20)  # its first piece was not read again


def metrics_bytes() -> float:
    return sum(sample.value for metric in metrics.HASHED.collect() for sample in metric.samples[:1])


async def test_several_who_ask_for_one_file_have_it_read_once(either: Made) -> None:
    stat = either.publish("a", DATA)
    before = metrics_bytes()
    futures = [either.service.ask(stat, client) for client in "xyz"]
    await asyncio.wait_for(asyncio.gather(*(future for future in futures if future)), PATIENCE)
    assert metrics_bytes() - before == len(DATA)
    assert len(either.digests) == 1


async def test_a_file_that_was_placed_by_hand_gets_a_digest_when_it_is_asked_for(local: Made, tmp_path: Path) -> None:
    (tmp_path / "files" / "mine").write_bytes(DATA)
    stat = local.store.stat("mine")
    future = local.service.ask(stat, "client")
    assert future is not None
    await asyncio.wait_for(future, PATIENCE)
    assert (local.store.stat("mine").sha256, local.store.stat("mine").etag) == (sha256(DATA), stat.etag)


async def test_what_nobody_waits_for_any_more_loses_its_place(local: Made, tmp_path: Path) -> None:
    (tmp_path / "files" / "mine").write_bytes(DATA)
    stat = local.store.stat("mine")
    local.service.ask(stat, "one")
    local.service.ask(stat, "two")
    local.service.leave("one")
    assert local.service.is_asked("mine")
    local.service.leave("two")
    await local.until(lambda: not local.service.is_asked("mine"))
    assert local.store.stat("mine").sha256 is None


async def test_who_has_waited_long_enough_finds_the_file_in_its_place_later(either: Made) -> None:
    stat = either.publish("a", DATA)
    either.service.ask(stat, "client")
    either.service.expire("a", "client")
    assert await either.until_digest("a") == sha256(DATA)


async def test_a_file_that_is_replaced_while_it_is_read_gets_the_new_digest(either: Made) -> None:
    either.publish("a", DATA)
    await either.begin()
    either.publish("a", OTHER)
    either.gate.allow(100)
    assert await either.until_digest("a") == sha256(OTHER)
    await either.until(lambda: either.digests and either.store.pending_count == 0)
    assert {each.sha256 for each in either.digests} == {sha256(OTHER)}


@pytest.mark.parametrize("piece", [0, 3])
async def test_a_file_that_is_edited_by_hand_while_it_is_read_gets_the_digest_of_what_it_holds(
    local: Made, tmp_path: Path, piece: int
) -> None:
    local.publish("a", DATA)
    await local.begin()
    path = tmp_path / "files" / "a"
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(piece << 20)
        file.write(b"edited")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if nothing had happened
    local.gate.allow(100)
    content = path.read_bytes()
    assert content != DATA
    assert await local.until_digest("a") == sha256(content)
    await local.until(lambda: local.digests)
    assert {each.sha256 for each in local.digests} == {sha256(content)}


async def test_a_chmod_meanwhile_only_costs_another_reading(local: Made, tmp_path: Path) -> None:
    stat = local.publish("a", DATA)
    await local.begin()
    (tmp_path / "files" / "a").chmod(0o600)
    local.gate.allow(100)
    assert await local.until_digest("a") == sha256(DATA)
    assert local.store.stat("a").etag == stat.etag


async def test_a_file_that_is_deleted_meanwhile_is_given_up_and_the_next_one_comes(either: Made) -> None:
    either.publish("a", DATA)
    await either.begin()
    either.store.delete("a")
    either.publish("b", OTHER)
    either.gate.allow(5)  # two to find out; not enough for the rest of the first file beside the second
    assert await either.until_digest("b") == sha256(OTHER)
    await either.until(lambda: either.digests)
    assert [each.name for each in either.digests] == ["b"]
    assert either.store.pending_count == 0


async def test_who_waits_for_a_file_that_is_deleted_is_released(either: Made) -> None:
    stat = either.publish("a", DATA)
    await either.begin()
    either.store.delete("a")
    future = either.service.ask(stat, "client")
    assert future is not None
    await asyncio.wait_for(future, PATIENCE)
    assert not either.service.is_asked("a")


async def test_the_next_server_makes_what_is_pending(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "files", marks_digests=True)
    async with made(store) as first:
        first.publish("folder/a", DATA)
        await first.begin()
    store.close()
    again = LocalStore(tmp_path / "files", marks_digests=True)
    async with made(again) as second:
        assert again.pending_count == 1
        second.gate.allow(100)
        assert await second.until_digest("folder/a") == sha256(DATA)
    again.close()


async def test_to_close_in_the_middle_of_a_file_releases_who_waits_and_ends_the_child(local: Made) -> None:
    stat = local.publish("a", DATA)
    await local.begin()
    assert len(children_of_this_process()) == 1
    local.gate.left = 0
    future = local.service.ask(stat, "client")
    assert future is not None
    await asyncio.wait_for(local.service.close(), PATIENCE)
    assert future.done()
    assert not children_of_this_process()
    assert local.service.ask(stat, "client") is None


async def test_a_child_that_is_killed_costs_another_reading(local: Made) -> None:
    local.publish("a", DATA)
    await local.begin()
    (child,) = children_of_this_process()
    os.kill(child, signal.SIGKILL)
    local.gate.allow(100)
    assert await local.until_digest("a") == sha256(DATA)


async def test_a_service_that_is_switched_off_makes_none(tmp_path: Path) -> None:
    contents = MemoryContents()
    executor = BlockingExecutor(1, "test")
    service = Sha256Service(MemoryStore(contents), executor.run, lambda stat: None, enabled=False)
    service.open()
    stat = FileStat("a", 1, 0, "tag")
    assert service.ask(stat, "client") is None
    await service.close()
    executor.close()


async def test_a_file_that_can_not_be_read_is_left_alone_and_the_next_one_comes(
    either: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    either.publish("a", DATA)
    open_pending = type(either.store).open_pending

    def broken(store: Store, pending: PendingDigest) -> object:
        if pending.name == "a":
            raise OSError(errno.EIO, "Input/output error")
        return open_pending(store, pending)  # type: ignore[arg-type]

    monkeypatch.setattr(type(either.store), "open_pending", broken)
    either.gate.allow(100)
    await either.until(lambda: not either.gate.waiting)
    either.publish("b", OTHER)
    assert await either.until_digest("b") == sha256(OTHER)
    assert either.store.pending_count == 1
    future = either.service.ask(either.store.stat("a"), "client")  # who asks has it tried again
    assert future is not None
    await asyncio.wait_for(future, PATIENCE)
    assert either.store.stat("a").sha256 == sha256(DATA)


async def test_a_file_that_the_store_is_still_reading_makes_way(local: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new ctime makes the record of a large file unconfirmed, until the store has read the file."""
    local.publish("a", DATA)
    open_pending = LocalStore.open_pending

    def unconfirmed(store: LocalStore, pending: PendingDigest) -> LocalReader | None:
        reader = open_pending(store, pending)
        if reader is not None and pending.name == "a":
            reader.stat = dataclasses.replace(reader.stat, unconfirmed="tag")
        return reader

    monkeypatch.setattr(LocalStore, "open_pending", unconfirmed)
    local.gate.allow(100)
    local.publish("b", OTHER)
    assert await local.until_digest("b") == sha256(OTHER)
    assert local.store.stat("a").sha256 is None
