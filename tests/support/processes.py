"""Helpers for the engine: short settings, starting, and waiting for a state."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from holdfast.wire import Process, StartRequest, State
from tests.support.servers import PATIENCE
from tornado_app.app import new_engine
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.workspace import Workspace
from tornado_app.processes.executors.interface import ExecutorFactory
from tornado_app.processes.journal.interface import Journal
from tornado_app.processes.journal.ownership import LEASE
from tornado_app.processes.journal.sqlite import SqliteJournal
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.settings import Settings

T = TypeVar("T")

WORK_OF_PLACE = {"thread": "steps", "process": "steps", "loop": "steps-async"}
PLACES = tuple(WORK_OF_PLACE)


def quick(settings: Settings) -> Settings:
    """The same with the work types of the tests, and nothing long to wait for."""
    return dataclasses.replace(
        settings,
        import_=("tests.support.work",),
        default_work_type="steps",
        shutdown_grace=5.0,
        kill_grace=0.2,
        stall_after=0.3,
        journal_interval=0.02,
    )


async def start(engine: Engine, id: str, work_type: str = "steps", **options: Any) -> Process:
    """Start a process; what is no field of the request is a parameter of the work."""
    fields = {name: options.pop(name) for name in list(options) if name in StartRequest.__struct_fields__}
    params = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    process, _ = await engine.start(StartRequest(work_type=work_type, id=id, params=params, **fields))
    return process


async def start_in(engine: Engine, place: str, id: str, **options: Any) -> Process:
    """Start counting in that place."""
    return await start(engine, id, WORK_OF_PLACE[place], place=place, **options)


def engine_on(
    settings: Settings,
    registry: Registry,
    more: Mapping[str, ExecutorFactory] | None = None,
    *,
    journal: Journal | None = None,
    lease: float = LEASE,
) -> Engine:
    """Return an engine with a store of its own and `more` executors, not open yet; `shut` closes both."""
    store = LocalStore(settings.files_dir)
    engine = new_engine(settings, registry, Workspace(store), more, journal=journal, lease=lease)
    _stores[engine] = store
    return engine


def shared_journal(settings: Settings) -> SqliteJournal:
    """A journal of these settings that other engines may have open, too."""
    return SqliteJournal(settings.data_dir / "journal.sqlite", shared=True)


_stores: weakref.WeakKeyDictionary[Engine, LocalStore] = weakref.WeakKeyDictionary()


async def shut(engine: Engine, grace: float = 5) -> None:
    """Stop and close it, as the server does; twice is once."""
    await engine.stop(grace)
    await engine.close()
    if engine in _stores:
        _stores.pop(engine).close()


async def reaches(engine: Engine, id: str, *states: str, within: float = PATIENCE) -> Process:
    """The process once it is in one of `states`."""
    return await until(engine, id, lambda process: process.state in states, within)


async def makes_progress(engine: Engine, id: str, beyond: float = 0) -> Process:
    """The process once it runs and has done more than `beyond`."""
    return await until(engine, id, lambda p: p.state == State.RUNNING and (p.progress.done or 0) > beyond)


async def until(engine: Engine, id: str, true: Callable[[Process], bool], within: float = PATIENCE) -> Process:
    """The process once `true` says so. Raises `AssertionError` after `within` seconds."""
    deadline = time.monotonic() + within
    process = await engine.get(id)
    while not true(process):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {process}")
        process = await engine.wait(id, process.version, 0.05)
    return process


async def eventually(condition: Callable[[], Awaitable[T] | T], within: float = PATIENCE) -> T:
    """The first true value of `condition`."""
    deadline = time.monotonic() + within
    while True:
        value: Any = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value  # type: ignore[no-any-return]
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.005)


def told(trail: Path) -> list[str]:
    """The lines of a trail."""
    return trail.read_text().splitlines() if trail.exists() else []


def alive(pid: int) -> bool:
    """Return whether that OS process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
