"""Work that misbehaves: it fails alone, with a clear error, and the server goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.errors import ProcessFailed
from holdfast.wire import Process, State
from holdfast.work import MAX_CHECKPOINT
from tests.support import work
from tests.support.processes import alive, eventually, makes_progress, reaches, start, told, until
from tests.support.servers import ServerProcess
from tornado_app.problems import ProblemError
from tornado_app.processes.executors import attempt
from tornado_app.processes.service import Engine

# Generators that ignore GeneratorExit ignore that of the garbage collector, too.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MISDEEDS: dict[str, tuple[str, str]] = {
    "raises": ("ValueError", "no such luck"),
    "raises_at_once": ("WorkError", "it can't be done: give it something that can"),
    "raises_unspeakable": ("UnspeakableError", "a UnspeakableError whose text can't be made: RuntimeError"),
    "raises_bytes_of_a_name": ("FileNotFoundError", "caf\\udce9.csv"),
    "raises_at_length": ("ValueError", "xxx [...] xxx"),
    "exits": ("SystemExit", "the work called sys.exit(3). Return, or raise an error"),
    "interrupts": ("KeyboardInterrupt", "KeyboardInterrupt"),
    "recurses": ("RecursionError", "maximum recursion depth exceeded"),
    "yields_a_number": ("BadWork", "it yielded int. A work type yields holdfast.work.Progress"),
    "yields_no_json": ("BadWork", "it yielded a checkpoint that is not JSON: Encoding objects of type _thread.lock"),
    "yields_no_number": ("BadWork", "it yielded a checkpoint that is not JSON: nan is not a JSON number. Use None"),
    "returns_no_number": ("BadWork", "it returned a result that is not JSON: -inf is not a JSON number. Use None"),
    "yields_a_loop": ("BadWork", "it yielded a checkpoint that is not JSON"),
    "yields_too_much": (
        "BadWork",
        f"it yielded a checkpoint of 300002 bytes; at most {MAX_CHECKPOINT} are kept",
    ),
    "yields_a_word_as_done": ("BadWork", "it yielded a Progress whose done or total is 'half'. Give a number or None"),
    "yields_a_number_beyond_all": ("BadWork", "it yielded a Progress whose done or total is 1000000"),
    "returns_no_json": ("BadWork", "it returned a result that is not JSON"),
    "returns_too_much": ("BadWork", f"at most {attempt.MAX_RESULT} are kept: put it into a file"),
}

in_both = pytest.mark.parametrize("place", ["thread", "process"])


async def fails(engine: Engine, how: str, place: str, **options: Any) -> Process:
    await start(engine, "p", "bad", how=how, place=place, **options)
    last = await reaches(engine, "p", State.FAILED)
    assert last.error is not None
    await goes_on(engine, place)
    return last


async def goes_on(engine: Engine, place: str) -> None:
    """The server does, and so does other work in that place."""
    await start(engine, "next", to=3, place=place)
    await reaches(engine, "next", State.SUCCEEDED)


@in_both
@pytest.mark.parametrize("how", MISDEEDS)
async def test_a_misdeed_fails_the_process_with_a_clear_error(engine: Engine, how: str, place: str) -> None:
    last = await fails(engine, how, place)
    assert last.error is not None
    type, words = MISDEEDS[how]
    assert last.error.type == type
    assert words in last.error.message
    assert len(last.error.message) < attempt.LONGEST_LINE + 100
    assert last.ended is not None


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("kills_itself", "its process was ended by SIGKILL; the kernel does so when memory runs out"),
        ("crashes", "its process was ended by SIGSEGV"),
        ("leaves_without_a_word", "its process ended by itself with exit status 3"),
    ],
)
async def test_a_process_that_dies_fails_alone_and_its_signal_is_named(engine: Engine, how: str, words: str) -> None:
    last = await fails(engine, how, "process")
    assert last.error is not None
    assert (last.error.type, last.error.message) == ("ProcessDied", words)


async def test_a_process_that_dies_before_what_it_forked_is_found_out_and_leaves_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    last = await fails(engine, "leaves_a_fork", "process", path=tmp_path / "pids")
    assert last.error is not None
    assert "SIGKILL" in last.error.message
    await eventually(lambda: not any(alive(int(pid)) for pid in told(tmp_path / "pids")[0].split()))


@pytest.mark.slow
async def test_running_out_of_memory_in_a_process_of_its_own_fails_that_alone(engine: Engine) -> None:
    last = await fails(engine, "runs_out_of_memory", "process")
    assert last.error is not None
    assert last.error.type == "MemoryError"


@pytest.mark.usefixtures("no_backoff")
async def test_a_process_that_dies_is_tried_again_where_retries_are_allowed(engine: Engine) -> None:
    await start(engine, "p", "bad", how="kills_itself", place="process", retries=2)
    last = await reaches(engine, "p", State.FAILED)
    assert last.attempt == 3


@in_both
async def test_what_can_only_just_be_told_is_made_tellable(engine: Engine, place: str) -> None:
    await start(engine, "p", "bad", how="logs_anything", place=place)
    last = await reaches(engine, "p", State.SUCCEEDED)
    assert last.result == "fine"
    assert (last.progress.done, last.progress.total) == (None, 2.0**70)
    assert last.progress.note.startswith("caf\\udce9 yyy")
    assert len(last.progress.note) < attempt.LONGEST_NOTE + 50
    lines = [line.message for line in (await engine.log("p", 0, 10)).items]
    assert lines[:2] == ["42", "caf\\udce9"]
    assert len(lines[2]) < attempt.LONGEST_LINE + 50
    assert " [...] " in lines[2]


@in_both
@pytest.mark.parametrize("how", ["yields_a_note_that_is_none", "yields_numbers_of_other_kinds"])
async def test_what_can_be_understood_is(engine: Engine, how: str, place: str) -> None:
    await start(engine, "p", "bad", how=how, place=place)
    last = await reaches(engine, "p", State.SUCCEEDED)
    assert last.progress.note.startswith("<object object") or (last.progress.done, last.progress.total) == (0.5, 1.0)


# -- when it is told to stop


@in_both
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("eats_generator_exit", "generator ignored GeneratorExit"),
        ("raises_in_finally", "could not tidy up"),
    ],
)
async def test_what_does_not_stop_as_a_generator_must_fails_when_it_is_paused(
    engine: Engine, how: str, words: str, place: str
) -> None:
    await start(engine, "p", "bad", how=how, place=place)
    await runs(engine)
    await engine.pause("p")
    last = await reaches(engine, "p", State.FAILED, State.PAUSED)
    assert last.error is not None
    assert words in last.error.message
    await goes_on(engine, place)


async def runs(engine: Engine) -> Process:
    """The process once it has yielded."""
    return await until(engine, "p", lambda p: p.version & 0xFFFFFF > 0)


@in_both
async def test_what_eats_everything_fails_when_it_is_cancelled_and_is_gone(engine: Engine, place: str) -> None:
    await start(engine, "p", "bad", how="eats_everything", place=place)
    await runs(engine)
    await engine.cancel("p")
    assert (await reaches(engine, "p", State.CANCELLED)).error is None
    await goes_on(engine, place)


# -- when it does not yield


async def test_what_does_not_yield_is_shown_as_stalled_and_not_as_paused(engine: Engine) -> None:
    await start(engine, "p", "bad", how="spins")
    assert not (await runs(engine)).stalled
    stalled = await eventually(lambda: if_stalled(engine))
    assert stalled.state == State.RUNNING
    assert (await engine.pause("p")).state == State.PAUSING
    assert (await engine.get("p")).stalled
    with pytest.raises(ProblemError, match="place=process"):
        await engine.kill("p")
    work.RELEASE.set()
    assert (await reaches(engine, "p", State.PAUSED)).stalled is False


async def if_stalled(engine: Engine) -> Process | None:
    process = await engine.get("p")
    return process if process.stalled else None


async def test_stalled_work_does_not_hold_up_other_work_or_the_loop(engine: Engine) -> None:
    await start(engine, "p", "bad", how="spins")
    await runs(engine)
    await goes_on(engine, "thread")


@pytest.mark.slow
async def test_a_process_that_is_stalled_can_be_killed_in_the_process_place(engine: Engine) -> None:
    await start(engine, "p", "bad", how="spins", place="process")
    await eventually(lambda: if_stalled(engine))
    killed = await engine.kill("p")
    assert killed.state == State.FAILED
    assert not killed.stalled
    await goes_on(engine, "process")


# -- forks


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[holdfast.Client]:
    """A server that is not traced: in the child of a fork coverage may wait for ever for a lock of a lost thread."""
    server = ServerProcess(tmp_path_factory.mktemp("forking"), ["--import", "tests.support.work"], traced=False)
    server.start()
    try:
        with holdfast.Client(server.url) as client:
            yield client
    finally:
        server.end()


@pytest.mark.slow
@in_both
def test_work_that_forks_is_reported_by_its_parent_alone(forking: holdfast.Client, place: str, tmp_path: Path) -> None:
    trail = tmp_path / "trail"
    process = forking.processes.start("bad", how="forks", path=str(trail), place=place)
    assert process.result(timeout=20) == "parent"
    assert sorted(told(trail)) == ["child", "parent", "went on"]
    assert process.refresh().info.attempt == 1


@pytest.mark.slow
@in_both
def test_work_that_forks_and_raises_is_reported_by_its_parent_alone(forking: holdfast.Client, place: str) -> None:
    process = forking.processes.start("bad", how="forks_and_raises", place=place)
    with pytest.raises(ProcessFailed, match="ValueError: the parent's own"):
        process.result(timeout=20)


# -- on the loop


async def test_an_async_generator_that_never_awaits_does_not_hold_the_loop(engine: Engine) -> None:
    await start(engine, "p", "bad-async", how="greedy")
    await runs(engine)
    worst = 0.0
    for _ in range(20):
        began = time.thread_time()  # what it has of the processor, however many want it
        await asyncio.sleep(0)
        worst = max(worst, time.thread_time() - began)
    assert worst < 0.25, "it gets a few milliseconds at a time"
    await engine.pause("p")
    await reaches(engine, "p", State.PAUSED)


@pytest.mark.parametrize(
    ("how", "type", "words"),
    [("raises", "ValueError", "no such luck"), ("exits", "SystemExit", "the work called sys.exit(3)")],
)
async def test_an_async_generator_that_fails_fails_alone(engine: Engine, how: str, type: str, words: str) -> None:
    await start(engine, "p", "bad-async", how=how)
    last = await reaches(engine, "p", State.FAILED)
    assert last.error is not None
    assert last.error.type == type
    assert words in last.error.message
    await start(engine, "next", "steps-async", to=3)
    await reaches(engine, "next", State.SUCCEEDED)


async def test_an_async_generator_that_ignores_its_end_fails_when_it_is_paused(engine: Engine) -> None:
    await start(engine, "p", "bad-async", how="clings")
    await runs(engine)
    await engine.pause("p")
    last = await reaches(engine, "p", State.FAILED)
    assert last.error is not None
    assert "ignored GeneratorExit" in last.error.message


async def test_many_bad_ones_at_once_leave_the_good_ones_alone(engine: Engine) -> None:
    await start(engine, "good")
    hows = ["raises", "exits", "yields_no_json", "returns_no_json", "raises_unspeakable"]
    for n in range(25):
        await start(engine, f"bad{n}", "bad", how=hows[n % 5])
    for n in range(25):
        await reaches(engine, f"bad{n}", State.FAILED)
    await makes_progress(engine, "good", (await engine.get("good")).progress.done or 0)


async def test_a_launch_that_fails_fails_the_process_and_frees_its_slot(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("tornado_app.processes.executors.thread.ThreadExecutor.launch", refuse)
        await start(engine, "p", to=1)
        last = await reaches(engine, "p", State.FAILED)
    assert last.error is not None
    assert last.error.message == "it can't be launched: can't start new thread"
    await goes_on(engine, "thread")
