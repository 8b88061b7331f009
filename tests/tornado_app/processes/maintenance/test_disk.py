"""While the disk of the journal is short of room, work is paused with a reason; then it goes on by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.wire import Process, State
from tests.support.processes import PLACES, makes_progress, reaches, shut, start, start_in, until
from tests.support.servers import ServerProcess, wait_until
from tests.tornado_app.processes.conftest import Make
from tornado_app.processes.maintenance import disk
from tornado_app.processes.service import Engine

MIB = 1 << 20


class Disk:
    """Space that the server is told its disk has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 1000 * MIB
        self.size = 2000 * MIB
        monkeypatch.setattr(disk, "room", lambda folder: (self.free, self.size))
        monkeypatch.setattr(disk, "CHECK_EVERY", 0.01)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def is_paused_for_room(engine: Engine, id: str) -> Process:
    paused = await reaches(engine, id, State.PAUSED)
    assert paused.error is not None
    assert paused.error.type == "DiskFull"
    assert "bytes are free on the disk of the journal" in paused.error.message
    return paused


@pytest.mark.parametrize("place", PLACES)
async def test_what_runs_is_paused_nothing_begins_and_both_go_on_when_there_is_room(
    make_engine: Make, fake: Disk, place: str
) -> None:
    engine = await make_engine()
    await start_in(engine, place, "p", every=0.005)
    before = await makes_progress(engine, "p")
    fake.free = 10 * MIB
    paused = await is_paused_for_room(engine, "p")
    await start_in(engine, place, "q", every=0.005)
    assert (await engine.get("q")).state == State.QUEUED
    fake.free = 34 * MIB  # a little more than the reserve: it would stop again at once
    await start(engine, "r", "empty")
    assert (await engine.get("r")).state == State.QUEUED
    assert (await engine.get("p")).state == State.PAUSED
    fake.free = 100 * MIB
    again = await makes_progress(engine, "p", beyond=paused.progress.done or 0)
    assert (again.error, again.attempt) == (None, before.attempt + 1)
    await makes_progress(engine, "q")
    await reaches(engine, "r", State.SUCCEEDED)


async def test_meanwhile_a_person_can_pause_resume_and_cancel(make_engine: Make, fake: Disk) -> None:
    engine = await make_engine()
    for id in ("paused", "resumed", "cancelled"):
        await start(engine, id, every=0.005)
        await makes_progress(engine, id)
    fake.free = 0
    for id in ("paused", "resumed", "cancelled"):
        await is_paused_for_room(engine, id)
    assert (await engine.pause("paused")).error is None
    assert (await engine.resume("resumed")).state == State.QUEUED
    await engine.cancel("cancelled")
    assert (await reaches(engine, "cancelled", State.CANCELLED)).error is None
    fake.free = 1000 * MIB
    await makes_progress(engine, "resumed")
    assert (await engine.get("paused")).state == State.PAUSED, "that person has not asked for it to go on"


@pytest.mark.parametrize("short", [True, False])
async def test_it_holds_over_a_restart(make_engine: Make, fake: Disk, short: bool) -> None:
    engine = await make_engine()
    await start(engine, "p", every=0.005)
    await makes_progress(engine, "p")
    fake.free = 0
    await is_paused_for_room(engine, "p")
    await start(engine, "queued", every=0.005)
    await shut(engine)
    if not short:
        fake.free = 1000 * MIB
    engine = await make_engine()
    if short:
        assert {(await engine.get(id)).attempt for id in ("p", "queued")} == {1, 0}
        await is_paused_for_room(engine, "p")
        fake.free = 1000 * MIB
    for id in ("p", "queued"):
        await makes_progress(engine, id)


async def test_it_goes_on_when_a_later_server_keeps_no_reserve(make_engine: Make, fake: Disk) -> None:
    engine = await make_engine()
    for id in ("goes-on", "by-hand"):
        await start(engine, id, every=0.005)
        await makes_progress(engine, id)
    fake.free = 0
    for id in ("goes-on", "by-hand"):
        await is_paused_for_room(engine, id)
    await engine.pause("by-hand")
    await shut(engine)
    engine = await make_engine(journal_reserve=0)
    assert (await makes_progress(engine, "goes-on")).error is None
    assert (await engine.get("by-hand")).state == State.PAUSED


async def test_of_a_small_disk_a_twentieth_is_kept_and_nothing_when_it_is_not_watched(
    make_engine: Make, fake: Disk
) -> None:
    fake.free, fake.size = 6 * MIB, 100 * MIB
    engine = await make_engine()
    await start(engine, "p", every=0.005)
    await makes_progress(engine, "p")
    fake.free = 4 * MIB
    await is_paused_for_room(engine, "p")
    await shut(engine)
    engine = await make_engine(journal_reserve=0)
    await start(engine, "q", every=0.005)
    await makes_progress(engine, "q")


async def test_work_that_ends_while_it_is_asked_to_pause_has_no_error(make_engine: Make, fake: Disk) -> None:
    engine = await make_engine()
    await start(engine, "p", "silent", seconds=0.5)
    await reaches(engine, "p", State.RUNNING)
    fake.free = 0
    await until(engine, "p", lambda process: process.state != State.RUNNING)
    fake.free = 1000 * MIB
    done = await reaches(engine, "p", State.SUCCEEDED)
    assert done.error is None


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root; the tests above run without")
def test_a_real_disk_that_others_fill_up(spawn_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(data)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this machine allows no mounts: {mounted.stderr.decode().strip()}")
    server = spawn_server("--import", "tests.support.work")

    def get() -> dict[str, Any]:
        return dict(httpx.get(f"{server.url}/v1/processes/p", timeout=30).json())

    try:
        request = {"id": "p", "work_type": "steps", "params": {"every": 0.01}}
        httpx.post(f"{server.url}/v1/processes", json=request, timeout=30).raise_for_status()
        wait_until(lambda: get()["state"] == "running")
        free = disk.room(data)[0]
        (data / "filler").write_bytes(b"x" * (free - 500_000))
        wait_until(lambda: get()["state"] == "paused")
        assert get()["error"]["type"] == "DiskFull"
        assert httpx.get(f"{server.url}/health/ready", timeout=30).status_code == 200
        (data / "filler").unlink()
        wait_until(lambda: get()["state"] == "running")
        httpx.post(f"{server.url}/v1/processes/p/cancel", timeout=30).raise_for_status()
        wait_until(lambda: get()["state"] == "cancelled")
    finally:
        server.end()
        subprocess.run(["umount", str(data)], check=True)
