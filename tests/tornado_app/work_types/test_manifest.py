"""`manifest`: what it writes is what sha256sum would, wherever it was stopped."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.wire import Process, StartRequest, State
from tests.support.processes import engine_on, reaches, shut, until
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.settings import Settings
from tornado_app.work_types import manifest as module
from tornado_app.work_types.manifest import manifest


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    settings.data_dir.mkdir()
    engine = engine_on(settings, Registry([manifest]))
    await engine.open()
    yield engine
    await shut(engine, 2)


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


async def begin(engine: Engine, id: str = "p", prefix: str = "") -> None:
    await engine.start(StartRequest(work_type="manifest", id=id, params={"prefix": prefix}))


async def made(engine: Engine, id: str = "p", prefix: str = "") -> Process:
    await begin(engine, id, prefix)
    return await reaches(engine, id, State.SUCCEEDED)


def listed(files: Path) -> dict[str, str]:
    """Return the digests in SHA256SUMS, by name."""
    lines = (files / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def files_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Gate:
    """Lets a manifest write a line for each permit, so that a stop can be asked for between two files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._permits = threading.Semaphore(0)
        line = module.checksum_line

        def permitted(digest: str, name: str) -> str:
            assert self._permits.acquire(timeout=20), "no permit came"
            return line(digest, name)

        monkeypatch.setattr(module, "checksum_line", permitted)

    def open(self, lines: int) -> None:
        self._permits.release(lines)


def fill(files: Path, count: int = 20) -> dict[str, str]:
    """Files of many sizes; their digests by name."""
    expected = {}
    for n in range(count):
        name = f"folder {n % 3}/file-{n:03}.bin" if n % 2 else f"naïve-{n:03}.txt"
        path = files / name
        path.parent.mkdir(exist_ok=True)
        data = os.urandom(n * 1000)
        path.write_bytes(data)
        expected[name] = hashlib.sha256(data).hexdigest()
    return expected


async def test_sha256sum_accepts_it(engine: Engine, files: Path) -> None:
    expected = fill(files)
    process = await made(engine)
    size = sum(n * 1000 for n in range(20))
    assert process.result == {
        "files": 20,
        "bytes": size,
        "file_name": "SHA256SUMS",
        "sha256": hashlib.sha256((files / "SHA256SUMS").read_bytes()).hexdigest(),
    }
    assert (process.progress.done, process.progress.total) == (size, size)
    assert listed(files) == expected
    checked = await asyncio.create_subprocess_exec(
        *("sha256sum", "--check", "--strict", "SHA256SUMS"), cwd=files, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await checked.communicate()
    assert checked.returncode == 0
    assert said.count(b": OK") == 20


async def test_it_does_not_list_itself_and_replaces_the_one_before(engine: Engine, files: Path) -> None:
    (files / "a").write_bytes(b"a")
    await made(engine, "one")
    (files / "a").write_bytes(b"b")
    await made(engine, "two")
    assert listed(files) == {"a": hashlib.sha256(b"b").hexdigest()}


async def test_a_prefix_chooses_and_an_empty_directory_is_an_empty_list(engine: Engine, files: Path) -> None:
    assert (await made(engine, "none")).result["files"] == 0
    assert (files / "SHA256SUMS").read_bytes() == b""
    (files / "ab").write_bytes(b"1")
    (files / "b").write_bytes(b"2")
    await made(engine, "some", "a")
    assert list(listed(files)) == ["ab"]


async def test_stopped_after_any_file_it_goes_on_there(
    engine: Engine, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAFE_POINT", module._PIECE)
    expected = fill(files, 30)
    big = os.urandom(3 << 20)
    (files / "big").write_bytes(big)
    expected["big"] = hashlib.sha256(big).hexdigest()
    gate = Gate(monkeypatch)
    await begin(engine)
    for _ in range(7):
        await reaches(engine, "p", State.RUNNING)
        await engine.pause("p")
        gate.open(1)
        await reaches(engine, "p", State.PAUSED)
        await engine.resume("p")
    gate.open(len(expected))
    process = await reaches(engine, "p", State.SUCCEEDED)
    assert process.attempt == 8
    assert listed(files) == expected
    assert process.result["files"] == 31


async def test_a_cancel_leaves_the_list_before_it_and_nothing_else(
    engine: Engine, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(files, 5)
    await made(engine, "before")
    old = (files / "SHA256SUMS").read_bytes()
    kept = files_under(files)
    gate = Gate(monkeypatch)
    gate.open(3)
    await begin(engine)
    await until(engine, "p", lambda p: (p.progress.done or 0) > 0)
    await engine.cancel("p")
    gate.open(2)
    await reaches(engine, "p", State.CANCELLED)
    assert (files / "SHA256SUMS").read_bytes() == old
    assert files_under(files) == kept


async def test_a_file_that_goes_away_meanwhile_is_left_out_and_logged(
    engine: Engine, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (files / name).write_bytes(name.encode())
    size = module._size
    monkeypatch.setattr(module, "_size", lambda job, name: (size(job, name), (files / "b").unlink(missing_ok=True))[0])
    process = await made(engine)
    assert process.result["files"] == 2
    assert list(listed(files)) == ["a", "c"]
    assert [line.message for line in (await engine.log("p", 0, 10)).items] == ["b went away meanwhile and is left out"]
