"""Engines in this process, on the work types of `tests.support.work`."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from tests.support import work
from tests.support.processes import engine_on, quick, shut
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> None:
    """The process place's fork server, shared by all tests here: it ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tornado_app.processes.executors.child", "tests.support.work"])
    forkserver.ensure_running()


@pytest.fixture
def registry() -> Registry:
    """The work types of `tests.support.work`."""
    registry = Registry()
    registry.add_module(work)
    return registry


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings that know the work types of the tests and wait for nothing long."""
    settings.data_dir.mkdir()
    return quick(settings)


Make = Callable[..., Awaitable[Engine]]


@pytest.fixture
async def make_engine(settings: Settings, registry: Registry) -> AsyncIterator[Make]:
    """Opens engines on this test's folder, one after another: `await make_engine(max_running=2)`."""
    opened: list[Engine] = []
    work.RELEASE.clear()

    async def make(**changes: Any) -> Engine:
        changed = dataclasses.replace(settings, **changes)
        engine = engine_on(changed, registry)
        await engine.open()
        opened.append(engine)
        return engine

    yield make
    work.RELEASE.set()
    for engine in opened:
        await shut(engine, 0.5)
    work.RELEASE.clear()


@pytest.fixture
async def engine(make_engine: Make) -> Engine:
    """An engine, open."""
    return await make_engine()


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """The file in which work tells what it did."""
    return tmp_path / "trail"


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once."""
    monkeypatch.setattr("tornado_app.processes.journal.transitions.BACKOFF_FIRST", 0.01)
