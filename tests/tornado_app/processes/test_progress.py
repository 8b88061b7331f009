"""A flood of log lines: nothing goes without a word, and whoever floods waits."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Generator
from contextlib import closing
from typing import Any

import pytest

from holdfast.wire import State
from holdfast.work import Job, Progress, work_type
from tests.support.processes import eventually, reaches, start
from tests.tornado_app.processes.conftest import Make
from tornado_app.processes.executors import log_buffer
from tornado_app.processes.executors.attempt import Line
from tornado_app.processes.executors.log_buffer import LogBuffer
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.settings import Settings


def messages(lines: list[Line]) -> list[str]:
    return [message for _, message in lines]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for three lines, and nobody waits long for more."""
    monkeypatch.setattr(log_buffer, "MOST", 3)
    monkeypatch.setattr(log_buffer, "PATIENCE", 0.02)


# -- the backlog by itself


@pytest.mark.usefixtures("impatient")
def test_where_nobody_takes_lines_the_oldest_go_and_their_number_is_told() -> None:
    lines = LogBuffer()
    for n in range(5):
        lines.put((0.0, str(n)), wait=True)
    missing, *rest = messages(lines.take())
    assert missing.startswith("[2 lines of the log are missing here")
    assert rest == ["2", "3", "4"]
    assert lines.take() == [], "told once"


@pytest.mark.usefixtures("impatient")
def test_lines_that_could_not_be_written_stand_before_what_is_missing() -> None:
    lines = LogBuffer()
    for n in range(2):
        lines.put((0.0, str(n)), wait=True)
    taken = lines.take()
    for n in range(2, 6):
        lines.put((0.0, str(n)), wait=True)
    lines.put_back(taken)
    before, after, missing, *rest = messages(lines.take(100))
    assert (before, after, rest) == ("0", "1", ["3", "4", "5"])
    assert missing.startswith("[1 lines")


def test_who_says_a_line_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_buffer, "MOST", 3)
    lines = LogBuffer()
    for n in range(3):
        lines.put((0.0, str(n)), wait=True)
    waiting = threading.Thread(target=lines.put, args=((0.0, "3"),), kwargs={"wait": True})
    waiting.start()
    assert lines.is_full
    assert messages(lines.take(2)) == ["0", "1"]
    waiting.join(10)
    assert messages(lines.take()) == ["2", "3"]


# -- in each place


async def said(engine: Engine, id: str) -> list[str]:
    """The whole log."""
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        page = await engine.log(id, after, 5000)
        found += [line.message for line in page.items]
        after = page.next
    return found


@pytest.mark.slow
@pytest.mark.parametrize("place", ["thread", "process"])
async def test_a_flood_in_a_place_that_can_wait_loses_no_line(engine: Engine, place: str) -> None:
    count = log_buffer.MOST * 3
    await start(engine, "p", "flood", to=count, place=place)
    await reaches(engine, "p", State.SUCCEEDED)
    assert await said(engine, "p") == [f"line {n}" for n in range(count)]


@pytest.mark.slow
async def test_a_flood_on_the_loop_that_nobody_can_hold_up_tells_how_much_is_missing(engine: Engine) -> None:
    count = log_buffer.MOST + 500
    await start(engine, "p", "flood-async", to=count)
    await reaches(engine, "p", State.SUCCEEDED)
    missing, *rest = await said(engine, "p")
    told = re.match(r"\[(\d+) lines of the log are missing here", missing)
    assert told is not None
    assert rest == [f"line {n}" for n in range(int(told[1]), count)]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["thread", "process"])
async def test_a_flood_that_outlasts_the_patience_is_told_by_its_number(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Lines are taken ten times a second, 50 at a time; 20 ms is what a line waits."""
    monkeypatch.setattr(log_buffer, "MOST", 50)
    monkeypatch.setattr(log_buffer, "PATIENCE", 0.02)
    await start(engine, "p", "flood", to=300, place=place)
    await reaches(engine, "p", State.SUCCEEDED)
    lines = await said(engine, "p")
    gone = sum(int(told[1]) for line in lines if (told := re.match(r"\[(\d+) lines", line)))
    kept = [int(line.removeprefix("line ")) for line in lines if not line.startswith("[")]
    assert gone > 0
    assert len(kept) + gone == 300
    assert kept == sorted(set(kept))


# -- without an interval


async def test_a_yield_after_a_stop_request_is_durable_before_it_returns(
    make_engine: Make, registry: Registry, settings: Settings
) -> None:
    engine = await make_engine(journal_interval=0)
    begun, release, kept = threading.Event(), threading.Event(), list[float | None]()

    @work_type("held")
    def held(job: Job[Any]) -> Generator[Progress, None, None]:
        """Wait for the test, then read what the journal has of its yield."""
        begun.set()
        release.wait(60)
        try:
            yield Progress(1)
        finally:
            with closing(sqlite3.connect(settings.data_dir / "journal.sqlite")) as journal:
                kept.extend(journal.execute("SELECT done FROM processes").fetchone())

    registry.add(held, __name__)
    try:
        await start(engine, "p", "held", place="thread")
        await eventually(begun.is_set)
        await engine.pause("p")
    finally:
        release.set()
    await reaches(engine, "p", State.PAUSED)
    assert kept == [1]
