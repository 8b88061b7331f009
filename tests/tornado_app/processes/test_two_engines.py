"""Two engines on one journal: each owns what it runs while its lease lasts, and nothing runs twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from holdfast.wire import BulkRequest, Event, State
from tests.support.processes import (
    engine_on,
    eventually,
    makes_progress,
    reaches,
    shared_journal,
    shut,
    start,
    told,
    until,
)
from tests.support.second_engine import second_engine
from tornado_app import problems
from tornado_app.problems import ProblemError
from tornado_app.processes.journal import queries
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.settings import Settings

LONG = 120.0
"""A lease that a living server never loses here, however slow the machine is."""

SHORT = 2.0

pytestmark = pytest.mark.slow

MakeShared = Callable[..., Awaitable[Engine]]


@pytest.fixture
async def make_shared(settings: Settings, registry: Registry) -> AsyncIterator[MakeShared]:
    """Opens engines on one journal, side by side."""
    opened: list[Engine] = []

    async def make(lease: float = LONG, registry: Registry = registry) -> Engine:
        engine = engine_on(settings, registry, journal=shared_journal(settings), lease=lease)
        await engine.open()
        opened.append(engine)
        return engine

    yield make
    for engine in opened:
        await shut(engine, 0.5)


async def owner_of(engine: Engine, id: str) -> str | None:
    return (await engine.journal.read(lambda connection: queries.get(connection, id))).owner


async def test_what_a_living_server_runs_is_not_taken_over(make_shared: MakeShared, trail: Path) -> None:
    first = await make_shared()
    await start(first, "p", trail=trail)
    await makes_progress(first, "p")
    second = await make_shared()
    await second.heartbeat.beat()
    assert await owner_of(second, "p") == first.lease.id
    process = await second.get("p")
    assert (process.state, process.attempt) == (State.RUNNING, 1)
    await makes_progress(first, "p", (await first.get("p")).progress.done or 0)
    assert told(trail) == ["run 1 0"]


async def test_a_pause_and_a_cancel_from_another_server_land(make_shared: MakeShared, trail: Path) -> None:
    first = await make_shared()
    await start(first, "p", trail=trail)
    await makes_progress(first, "p")
    second = await make_shared()
    assert (await second.pause("p")).state == State.PAUSING
    await reaches(second, "p", State.PAUSED)
    assert (await first.get("p")).state == State.PAUSED
    assert await owner_of(first, "p") is None
    await second.resume("p")
    await reaches(second, "p", State.RUNNING)
    runs_it, other = (first, second) if await owner_of(first, "p") == first.lease.id else (second, first)
    await makes_progress(runs_it, "p")
    assert (await other.cancel("p")).state == State.CANCELLING
    await reaches(other, "p", State.CANCELLED)
    lines = told(trail)
    assert "twice" not in lines
    assert [line.split()[:2] for line in lines if line.startswith("undo")] == [["undo", "2"]]


async def test_a_pause_that_another_server_revokes_lets_the_attempt_go_on(make_shared: MakeShared) -> None:
    first, second = await make_shared(), await make_shared()
    await start(first, "p", "bad", how="spins", place="process")
    await until(first, "p", lambda p: p.version & 0xFFFFFF > 0)
    assert await owner_of(second, "p") == first.lease.id
    await second.pause("p")
    await second.resume("p")
    await first.heartbeat.beat()
    process = await first.get("p")
    assert process.state in (State.RUNNING, State.QUEUED)
    await until(first, "p", lambda p: p.state == State.RUNNING)


async def test_a_kill_from_another_server_ends_the_attempt(make_shared: MakeShared) -> None:
    first = await make_shared()
    await start(first, "p", "bad", how="spins_deaf", place="process")
    await until(first, "p", lambda p: p.state == State.RUNNING and p.version & 0xFFFFFF > 0)
    second = await make_shared()
    assert (await second.kill("p")).state == State.FAILED


async def test_a_kill_that_the_owner_refuses_is_refused_with_its_reason(make_shared: MakeShared) -> None:
    first = await make_shared()
    await start(first, "p", place="thread")
    await makes_progress(first, "p")
    second = await make_shared()
    with pytest.raises(ProblemError) as there:
        await second.kill("p")
    with pytest.raises(ProblemError) as here:
        await first.kill("p")
    assert (there.value.kind, there.value.detail) == (here.value.kind, here.value.detail)
    assert there.value.kind is problems.ILLEGAL_STATE


async def test_both_see_every_event_in_one_dense_order(make_shared: MakeShared) -> None:
    engines = [await make_shared(), await make_shared()]
    watchers = [engine.watch(BulkRequest()) for engine in engines]
    names = [[f"{engine}-{n}" for n in range(10)] for engine in "ab"]
    starts = (
        start(engine, id, "empty")
        for pair in zip(*names, strict=True)
        for engine, id in zip(engines, pair, strict=True)
    )
    await asyncio.gather(*starts)
    for id in (*names[0], *names[1]):
        await reaches(engines[0], id, State.SUCCEEDED)
    seen: list[list[int]] = [[], []]
    last = 60  # a start, a claim and an end of each
    for watcher, numbers in zip(watchers, seen, strict=True):
        while last not in numbers:
            found: list[Event] = await watcher.next(5)
            numbers += [event.seq for event in found if event.seq is not None]
    assert seen == [list(range(1, last + 1))] * 2
    stored = await engines[1].events_after(0, BulkRequest())
    assert [event.seq for event in stored] == seen[0]


async def test_a_server_that_cannot_renew_stops_what_it_runs_before_another_takes_it(
    make_shared: MakeShared, trail: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = await make_shared(SHORT)
    await start(first, "p", trail=trail)
    await makes_progress(first, "p")
    second = await make_shared()

    def refuse(connection: object) -> bool:
        raise problems.UNAVAILABLE("the journal does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(first.lease, "renew", refuse)
        await eventually(lambda: "lease of this server is lost" in caplog.text)
        await until(second, "p", lambda p: p.state == State.RUNNING and p.attempt > 1)
        assert await owner_of(second, "p") == second.lease.id
        assert not len(first.runner)
    await eventually(lambda: "claims what is queued" in caplog.text)
    await makes_progress(second, "p")
    await second.cancel("p")
    await reaches(first, "p", State.CANCELLED)
    lines = told(trail)
    assert "twice" not in lines
    assert sum(line.startswith("undo") for line in lines) == 1


@pytest.mark.parametrize("place", ["thread", "process"])
async def test_what_a_killed_server_ran_goes_on_elsewhere_once(
    make_shared: MakeShared, settings: Settings, trail: Path, place: str
) -> None:
    with second_engine(settings, SHORT) as (child, id):
        async with asyncio.timeout(60):
            await run_in_child(make_shared, id, trail, place)
            child.send_signal(signal.SIGKILL)
            child.wait()
            survivors = [await make_shared(), await make_shared()]
            await until(survivors[0], "p", lambda p: p.state == State.RUNNING and p.attempt == 2)
            owner = await owner_of(survivors[0], "p")
            (runs_it,) = (each for each in survivors if each.lease.id == owner)
            await makes_progress(runs_it, "p", (await runs_it.get("p")).progress.done or 0)
            for each in survivors:
                await each.heartbeat.beat()
            assert (await runs_it.get("p")).attempt == 2
    lines = told(trail)
    assert [line.split()[:2] for line in lines] == [["run", "1"], ["run", "2"]]
    assert int(lines[1].split()[2]) > 0, "from its last checkpoint"


async def run_in_child(make_shared: MakeShared, id: str, trail: Path | str, place: str) -> None:
    """Have the child run the process `p`: an engine that is full lets it."""
    starter = await make_shared()
    starter.queue.close()
    await start(starter, "p", trail=trail, place=place)
    await until(starter, "p", lambda p: (p.progress.done or 0) > 1)
    assert await owner_of(starter, "p") == id


async def test_late_reports_of_a_server_that_was_stopped_change_nothing(
    make_shared: MakeShared, settings: Settings
) -> None:
    with second_engine(settings, SHORT) as (child, id):
        async with asyncio.timeout(60):
            await run_in_child(make_shared, id, "", "thread")
            child.send_signal(signal.SIGSTOP)
            survivor = await make_shared()
            await until(survivor, "p", lambda p: p.state == State.RUNNING and p.attempt == 2)
            child.send_signal(signal.SIGCONT)
            assert child.stderr is not None
            while "lease of this server is lost" not in await asyncio.to_thread(child.stderr.readline):
                pass
            done = (await survivor.get("p")).progress.done or 0
            await makes_progress(survivor, "p", done)
            process = await survivor.get("p")
            assert (process.state, process.attempt) == (State.RUNNING, 2)
            assert await owner_of(survivor, "p") == survivor.lease.id
            kept = await survivor.journal.read(lambda connection: queries.get(connection, "p"))
            assert (kept.done or 0) <= (process.progress.done or 0), "no checkpoint of the old attempt"


async def test_a_cancelled_process_whose_server_died_is_rolled_back_once_elsewhere(
    make_shared: MakeShared, settings: Settings, trail: Path
) -> None:
    with second_engine(settings, SHORT) as (child, id):
        async with asyncio.timeout(60):
            await run_in_child(make_shared, id, trail, "thread")
            child.send_signal(signal.SIGSTOP)
            survivors = [await make_shared(), await make_shared()]
            assert (await survivors[0].cancel("p")).state == State.CANCELLING
            child.send_signal(signal.SIGKILL)
            child.wait()
            await reaches(survivors[1], "p", State.CANCELLED)
    assert sum(line.startswith("undo") for line in told(trail)) == 1


async def test_a_limit_of_a_work_type_is_of_all_servers(make_shared: MakeShared, registry: Registry) -> None:
    work = registry.get("steps")
    assert work is not None
    work.limit, before = 1, work.limit
    try:
        first, second = await make_shared(), await make_shared()
        await start(first, "p")
        await makes_progress(first, "p")
        await start(second, "q")
        await second.heartbeat.beat()
        assert (await second.get("q")).state == State.QUEUED
        await second.cancel("p")
        await reaches(second, "q", State.RUNNING)
    finally:
        work.limit = before


async def test_a_server_that_stops_leaves_no_lease(make_shared: MakeShared, trail: Path) -> None:
    first = await make_shared()
    await start(first, "p", trail=trail)
    await makes_progress(first, "p")
    second = await make_shared()
    await shut(first)
    await until(second, "p", lambda p: p.state == State.RUNNING and p.attempt == 2)
    assert "twice" not in told(trail)
