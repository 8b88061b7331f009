"""In async code nothing touches the disk on the loop's thread, whatever is called."""

from __future__ import annotations

import builtins
import fcntl
import functools
import hashlib
import inspect
import io
import os
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import holdfast
from holdfast import errors
from holdfast._async import client
from holdfast._async.files import AsyncFiles
from holdfast._async.seed import AsyncSeed
from holdfast._async.transfers import AsyncTransfers
from holdfast._transfers.handles import AsyncTransfer
from holdfast._transfers.reader import AsyncRemoteFile
from holdfast.work import Progress
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import PATIENCE

MIB = 1 << 20

pytestmark = pytest.mark.slow

Faulty = Callable[..., FaultyProxy]

CLASSES: list[type] = [
    client.AsyncClient,
    client.AsyncProcess,
    client.AsyncProcesses,
    client.AsyncSentFunction,
    AsyncFiles,
    AsyncRemoteFile,
    AsyncSeed,
    AsyncTransfers,
    AsyncTransfer,
]
NOT_ASYNC = {
    "AsyncTransfers.pending",  # says what it found at once: it reads the disk, as its docstring tells
    "AsyncFiles.upload_box",  # widgets
    "AsyncClient.dashboard",
    "AsyncProcess.watch",  # shows widgets
    "AsyncClient.watch",
}
BLOCKING: dict[ModuleType, str] = {
    os: "open stat lstat fstat fsync fdatasync read write pread preadv pwrite ftruncate truncate unlink remove rename "
    "replace link symlink readlink mkdir makedirs rmdir scandir listdir statvfs chmod",
    fcntl: "flock lockf",
    builtins: "open",
    io: "open",
    hashlib: "file_digest",
}


class Watch:
    """Notes each call of a function that blocks when it comes from the thread that made this."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.thread = threading.get_ident()
        self.seen: dict[str, str] = {}
        self.used: set[str] = set()
        self.on = False
        for module, names in BLOCKING.items():
            for name in names.split():
                monkeypatch.setattr(module, name, self._noting(f"{module.__name__}.{name}", getattr(module, name)))
        for cls in CLASSES:
            for name, member in inspect.getmembers(cls, inspect.isfunction):
                if not name.startswith("_"):
                    monkeypatch.setattr(cls, name, self._counting(f"{cls.__name__}.{name}", member))

    def _noting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def noting(*args: Any, **kwargs: Any) -> Any:
            if self.on and threading.get_ident() == self.thread:
                self.on = False  # to look at the stack reads sources
                stack = traceback.extract_stack()[:-1]
                self.on = True
                # Imports are Python's own, and come once; the rest is what this product does.
                if any("/holdfast/" in frame.filename for frame in stack) and not any(
                    "importlib" in frame.filename for frame in stack
                ):
                    self.seen.setdefault(name, "".join(traceback.format_list(stack[-8:])))
            return function(*args, **kwargs)

        return noting

    def _counting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def counting(*args: Any, **kwargs: Any) -> Any:
            self.used.add(name)
            return method(*args, **kwargs)

        return counting

    def __enter__(self) -> Watch:
        self.on = True
        return self

    def __exit__(self, *error: object) -> None:
        self.on = False


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    for number in range(6):
        (root / f"{number}.bin").write_bytes(os.urandom(MIB // 2 + number))
    (root / "link").symlink_to("0.bin")
    return root


def every_method() -> Iterator[str]:
    for cls in CLASSES:
        for name, _ in inspect.getmembers(cls, inspect.isfunction):
            if not name.startswith("_") and f"{cls.__name__}.{name}" not in NOT_ASYNC:
                yield f"{cls.__name__}.{name}"


async def test_no_method_touches_the_disk_on_the_loop(
    aclient: holdfast.AsyncClient, watch: Watch, folder: Path, tmp_path: Path
) -> None:
    with watch:
        await ask_about_everything(aclient)
        await run_processes(aclient)
        await move_files(aclient, folder, tmp_path)
        await move_folders(aclient, folder, tmp_path)
        await use_the_seed(aclient)
        async with holdfast.AsyncClient(aclient.base_url) as other:
            await other.close()
    assert not watch.seen, "\n".join(f"{name}:\n{stack}" for name, stack in watch.seen.items())
    missing = set(every_method()) - watch.used
    assert not missing, "methods that this test does not call"


async def test_pauses_and_failures_do_not_either(
    aclient: holdfast.AsyncClient, watch: Watch, folder: Path, tmp_path: Path, faulty: Faulty
) -> None:
    prefix = uuid.uuid4().hex
    await aclient.files.upload_folder(folder, prefix)
    proxy = faulty(*[Fault(cut_down=MIB // 4)] * 3)
    async with holdfast.AsyncClient(proxy.url) as through:
        with watch:
            down = through.files.download_folder(prefix, tmp_path / "down", limit=2 * MIB)
            while not down.progress.done:
                with pytest.raises(errors.WaitTimeout):
                    await down.wait(0.01)
            await down.pause()
            down.resume()
            await down.pause()
            await down.cancel()
            up = through.files.upload_folder(folder, f"{prefix}/again", limit=2 * MIB)
            while not up.progress.done:
                with pytest.raises(errors.WaitTimeout):
                    await up.wait(0.01)
            await up.cancel()
            with pytest.raises(errors.LocalExists):
                await through.files.download(f"{prefix}/0.bin", folder / "1.bin")
            with pytest.raises(FileNotFoundError):
                await through.files.upload(folder / "nowhere")
            with pytest.raises(NotADirectoryError):
                await through.files.upload_folder(folder / "nowhere", "x")
            with pytest.raises(errors.NotFound):
                await through.files.download_folder("nowhere", folder)
    assert not watch.seen, "\n".join(f"{name}:\n{stack}" for name, stack in watch.seen.items())


async def ask_about_everything(client: holdfast.AsyncClient) -> None:
    await client.identity("n" * 22)
    assert await client.live()
    assert await client.ready()
    await client.metrics()
    await client.openapi()
    await client.work_types()


async def run_processes(client: holdfast.AsyncClient) -> None:
    label = {"loop": uuid.uuid4().hex}
    process = await client.processes.start("steps", to=1000, pause=0.01, labels=label)
    async for event in client.events(ids=[process.id]):
        if event.id == process.id:
            break
    await process.pause()
    await process.wait(PATIENCE, until="paused")
    await process.resume()
    await process.refresh()
    with pytest.raises(errors.Conflict):
        await process.kill()
    await process.cancel()
    await process.wait(PATIENCE)
    [line async for line in process.log()]
    [event async for event in process.events()]
    await process.forget()
    found = await client.processes.start("steps", to=1000, pause=0.01, labels=label)
    assert [one.id async for one in client.processes.list(labels=label)] == [found.id]
    await client.processes.get(found.id)
    await client.processes.pause(found.id)
    await client.processes.wait(found.id, PATIENCE, until="paused")
    await client.processes.resume(found.id)
    with pytest.raises(errors.Conflict):
        await client.processes.kill(found.id)
    await client.processes.pause_all(labels=label)
    await client.processes.resume_all(labels=label)
    await client.processes.kill_all(labels=label)
    await client.processes.cancel_all(labels=label)
    await client.processes.wait(found.id, PATIENCE)
    other = await client.processes.start("steps", to=1000, pause=0.01)
    await client.processes.cancel(other.id)
    await client.processes.wait(other.id, PATIENCE)
    await client.processes.forget(other.id)

    def count(job: Any, to: int) -> Iterator[Progress]:
        yield Progress(done=to, total=to, checkpoint={})
        return to

    sent = await client.processes.submit(count, 3)
    assert await sent.result(PATIENCE) == 3
    await (await client.process(count)(4)).result(PATIENCE)


async def move_files(client: holdfast.AsyncClient, folder: Path, tmp_path: Path) -> None:
    name = f"{uuid.uuid4().hex}/x.bin"
    first = client.files.upload(folder / "0.bin", name)
    first.on_change(lambda transfer: None)
    await first
    await client.files.upload(folder / "0.bin", name)
    await client.files.upload(folder / "1.bin", name, overwrite=True)
    await client.files.upload(b"x" * MIB, f"{name}.bytes")
    await client.files.upload(iter([b"x", b"y"]), f"{name}.pieces")
    await client.files.download(name, f"{tmp_path}/one/")
    await client.files.download(name, tmp_path / "one")
    await client.files.download(name, tmp_path / "two.bin", segments=2)
    half = client.files.upload(folder / "2.bin", f"{name}.half", limit=MIB // 8)
    while not half.progress.done:
        with pytest.raises(errors.WaitTimeout):
            await half.wait(0.01)
    uploads = [upload async for upload in client.files.uploads() if upload.name == f"{name}.half"]
    await client.files.get_upload(uploads[0].id)
    await half.pause()
    [record] = aio_pending(client)
    again = client.transfers.resume(record)
    await again.pause()
    again.resume()
    await again.cancel()
    half = client.files.upload(folder / "2.bin", f"{name}.half", limit=MIB // 8)
    while not half.progress.done:
        with pytest.raises(errors.WaitTimeout):
            await half.wait(0.01)
    await half.pause()
    [record] = aio_pending(client)
    [upload] = [u async for u in client.files.uploads() if u.name == f"{name}.half" and not u.complete]
    await client.files.cancel_upload(upload.id)
    await client.transfers.cancel(record)
    async with await client.files.open(name) as file:
        await file.read(10)
        file.seek(0)
        file.tell()
    [info async for info in client.files.list(name)]
    [one async for one in client.files.list_folder(name.partition("/")[0])]
    await client.files.info(name)
    await client.files.digests(name)
    await client.files.read(name, 0, 10)
    await client.files.download_link(name)
    await client.files.revoke_links()
    await client.files.write(f"{name}.small", b"x")
    await client.files.delete(f"{name}.small")


def aio_pending(client: holdfast.AsyncClient) -> list[Any]:
    """`pending` reads the disk: on another thread, as a program with a busy loop would."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(client.transfers.pending()))
    thread.start()
    thread.join()
    return found


async def move_folders(client: holdfast.AsyncClient, folder: Path, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex
    await client.files.upload_folder(folder, prefix)
    await client.files.upload_folder(folder, prefix)
    await client.files.download_folder(prefix, tmp_path / "folder")
    await client.files.download_folder(prefix, tmp_path / "folder")
    await client.files.download_folder(prefix, tmp_path / "folder", overwrite=True, restart=True)
    await client.files.download_archive(prefix, tmp_path / "folder.tar", format="tar")
    await client.files.upload_archive(tmp_path / "folder.tar", f"{prefix}/again")


async def use_the_seed(client: holdfast.AsyncClient) -> None:
    seed, name, id = client.seed, f"{uuid.uuid4().hex}.txt", uuid.uuid4().hex
    await seed.start(id, "steps", to=1000, pause=0.01)
    await seed.pause(id)
    await client.processes.wait(id, PATIENCE, until="paused")
    await seed.resume(id)
    await seed.cancel(id)
    await client.processes.wait(id, PATIENCE)
    await seed.upload(name, 0, b"text", file_size=10)
    await seed.upload_status(name)
    await seed.upload_cancel(name)
    await client.files.write(name, b"text")
    await seed.download(name)
