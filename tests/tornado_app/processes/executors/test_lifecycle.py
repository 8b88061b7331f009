"""Start, pause, resume, cancel and kill: the same promises in a thread, on the loop and in an OS process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from holdfast.wire import State
from tests.support import work
from tests.support.processes import (
    PLACES,
    alive,
    eventually,
    makes_progress,
    reaches,
    shut,
    start,
    start_in,
    told,
    until,
)
from tests.tornado_app.processes.conftest import Make
from tornado_app.problems import ILLEGAL_STATE, ProblemError
from tornado_app.processes.service import Engine

in_each_place = pytest.mark.parametrize("place", PLACES)


@in_each_place
async def test_it_starts_and_succeeds(engine: Engine, place: str) -> None:
    first = await start_in(engine, place, "p", to=20, every=0)
    assert first.state in (State.QUEUED, State.RUNNING)
    assert first.started is None or first.attempt == 1
    last = await reaches(engine, "p", State.SUCCEEDED)
    assert last.result == {"at": 20}
    assert last.error is None
    assert (last.progress.done, last.progress.total, last.progress.note) == (20, 20, "step 20")
    assert last.created <= (last.started or last.created) <= (last.ended or last.created)
    assert (last.place, last.attempt) == (place, 1)


@in_each_place
async def test_a_pause_keeps_the_checkpoint_and_resume_goes_on_from_it(engine: Engine, place: str, trail: Path) -> None:
    await start_in(engine, place, "p", trail=trail)
    await makes_progress(engine, "p")
    asked = await engine.pause("p")
    assert asked.state == State.PAUSING, "it is shown as it is"
    paused = await reaches(engine, "p", State.PAUSED)
    resumed = await engine.resume("p")
    assert resumed.state in (State.QUEUED, State.RUNNING)
    done = paused.progress.done or 0
    await makes_progress(engine, "p", done)
    await engine.pause("p")
    again = await reaches(engine, "p", State.PAUSED)
    assert again.attempt == 2
    at = int(done)
    expected = ["run 1 0", f"stop 1 {at} pause", f"run 2 {at}", f"stop 2 {int(again.progress.done or 0)} pause"]
    assert told(trail) == expected


@in_each_place
async def test_a_cancel_stops_at_the_next_yield_and_undoes_from_the_newest_checkpoint(
    engine: Engine, place: str, trail: Path
) -> None:
    await start_in(engine, place, "p", trail=trail)
    await makes_progress(engine, "p")
    assert (await engine.cancel("p")).state == State.CANCELLING
    last = await reaches(engine, "p", State.CANCELLED)
    at = int(last.progress.done or 0)
    assert told(trail) == ["run 1 0", f"stop 1 {at} cancel", f"undo 1 {at}"]
    assert last.ended is not None
    assert last.error is None


@in_each_place
async def test_resume_while_pausing_revokes_the_pause(engine: Engine, place: str, trail: Path) -> None:
    """The work goes on, stopped by then or not, and nothing of it is lost."""
    await start_in(engine, place, "p", trail=trail, every=0.02)
    await makes_progress(engine, "p")
    pausing, revoked = await asyncio.gather(engine.pause("p"), engine.resume("p"))
    assert pausing.state == State.PAUSING
    assert revoked.state == State.RUNNING
    before = (await engine.get("p")).progress.done or 0
    now = await makes_progress(engine, "p", before + 1)
    runs = [line for line in told(trail) if line.startswith("run")]
    assert len(runs) == now.attempt
    assert "twice" not in told(trail)


@in_each_place
async def test_a_paused_process_can_be_cancelled(engine: Engine, place: str, trail: Path) -> None:
    await start_in(engine, place, "p", trail=trail)
    await makes_progress(engine, "p")
    await engine.pause("p")
    paused = await reaches(engine, "p", State.PAUSED)
    assert (await engine.cancel("p")).state == State.CANCELLING
    await reaches(engine, "p", State.CANCELLED)
    assert told(trail)[-1] == f"undo 1 {int(paused.progress.done or 0)}"


@in_each_place
async def test_an_error_fails_the_process_with_its_type_and_message(engine: Engine, place: str) -> None:
    await start_in(engine, place, "p", fails=1)
    last = await reaches(engine, "p", State.FAILED)
    assert last.error is not None
    assert (last.error.type, last.error.message) == ("ValueError", "not yet")
    log = await engine.log("p", 0, 100)
    assert "not yet" in log.items[-1].message, "the log has the traceback"
    assert "work.py" in log.items[-1].message
    assert "driver.py" not in log.items[-1].message, "the engine's own frames are nobody's business"


@in_each_place
async def test_resume_of_a_failed_process_tries_again_from_its_last_checkpoint(
    engine: Engine, place: str, trail: Path
) -> None:
    await start_in(engine, place, "p", fails=1, to=3, trail=trail)
    await reaches(engine, "p", State.FAILED)
    again = await engine.resume("p")
    assert again.error is None
    assert again.ended is None
    assert (await reaches(engine, "p", State.SUCCEEDED)).attempt == 2
    assert told(trail) == ["run 1 0", "run 2 0", "stop 2 3 None"]


@in_each_place
async def test_the_work_goes_on_after_a_restart_of_the_server(make_engine: Make, place: str, trail: Path) -> None:
    first = await make_engine()
    await start_in(first, place, "p", trail=trail)
    await makes_progress(first, "p", 2)
    await shut(first)
    kind, attempt, at, why = told(trail)[-1].split()
    assert (kind, attempt, why) == ("stop", "1", "shutdown")
    second = await make_engine()
    await makes_progress(second, "p", float(at))
    assert told(trail)[-1] == f"run 2 {at}"


@pytest.mark.slow
@in_each_place
async def test_what_does_not_stop_in_time_for_a_shutdown_goes_on_from_its_last_checkpoint(
    make_engine: Make, place: str
) -> None:
    """It is not failed, although its place had to end it."""
    first = await make_engine()
    if place == "loop":
        await start(first, "p", "bad-async", how="waits")
    else:
        await start(first, "p", "bad", how="spins", place=place)
    await until(first, "p", lambda p: p.state == State.RUNNING and p.version & 0xFFFFFF > 0)
    await asyncio.sleep(0.05)
    await shut(first, 0.05)
    second = await make_engine()
    again = await until(second, "p", lambda p: p.attempt == 2)
    assert again.error is None
    assert again.state == State.RUNNING


async def test_resume_revokes_a_pause_but_no_shutdown(make_engine: Make) -> None:
    first = await make_engine()
    await start(first, "p", "bad", how="spins")
    await until(first, "p", lambda p: p.version & 0xFFFFFF > 0)
    await first.pause("p")
    stopping = asyncio.create_task(first.stop(30))
    await eventually(lambda: first.runner.is_stopping)
    assert (await first.resume("p")).state == State.RUNNING
    work.RELEASE.set()
    await stopping
    assert first.runner.get("p") is None, "it stopped at its next yield"
    await shut(first)
    second = await make_engine()
    assert (await reaches(second, "p", State.SUCCEEDED)).attempt == 2


async def test_a_thread_cannot_be_killed_and_the_refusal_says_what_can_be(engine: Engine) -> None:
    await start_in(engine, "thread", "p")
    await makes_progress(engine, "p")
    with pytest.raises(ProblemError, match="place=process") as refusal:
        await engine.kill("p")
    assert refusal.value.kind is ILLEGAL_STATE
    assert (await engine.get("p")).state == State.RUNNING


async def test_kill_ends_an_os_process_and_names_the_signal(engine: Engine) -> None:
    await start(engine, "p", "bad", how="spins", place="process")
    await until(engine, "p", lambda p: p.version & 0xFFFFFF > 0)
    killed = await engine.kill("p")
    assert killed.state == State.FAILED, "the answer comes when it is so"
    assert killed.error is not None
    assert killed.error.type == "Killed"
    assert "SIGTERM" in killed.error.message


@pytest.mark.slow
async def test_kill_is_sigkill_for_what_is_deaf_to_sigterm(engine: Engine, tmp_path: Path) -> None:
    await start(engine, "p", "bad", how="spins_deaf", place="process", path=tmp_path / "pid")
    pid = int((await eventually(lambda: told(tmp_path / "pid")))[0])
    killed = await engine.kill("p")
    assert killed.error is not None
    assert "SIGKILL" in killed.error.message
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_kill_takes_what_the_work_has_started(engine: Engine, tmp_path: Path) -> None:
    await start(engine, "p", "bad", how="leaves_a_child", place="process", path=tmp_path / "pids")
    pids = (await eventually(lambda: told(tmp_path / "pids")))[0].split()
    await engine.kill("p")
    await eventually(lambda: not any(alive(int(pid)) for pid in pids))


async def test_kill_of_a_cancelling_process_ends_it_and_undoes_it_once(engine: Engine, trail: Path) -> None:
    await start_in(engine, "process", "p", every=30, trail=trail)
    await eventually(lambda: told(trail))
    await engine.cancel("p")
    await engine.kill("p")
    last = await reaches(engine, "p", State.CANCELLED)
    assert last.error is None
    assert told(trail) == ["run 1 0", "undo 1 0"]


async def test_a_kill_while_the_rollback_waits_does_not_undo_twice(make_engine: Make, trail: Path) -> None:
    engine = await make_engine(max_running=1)
    for id in ("p", "q"):
        await start_in(engine, "thread", id, trail=trail if id == "p" else Path(f"{trail}-q"), every=0.005)
        await makes_progress(engine, id)
        await engine.pause(id)
        await reaches(engine, id, State.PAUSED)
    await asyncio.gather(engine.cancel("q"), engine.cancel("p"), engine.kill("p"))
    await reaches(engine, "p", State.CANCELLED)
    assert [line.split()[0] for line in told(trail)] == ["run", "stop", "undo"]


async def test_kill_ends_an_async_generator_that_awaits_what_never_comes(engine: Engine) -> None:
    await start(engine, "p", "bad-async", how="waits")
    await until(engine, "p", lambda p: p.version & 0xFFFFFF > 0)
    killed = await engine.kill("p")
    assert killed.state == State.FAILED
    assert killed.error is not None
    assert killed.error.type == "Killed"


async def test_kill_says_when_an_async_generator_will_not_end(engine: Engine) -> None:
    await start(engine, "p", "bad-async", how="deaf")
    await until(engine, "p", lambda p: p.version & 0xFFFFFF > 0)
    with pytest.raises(ProblemError, match="did not end when its task was cancelled"):
        await engine.kill("p")
    assert (await engine.get("p")).state == State.RUNNING


@pytest.mark.parametrize(("place", "work_type"), [("loop", "steps"), ("thread", "steps-async"), ("moon", "steps")])
async def test_a_place_that_does_not_fit_the_work_is_refused(engine: Engine, place: str, work_type: str) -> None:
    with pytest.raises(ProblemError, match=place) as refusal:
        await start(engine, "p", work_type, place=place)
    assert refusal.value.members["field"] == "place"


async def test_work_in_an_os_process_reads_and_writes_files_and_databases(make_engine: Make) -> None:
    engine = await make_engine()
    await start(engine, "p", "lends", place="process")
    last = await reaches(engine, "p", State.SUCCEEDED, State.FAILED)
    assert last.result == {"files": ["out.txt"], "one": 1, "port": 0, "refused": ["moon", "token"]}
