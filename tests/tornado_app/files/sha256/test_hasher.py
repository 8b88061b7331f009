"""Hashing by pieces, in a child process and here."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.servers import PATIENCE, wait_until
from tornado_app.files.blocking_executor import BlockingExecutor
from tornado_app.files.sha256.hasher import FileInHand, Hasher, HasherFailedError
from tornado_app.files.store.interface import FileStat
from tornado_app.files.store.local.reader import LocalReader

pytestmark = pytest.mark.slow  # each starts a process

DATA = os.urandom(5_000_000)
PIECE = 1 << 20


@pytest.fixture
async def hasher() -> AsyncIterator[Hasher]:
    executor = BlockingExecutor(1, "test")
    it = Hasher(executor.run, idle=True)
    yield it
    await it.close()
    await it.close()
    executor.close()


def opened(path: Path) -> FileInHand:
    fd = os.open(path, os.O_RDONLY)
    return FileInHand(LocalReader(fd, FileStat(path.name, 0, 0, "tag"), os.fstat(fd)))


async def whole(hasher: Hasher, file: FileInHand) -> str:
    while (digest := await hasher.step(file, PIECE)) is None:
        pass
    return digest


async def release(*files: FileInHand) -> None:
    executor = BlockingExecutor(1, "test")
    for file in files:
        await file.close(executor.run)
    executor.close()


async def test_two_files_by_turns_have_their_own_digests(hasher: Hasher, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    (tmp_path / "b").write_bytes(DATA[:-1])
    one, two = opened(tmp_path / "a"), opened(tmp_path / "b")
    assert await hasher.step(one, PIECE) is None
    assert await hasher.step(two, PIECE) is None
    assert one.offset == two.offset == PIECE
    assert await whole(hasher, one) == hashlib.sha256(DATA).hexdigest()
    assert await whole(hasher, two) == hashlib.sha256(DATA[:-1]).hexdigest()
    await release(one, two)


async def test_the_child_has_the_lowest_priority_that_there_is(hasher: Hasher, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    file = opened(tmp_path / "a")
    assert await hasher.step(file) == hashlib.sha256(b"").hexdigest()
    assert hasher.pid is not None
    if hasattr(os, "SCHED_IDLE"):
        assert os.sched_getscheduler(hasher.pid) == os.SCHED_IDLE
    else:
        assert os.getpriority(os.PRIO_PROCESS, hasher.pid) == 19
    await release(file)


async def test_the_child_closes_a_file_that_is_not_needed_any_more(hasher: Hasher, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    (tmp_path / "b").write_bytes(b"b")
    one, two = opened(tmp_path / "a"), opened(tmp_path / "b")
    await hasher.step(one, PIECE)
    await release(one)
    await hasher.step(two)
    held = files_of(hasher.pid)
    assert str(tmp_path / "b") in held
    assert str(tmp_path / "a") not in held
    await release(two)


async def test_a_file_that_can_not_be_read_is_an_error_of_that_file_alone(hasher: Hasher, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    folder, file = opened(tmp_path), opened(tmp_path / "a")
    with pytest.raises(IsADirectoryError):
        await hasher.step(folder)
    assert await whole(hasher, file) == hashlib.sha256(DATA).hexdigest()
    await release(folder, file)


async def test_a_killed_child_is_replaced_and_the_file_begins_again(hasher: Hasher, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    file, other = opened(tmp_path / "a"), opened(tmp_path / "a")
    await hasher.step(file, PIECE)
    await hasher.step(other, PIECE)
    assert hasher.pid is not None
    os.kill(hasher.pid, signal.SIGKILL)
    for each in (file, other):  # the second one is told, too, though there is another child by then
        with pytest.raises(HasherFailedError):
            await hasher.step(each, PIECE)
    again = opened(tmp_path / "a")
    assert await whole(hasher, again) == hashlib.sha256(DATA).hexdigest()
    await release(file, other, again)


async def test_abort_ends_a_step_that_would_take_long(hasher: Hasher, tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as sparse:
        sparse.truncate(1 << 40)
    file = opened(tmp_path / "a")
    await hasher.step(file, PIECE)
    step = asyncio.ensure_future(hasher.step(file, 1 << 40))
    await asyncio.sleep(0)
    hasher.abort()
    with pytest.raises(HasherFailedError):
        await asyncio.wait_for(step, PATIENCE)
    await release(file)


async def test_the_child_ends_with_the_server(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    executor = BlockingExecutor(1, "test")
    hasher = Hasher(executor.run, idle=False)
    file = opened(tmp_path / "a")
    await hasher.step(file, PIECE)
    pid = hasher.pid
    hasher.abort()  # as the end of this process would do
    wait_until(lambda: is_zombie(pid), what="the end of the child")
    await hasher.close()
    await release(file)
    executor.close()


def files_of(pid: int | None) -> set[str]:
    return {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def is_zombie(pid: int | None) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
