"""Cancel undoes what was done, wherever the process stands; a rollback that fails is shown and can be tried again."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from holdfast.wire import State
from holdfast.work import Job, Progress, work_type
from tests.support import work
from tests.support.processes import PLACES, eventually, makes_progress, reaches, shut, start, start_in, told, until
from tests.tornado_app.processes.conftest import Make
from tornado_app.problems import ILLEGAL_STATE, ProblemError
from tornado_app.processes.journal import queries
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine

in_each_place = pytest.mark.parametrize("place", PLACES)


@in_each_place
async def test_what_failed_is_undone_from_its_last_checkpoint(engine: Engine, place: str, trail: Path) -> None:
    await start_in(engine, place, "p", fails=1, trail=trail)
    await reaches(engine, "p", State.FAILED)
    assert (await engine.cancel("p")).state == State.CANCELLING
    last = await reaches(engine, "p", State.CANCELLED)
    assert last.error is None
    assert told(trail) == ["run 1 0", "undo 1 0"]


@in_each_place
async def test_what_waits_in_the_queue_again_is_undone(make_engine: Make, place: str, trail: Path) -> None:
    engine = await make_engine(max_running=1)
    await start_in(engine, place, "p", trail=trail)
    await makes_progress(engine, "p")
    await engine.pause("p")
    paused = await reaches(engine, "p", State.PAUSED)
    await start(engine, "other")
    await makes_progress(engine, "other")
    assert (await engine.resume("p")).state == State.QUEUED
    assert (await engine.cancel("p")).state == State.CANCELLING
    await reaches(engine, "p", State.CANCELLED)
    assert told(trail)[-1] == f"undo 1 {int(paused.progress.done or 0)}"


@in_each_place
async def test_a_cancel_that_a_shutdown_cut_off_is_carried_through_at_the_next_start(
    make_engine: Make, place: str, trail: Path
) -> None:
    first = await make_engine()
    await start_in(first, place, "p", trail=trail, every=0.05)
    await eventually(lambda: told(trail))
    await first.cancel("p")
    await shut(first, 0.5)
    second = await make_engine()
    await reaches(second, "p", State.CANCELLED)
    assert [line.split()[0] for line in told(trail)] == ["run", "stop", "undo"]


@in_each_place
async def test_a_rollback_that_fails_is_shown_with_both_errors_and_is_tried_again_by_cancelling_again(
    engine: Engine, place: str, trail: Path
) -> None:
    await start_in(engine, place, "p", fails=1, trail=trail, undo_fails=2)
    await reaches(engine, "p", State.FAILED)
    for _ in range(2):
        await engine.cancel("p")
        failed = await reaches(engine, "p", State.FAILED)
        assert failed.error is not None
        assert (failed.error.type, failed.error.message) == ("ValueError", "not yet")
        assert failed.error.rollback == "RuntimeError: can't undo it yet"
        assert failed.ended is not None
    log = await engine.log("p", 0, 100)
    assert sum("can't undo it yet" in line.message for line in log.items) == 2, "with their tracebacks"
    await engine.cancel("p")
    last = await reaches(engine, "p", State.CANCELLED)
    assert last.error is None
    assert told(trail) == ["run 1 0", "undo 1 0", "undo 1 0", "undo 1 0"]


async def test_a_rollback_that_fails_after_a_plain_cancel_says_that_it_was_cancelled(
    engine: Engine, trail: Path
) -> None:
    await start(engine, "p", trail=trail, undo_fails=1)
    await makes_progress(engine, "p")
    await engine.cancel("p")
    failed = await reaches(engine, "p", State.FAILED)
    assert failed.error is not None
    assert failed.error.type == "Cancelled"
    assert failed.error.rollback == "RuntimeError: can't undo it yet"


async def test_what_could_not_be_undone_can_go_on_instead(engine: Engine, trail: Path) -> None:
    await start(engine, "p", trail=trail, undo_fails=1, to=10, every=0.02)
    await eventually(lambda: told(trail))
    await engine.cancel("p")
    await reaches(engine, "p", State.FAILED)
    await engine.resume("p")
    last = await reaches(engine, "p", State.SUCCEEDED)
    assert last.error is None


@pytest.mark.parametrize("place", ["thread", "process"])
async def test_a_rollback_that_calls_sys_exit_fails_alone(engine: Engine, place: str) -> None:
    await start(engine, "p", "bad-undo", place=place)
    await makes_progress(engine, "p")
    await engine.cancel("p")
    failed = await reaches(engine, "p", State.FAILED)
    assert failed.error is not None
    assert failed.error.rollback is not None
    assert "sys.exit" in failed.error.rollback


async def test_a_rollback_can_be_killed_in_the_process_place(engine: Engine, tmp_path: Path) -> None:
    await start(engine, "p", "slow-undo", place="process", trail=tmp_path / "trail")
    await makes_progress(engine, "p")
    await engine.cancel("p")
    await eventually(lambda: "undoing" in told(tmp_path / "trail"))
    with pytest.raises(ProblemError) as refusal:
        await engine.pause("p")
    assert refusal.value.kind is ILLEGAL_STATE
    killed = await engine.kill("p")
    assert killed.state == State.FAILED
    assert killed.error is not None
    assert killed.error.rollback == "Killed: it was killed with SIGTERM"


async def test_a_rollback_that_a_shutdown_cut_off_runs_again_at_the_next_start(
    make_engine: Make, tmp_path: Path
) -> None:
    trail = tmp_path / "trail"
    first = await make_engine()
    await start(first, "p", "slow-undo", place="process", trail=trail)
    await makes_progress(first, "p")
    await first.cancel("p")
    await eventually(lambda: "undoing" in told(trail))
    await shut(first, 0.05)
    second = await make_engine()
    await eventually(lambda: told(trail).count("undoing") == 2)
    assert (await second.get("p")).state == State.CANCELLING


async def test_work_without_a_rollback_is_cancelled_at_its_next_yield(engine: Engine) -> None:
    await start(engine, "p", "limited")
    await makes_progress(engine, "p")
    await engine.cancel("p")
    last = await reaches(engine, "p", State.CANCELLED)
    assert last.error is None


async def test_work_that_ends_before_it_heard_of_the_cancel_is_undone_all_the_same(engine: Engine, trail: Path) -> None:
    await start(engine, "p", to=1, every=0.1, trail=trail)
    await eventually(lambda: told(trail))
    await engine.cancel("p")
    last = await reaches(engine, "p", State.CANCELLED)
    assert last.result is None
    assert told(trail) == ["run 1 0", "stop 1 1 cancel", "undo 1 1"]


async def test_what_fails_while_it_is_cancelled_is_undone_and_the_error_is_not_in_the_way(engine: Engine) -> None:
    await start(engine, "p", "bad", how="raises_in_finally")
    await until(engine, "p", lambda p: p.version & 0xFFFFFF > 0)
    await engine.cancel("p")
    last = await reaches(engine, "p", *("cancelled", "failed"))
    assert last.state == State.CANCELLED


async def test_a_process_whose_work_type_is_gone_cannot_be_undone_and_says_so(
    make_engine: Make, registry: Registry
) -> None:
    first = await make_engine()
    await start(first, "p")
    await makes_progress(first, "p")
    await first.pause("p")
    await reaches(first, "p", State.PAUSED)
    await shut(first)
    gone = registry._by_name.pop("steps")
    second = await make_engine(default_work_type="empty")
    for _ in range(2):
        await second.cancel("p")
        failed = await reaches(second, "p", State.FAILED)
        assert failed.error is not None
        assert "no work type 'steps' any more" in (failed.error.rollback or "")
    registry._by_name["steps"] = gone
    await second.cancel("p")
    await reaches(second, "p", State.CANCELLED)


def _generator(job: Job[Any]) -> Any:
    yield


async def _coroutine(job: Job[Any]) -> None:
    return None


@pytest.mark.parametrize(
    ("undo", "words"), [(_generator, "must be a plain function"), (_coroutine, "can only be async if")]
)
def test_a_rollback_that_calling_would_not_run_is_refused_where_it_is_declared(undo: Any, words: str) -> None:
    declared = work_type("w")(work.empty.function)
    with pytest.raises(TypeError, match=words):
        declared.rollback(undo)
    assert declared.rollback_function is None


@pytest.mark.slow
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 12, 20, 40])
async def test_a_rollback_that_would_begin_while_the_server_stops_runs_once_at_the_next_start(
    make_engine: Make, trail: Path, turns: int
) -> None:
    async def none(row: object) -> None:
        """Return nothing, as a server that is killed."""

    first = await make_engine()
    await start(first, "p", trail=trail)
    await makes_progress(first, "p")
    await first.pause("p")
    await reaches(first, "p", State.PAUSED)
    first.runner.roll_back = none  # type: ignore[method-assign]
    await first.cancel("p")
    await shut(first)
    second = await make_engine()
    for _ in range(turns):
        await asyncio.sleep(0)
    await shut(second)  # a rollback that has begun is waited for
    third = await make_engine()
    await reaches(third, "p", State.CANCELLED)
    assert [line.split()[0] for line in told(trail)].count("undo") == 1


async def test_a_rollback_never_runs_beside_its_own_attempt(engine: Engine, registry: Registry) -> None:
    """A recovery reads what is being cancelled, and the attempt of that may run still."""
    begun, release, done = threading.Event(), threading.Event(), list[str]()

    @work_type("held")
    def held(job: Job[Any]) -> Generator[Progress, None, None]:
        """Wait for the test."""
        begun.set()
        release.wait(60)
        done.append("attempt")
        yield Progress(1)

    @held.rollback
    def undo(job: Job[Any]) -> None:
        done.append("rollback")

    registry.add(held, __name__)
    try:
        await start(engine, "p", "held", place="thread")
        await eventually(begun.is_set)
        await engine.cancel("p")
        row = await engine.journal.read(lambda connection: queries.get(connection, "p"))
        run = engine.runner.get("p")
        await engine.runner.roll_back(row)
        assert engine.runner.get("p") is run
    finally:
        release.set()
    await reaches(engine, "p", State.CANCELLED)
    assert done == ["attempt", "rollback"]


@pytest.fixture
def interrupted(registry: Registry) -> threading.Event:
    """Add the work type `waits`, whose first rollback waits for an interrupt. Set once it waits."""
    waiting, interrupt = threading.Event(), threading.Event()

    @work_type("waits")
    def waits(job: Job[Any]) -> Generator[Progress, None, None]:
        """Yield for ever."""
        for done in itertools.count(1):
            yield Progress(done)

    @waits.rollback
    def undo(job: Job[Any]) -> None:
        if not waiting.is_set():
            with job.interruptible(interrupt.set):
                waiting.set()
                assert not interrupt.wait(60)

    registry.add(waits, __name__)
    return waiting


async def waits_in_its_rollback(engine: Engine, waiting: threading.Event) -> None:
    await start(engine, "p", "waits", place="thread")
    await makes_progress(engine, "p")
    await engine.cancel("p")
    await eventually(waiting.is_set)


async def test_a_rollback_that_a_stop_of_the_server_interrupts_runs_again_at_the_next_start(
    make_engine: Make, interrupted: threading.Event
) -> None:
    first = await make_engine()
    await waits_in_its_rollback(first, interrupted)
    await shut(first)
    second = await make_engine()
    assert (await reaches(second, "p", State.CANCELLED, State.FAILED)).state == State.CANCELLED


async def test_a_rollback_that_a_lost_lease_interrupts_runs_again_once_it_is_held(
    engine: Engine, interrupted: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waits_in_its_rollback(engine, interrupted)
    with monkeypatch.context() as patch:
        patch.setattr(engine.lease, "renew", lambda connection: False)
        await engine.heartbeat.beat()
    await eventually(lambda: not len(engine.runner))
    assert (await engine.get("p")).state == State.CANCELLING
    await engine.heartbeat.beat()
    await reaches(engine, "p", State.CANCELLED)
