"""Order of the queue: priority, age, limits, retries with backoff, deadlines."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.wire import BulkRequest, State
from tests.support.processes import eventually, makes_progress, reaches, shut, start, told, until
from tests.tornado_app.processes.conftest import Make
from tornado_app.processes.progress import RunningAttempt
from tornado_app.processes.service import Engine

# -- slots


async def test_the_queue_goes_by_priority_and_then_by_age(make_engine: Make, trail: Path) -> None:
    engine = await make_engine(max_running=1)
    await start(engine, "first")
    await makes_progress(engine, "first")
    for id, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)):
        await start(engine, id, "talker", to=1, every=0, priority=priority)
    assert [(await engine.get(id)).state for id in "abcde"] == [State.QUEUED] * 5
    watcher = engine.broker.watch(None)
    await engine.cancel("first")
    for id in "abcde":
        await reaches(engine, id, State.SUCCEEDED)
    ran = [event.id for event in await watcher.next(1) if event.state == State.RUNNING]
    assert ran == ["b", "e", "a", "c", "d"]
    engine.broker.leave(None, watcher)


async def test_no_more_run_at_once_than_the_server_allows(make_engine: Make) -> None:
    engine = await make_engine(max_running=3)
    for n in range(6):
        await start(engine, f"p{n}")
    await until(engine, "p2", lambda p: p.state == State.RUNNING)
    assert await states(engine, 6) == ["running"] * 3 + ["queued"] * 3


async def states(engine: Engine, count: int) -> list[str]:
    return [str((await engine.get(f"p{n}")).state) for n in range(count)]


async def test_no_more_of_a_work_type_run_at_once_than_it_declares_and_others_pass_them(make_engine: Make) -> None:
    engine = await make_engine(max_running=4)
    for n in range(5):
        await start(engine, f"p{n}", "limited")
    await start(engine, "p5")
    await makes_progress(engine, "p5")
    assert await states(engine, 6) == ["running"] * 2 + ["queued"] * 3 + ["running"]
    await engine.cancel("p0")
    await makes_progress(engine, "p2")
    assert await states(engine, 6) == ["cancelled", "running", "running", "queued", "queued", "running"]


async def test_a_paused_process_holds_no_slot_and_queues_again_when_resumed(make_engine: Make) -> None:
    engine = await make_engine(max_running=1)
    for n in range(2):
        await start(engine, f"p{n}")
    await makes_progress(engine, "p0")
    await engine.pause("p0")
    await makes_progress(engine, "p1")
    assert await states(engine, 2) == ["paused", "running"]
    await engine.resume("p0")
    assert await states(engine, 2) == ["queued", "running"]
    await engine.pause("p1")
    await makes_progress(engine, "p0", (await engine.get("p0")).progress.done or 0)


async def test_a_queued_process_is_paused_and_cancelled_where_it_stands(make_engine: Make, trail: Path) -> None:
    engine = await make_engine(max_running=1)
    await start(engine, "first")
    await makes_progress(engine, "first")
    await start(engine, "p", trail=trail)
    assert (await engine.pause("p")).state == State.PAUSED
    assert (await engine.resume("p")).state == State.QUEUED
    cancelled = await engine.cancel("p")
    assert cancelled.state == State.CANCELLED
    assert cancelled.started is None
    assert told(trail) == [], "there was nothing to do and nothing to undo"


# -- retries


@pytest.mark.usefixtures("no_backoff")
async def test_a_failed_attempt_is_tried_again_from_its_last_checkpoint(engine: Engine, trail: Path) -> None:
    await start(engine, "p", "stubborn", to=2, fails=3, trail=trail)
    last = await reaches(engine, "p", State.SUCCEEDED)
    assert last.attempt == 4
    assert told(trail) == ["run 1 0", "run 2 0", "run 3 0", "run 4 0", "stop 4 2 None"]


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize(
    ("work_type", "options", "attempts"),
    [
        ("stubborn", {"fails": 9}, 4),
        ("stubborn", {"fails": 9, "retries": 1}, 2),
        ("stubborn", {"fails": 9, "retries": 0}, 1),
        ("stubborn", {"fails": 9, "error": "KeyError"}, 1),
        ("stubborn", {"fails": 9, "error": "WorkError"}, 1),
        ("particular", {"fails": 9, "error": "WorkError"}, 4),
        ("steps", {"fails": 9}, 1),
        ("steps", {"fails": 9, "retries": 2}, 3),
        ("steps", {"fails": 9, "retries": 2, "error": "WorkError"}, 1),
    ],
)
async def test_it_is_tried_as_often_as_declared_or_asked_and_only_for_errors_worth_it(
    engine: Engine, work_type: str, options: dict[str, Any], attempts: int
) -> None:
    await start(engine, "p", work_type, **options)
    last = await reaches(engine, "p", State.FAILED)
    assert last.attempt == attempts
    assert last.error is not None


@pytest.mark.slow
@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("options", [{}, {"every": 0.1}, {"checkpoints": False}, {"place": "process"}])
async def test_progress_between_failures_starts_their_count_anew(engine: Engine, options: dict[str, Any]) -> None:
    """Progress that is in the journal (with time between), or that comes with the failure alone."""
    await start(engine, "p", "climbs", to=6, **options)
    last = await reaches(engine, "p", State.SUCCEEDED, State.FAILED, within=60)
    assert (last.state, last.attempt) == (State.SUCCEEDED, 7)
    assert last.error is None, "it has no error of an earlier attempt"
    *_, event = await engine.events_after(0, BulkRequest())
    assert (event.state, event.error) == (State.SUCCEEDED, None)


@pytest.mark.usefixtures("no_backoff")
async def test_work_that_is_stuck_after_some_progress_is_given_up(engine: Engine) -> None:
    await start(engine, "p", "climbs", to=6, stuck=3)
    last = await reaches(engine, "p", State.FAILED)
    assert (last.attempt, last.progress.done) == (5, 3), "three steps, and two more attempts without any"


async def test_the_wait_before_a_retry_doubles_with_jitter_and_is_shown(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tornado_app.processes.journal.transitions.BACKOFF_FIRST", 0.02)
    watcher = engine.broker.watch("p")
    await start(engine, "p", "stubborn", fails=3, to=1)
    waits = []
    for attempt in (1, 2, 3):
        waiting = await until(
            engine, "p", lambda p, n=attempt: p.attempt > n or (p.state == State.QUEUED and p.attempt == n)
        )
        if waiting.retry_at is not None:
            assert waiting.error is not None, "the last error is shown while it waits"
    await reaches(engine, "p", State.SUCCEEDED)
    events = [event for event in await watcher.next(1) if event.type == "state"]
    engine.broker.leave("p", watcher)
    for failed, again in itertools.pairwise(events):
        if failed.before == State.RUNNING and failed.state == State.QUEUED:
            waits.append((again.time - failed.time).total_seconds())
    assert len(waits) == 3
    for wait, most in zip(waits, (0.02, 0.04, 0.08), strict=True):
        assert most * 0.5 <= wait < most + 1


async def test_while_it_waits_for_a_retry_it_holds_no_slot_and_can_be_resumed_paused_and_cancelled(
    make_engine: Make, trail: Path
) -> None:
    engine = await make_engine(max_running=1)
    await start(engine, "p", "stubborn", fails=2, trail=trail)
    await until(engine, "p", lambda p: p.retry_at is not None)
    await start(engine, "other", to=1)
    await reaches(engine, "other", State.SUCCEEDED)
    await engine.pause("p")
    resumed = await engine.resume("p")
    assert resumed.retry_at is None, "a person who resumes does not wait"
    await until(engine, "p", lambda p: p.attempt == 2 and p.retry_at is not None)
    await engine.cancel("p")
    await reaches(engine, "p", State.CANCELLED)
    assert told(trail) == ["run 1 0", "run 2 0", "undo 2 0"]


async def test_a_retry_that_waits_is_kept_over_a_restart(make_engine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tornado_app.processes.journal.transitions.BACKOFF_FIRST", 0.1)
    first = await make_engine()
    await start(first, "p", "stubborn", fails=1, to=1)
    await until(first, "p", lambda p: p.retry_at is not None)
    await shut(first)
    second = await make_engine()
    assert (await reaches(second, "p", State.SUCCEEDED)).attempt == 2


@pytest.mark.slow
async def test_a_retry_comes_although_the_clock_is_set_back_meanwhile(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tornado_app.processes.journal.transitions.BACKOFF_FIRST", 1.0)
    await start(engine, "p", "stubborn", fails=1, to=1)
    await until(engine, "p", lambda p: p.retry_at is not None)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)
    await reaches(engine, "p", State.SUCCEEDED)


# -- deadlines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work_type", "options"),
    [
        ("steps", {"place": "thread"}),
        ("steps-async", {}),
        ("steps", {"place": "process"}),
        ("bad", {"how": "spins", "place": "process"}),
        ("bad-async", {"how": "waits"}),
    ],
    ids=["thread", "loop", "process", "process that does not yield", "loop that waits"],
)
async def test_what_runs_past_its_deadline_fails_and_says_so(
    engine: Engine, work_type: str, options: dict[str, Any]
) -> None:
    began = time.monotonic()
    first = await start(engine, "p", work_type, deadline_s=0.3, retries=3, **options)
    assert first.deadline is not None
    assert abs((first.deadline - first.created) - timedelta(seconds=0.3)) < timedelta(milliseconds=1)
    last = await reaches(engine, "p", State.FAILED)
    assert last.error is not None
    assert last.error.type == "DeadlineExceeded"
    assert last.attempt == 1, "a retry could not be in time"
    assert time.monotonic() - began > 0.3


@pytest.mark.parametrize("state", ["queued", "paused"])
async def test_what_waits_past_its_deadline_fails_without_ever_running(make_engine: Make, state: str) -> None:
    engine = await make_engine(max_running=1)
    await start(engine, "first")
    await makes_progress(engine, "first")
    await start(engine, "p", deadline_s=0.1)
    if state == "paused":
        await engine.pause("p")
    last = await reaches(engine, "p", State.FAILED)
    assert last.error is not None
    assert last.error.type == "DeadlineExceeded"
    assert last.attempt == 0


async def test_a_deadline_holds_over_a_restart_and_resume_after_it_goes_on_without(make_engine: Make) -> None:
    first = await make_engine(max_running=1)
    await start(first, "first")
    await makes_progress(first, "first")
    await start(first, "p", to=3, deadline_s=0.2)
    assert (await first.pause("p")).state == State.PAUSED
    await shut(first)
    second = await make_engine(max_running=2)
    await reaches(second, "p", State.FAILED)
    resumed = await second.resume("p")
    assert resumed.deadline is None
    await reaches(second, "p", State.SUCCEEDED)


async def test_an_answer_in_time_is_no_failure(engine: Engine) -> None:
    await start(engine, "p", to=1, deadline_s=0.1)
    last = await reaches(engine, "p", State.SUCCEEDED)
    await asyncio.sleep(0.12)
    assert (await engine.get("p")) == last


@pytest.mark.slow
async def test_a_deadline_holds_although_the_clock_is_set_back_meanwhile(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(engine, "p", deadline_s=1)
    await engine.pause("p")
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)
    await reaches(engine, "p", State.FAILED)


async def test_a_clock_that_is_ahead_brings_neither_a_retry_nor_a_deadline(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tornado_app.processes.journal.transitions.BACKOFF_FIRST", 60.0)
    await start(engine, "retried", "stubborn", fails=1, to=1)
    await until(engine, "retried", lambda p: p.retry_at is not None)
    await start(engine, "limited", deadline_s=60)
    await makes_progress(engine, "limited")
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 3600)
    await engine.pause("limited")
    await reaches(engine, "limited", State.PAUSED)
    await engine.resume("limited")
    await until(engine, "limited", lambda p: p.attempt == 2 and p.state == State.RUNNING)
    await start(engine, "other", to=1)
    await reaches(engine, "other", State.SUCCEEDED)
    assert (await engine.get("retried")).state == State.QUEUED


@pytest.mark.slow
async def test_no_wait_is_longer_after_a_restart_with_a_clock_that_is_behind(
    make_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tornado_app.processes.runner.BACKOFF_MOST", 0.2)
    monkeypatch.setattr("tornado_app.processes.journal.transitions.BACKOFF_FIRST", 0.2)
    first = await make_engine(max_running=1)
    await start(first, "retried", "stubborn", fails=1, to=1)
    await until(first, "retried", lambda p: p.retry_at is not None)
    await start(first, "limited", deadline_s=0.5)
    await first.pause("limited")
    await shut(first)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)
    second = await make_engine()
    await reaches(second, "retried", State.SUCCEEDED)
    await reaches(second, "limited", State.FAILED)


@pytest.mark.usefixtures("no_backoff")
async def test_what_failed_just_before_its_deadline_is_not_tried_again_beyond_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = engine.runner.reports
    keep_lines = reports.keep_lines

    async def keep_lines_when_it_is_overdue(run: RunningAttempt | None = None) -> None:
        if run is not None and run.row.attempt == 1:  # it has failed, and that is about to be written
            await eventually(lambda: run.deadline_passed)
        await keep_lines(run)

    monkeypatch.setattr(reports, "keep_lines", keep_lines_when_it_is_overdue)
    await start(engine, "p", "stubborn", fails=1, deadline_s=0.2)
    last = await reaches(engine, "p", State.FAILED)
    assert last.error is not None
    assert last.error.type == "DeadlineExceeded"


async def test_nothing_is_kept_of_a_deadline_when_the_process_has_ended(engine: Engine) -> None:
    for n in range(3):
        await start(engine, f"p{n}", "empty", deadline_s=3600)
        await reaches(engine, f"p{n}", State.SUCCEEDED)
    await eventually(lambda: not len(engine.runner._timers))
