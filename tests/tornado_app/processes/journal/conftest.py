"""A journal that several servers share, and a clock that the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.journals import SetClock
from tornado_app.processes.journal.sqlite import SqliteJournal


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    """Return the journal, open."""
    journal = SqliteJournal(tmp_path / "journal.sqlite", shared=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, journal.open, loop)
    yield journal
    await loop.run_in_executor(None, journal.close)


@pytest.fixture
def database() -> SetClock:
    """Return SQLite with that clock."""
    return SetClock()
