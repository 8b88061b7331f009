"""Many at once: lists and their cursors, bulk verbs, and what is kept of those that ended."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import dialect

from holdfast.wire import BulkRequest, State
from tests.support import work
from tests.support.processes import eventually, makes_progress, reaches, shut, start
from tests.tornado_app.processes.conftest import Make
from tornado_app import problems
from tornado_app.files.store.local.published import LocalStore
from tornado_app.files.workspace import Workspace
from tornado_app.problems import ProblemError
from tornado_app.processes.journal import pages, retention
from tornado_app.processes.registry import Registry
from tornado_app.processes.service import Engine
from tornado_app.processes.states import Cause
from tornado_app.settings import Settings
from tornado_app.work_types import export_csv, manifest


async def test_lists_go_by_state_work_type_and_label(engine: Engine) -> None:
    await start(engine, "a", labels={"who": "ann", "what": "x"})
    await start(engine, "b", labels={"who": "bob", "what": "x"})
    await start(engine, "c", "empty", labels={"who": "ann"})
    await makes_progress(engine, "a")
    await reaches(engine, "c", State.SUCCEEDED)
    await engine.pause("b")
    await reaches(engine, "b", State.PAUSED)

    async def listed(**wanted: Any) -> list[str]:
        return [process.id for process in (await engine.page(BulkRequest(**wanted), None, 10)).items]

    assert await listed() == ["c", "b", "a"]
    assert await listed(state=[State.RUNNING]) == ["a"]
    assert await listed(state=[State.PAUSED, State.SUCCEEDED]) == ["c", "b"]
    assert await listed(work_type="empty") == ["c"]
    assert await listed(label={"who": "ann"}) == ["c", "a"]
    assert await listed(label={"who": "ann", "what": "x"}) == ["a"]
    assert await listed(label={"who": "ann"}, state=[State.RUNNING], work_type="steps") == ["a"]
    assert await listed(label={"who": "eve"}) == []
    assert (await engine.get("a")).labels == {"who": "ann", "what": "x"}


async def test_a_cursor_stays_right_while_rows_come_and_go(engine: Engine) -> None:
    for n in range(10):
        await start(engine, f"p{n}", "empty")
    for n in range(10):
        await reaches(engine, f"p{n}", State.SUCCEEDED)
    seen = []
    cursor = None
    for page_number in itertools.count():
        page = await engine.page(BulkRequest(), cursor, 3)
        seen += [process.id for process in page.items]
        cursor = page.next
        if cursor is None:
            break
        await start(engine, f"new{page_number}", "empty")  # newer than what is left to see
        await engine.delete(page.items[-1].id)  # the very row that the cursor came from
        if page_number == 0:
            await engine.delete("p3")
    assert seen == ["p9", "p8", "p7", "p6", "p5", "p4", "p2", "p1", "p0"]


@pytest.mark.parametrize("cursor", ["", "x", "bm9wZQ", "ünïcode", "bjk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk"])
async def test_a_cursor_that_was_never_given_is_refused(engine: Engine, cursor: str) -> None:
    with pytest.raises(ProblemError, match="not one that this server gave"):
        await engine.page(BulkRequest(), cursor, 3)


async def test_a_bulk_verb_changes_what_matches_and_says_what_it_left_alone(engine: Engine) -> None:
    await start(engine, "a", labels={"job": "x"})
    await start(engine, "b", labels={"job": "x"})
    await start(engine, "c")
    await start(engine, "d", "empty", labels={"job": "x"})
    await reaches(engine, "d", State.SUCCEEDED)
    for id in "abc":
        await makes_progress(engine, id)
    paused = await engine.ask_all(BulkRequest(label={"job": "x"}), Cause.PAUSE)
    assert (paused.changed, paused.refused) == (["a", "b"], {}), "what has ended is not meant"
    await reaches(engine, "a", State.PAUSED)
    await reaches(engine, "b", State.PAUSED)
    resumed = await engine.ask_all(BulkRequest(ids=["a", "c", "d", "moon"]), Cause.RESUME)
    assert resumed.changed == ["a"]
    assert resumed.refused == {
        "c": "cannot resume a process that is running. Possible now: pause, cancel, kill",
        "d": "cannot resume a process that is succeeded. It has ended",
        "moon": "there is no process 'moon', or it does not match",
    }
    cancelled = await engine.ask_all(BulkRequest(work_type="steps"), Cause.CANCEL)
    assert cancelled.changed == ["a", "b", "c"]
    for id in "abc":
        await reaches(engine, id, State.CANCELLED)


async def test_a_bulk_kill_ends_what_can_be_killed_and_says_what_can_not(engine: Engine) -> None:
    for id, place in (("a", "process"), ("b", "process"), ("c", "thread")):
        await start(engine, id, "bad", how="spins", place=place, labels={"job": "x"})
        await reaches(engine, id, State.RUNNING)
    await start(engine, "d", "empty", labels={"job": "x"})
    await reaches(engine, "d", State.SUCCEEDED)
    answer = await engine.ask_all(BulkRequest(label={"job": "x"}), Cause.KILL)
    assert answer.changed == ["a", "b"]
    assert list(answer.refused) == ["c"]
    assert "a thread can't be killed" in answer.refused["c"]
    assert {(await engine.get(id)).state for id in "ab"} == {State.FAILED}
    assert (await engine.get("c")).state == State.RUNNING


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (BulkRequest(), "name what is meant"),
        (BulkRequest(label={}), "name what is meant"),
        (BulkRequest(ids=["x"] * 10_001), "at most 10000 ids"),
        (BulkRequest(label={str(n): "" for n in range(65)}), "at most 64 labels"),
    ],
)
async def test_a_bulk_verb_without_a_filter_or_with_too_much_of_one_is_refused(
    engine: Engine, wanted: BulkRequest, words: str
) -> None:
    await start(engine, "p")
    with pytest.raises(ProblemError, match=words):
        await engine.ask_all(wanted, Cause.CANCEL)
    assert (await engine.get("p")).state in (State.QUEUED, State.RUNNING)


async def test_a_bulk_verb_takes_as_many_ids_as_it_says(engine: Engine) -> None:
    answer = await engine.ask_all(BulkRequest(ids=[f"x{n}" for n in range(10_000)]), Cause.CANCEL)
    assert len(answer.refused) == 10_000


# -- what is kept


async def test_delete_forgets_what_has_ended_and_nothing_else(engine: Engine) -> None:
    await start(engine, "p", "talker", to=2, labels={"a": "b"})
    await reaches(engine, "p", State.SUCCEEDED)
    await start(engine, "q", labels={"a": "b"})
    await makes_progress(engine, "q")
    with pytest.raises(ProblemError, match="cancel it and wait until it has ended") as refusal:
        await engine.delete("q")
    assert refusal.value.kind is problems.ILLEGAL_STATE
    await engine.delete("p")
    for ask in (engine.get("p"), engine.delete("p"), engine.log("p", 0, 10)):
        with pytest.raises(ProblemError) as gone:
            await ask
        assert gone.value.kind is problems.NO_SUCH_PROCESS
    assert {event.id for event in await engine.events_after(0, BulkRequest()) if event.type == "state"} == {"q"}
    assert [p.id for p in (await engine.page(BulkRequest(label={"a": "b"}), None, 9)).items] == ["q"]
    again = await start(engine, "p", to=1)
    assert again.attempt <= 1
    assert (await engine.log("p", 0, 10)).items == []
    await reaches(engine, "p", State.SUCCEEDED)


async def test_numbers_of_events_are_never_used_again(make_engine: Make) -> None:
    first = await make_engine()
    await start(first, "p", "empty")
    await reaches(first, "p", State.SUCCEEDED)
    await first.delete("p")
    last = (await first.events_after(0, BulkRequest()))[-1].seq or 0
    await shut(first)
    second = await make_engine()
    await start(second, "p", "empty")
    await reaches(second, "p", State.SUCCEEDED)
    assert [event.seq for event in await second.events_after(last, BulkRequest())] == [last + 1, last + 2, last + 3]


async def test_ended_processes_expire_and_others_stay(
    make_engine: Make, monkeypatch: pytest.MonkeyPatch, trail: Path
) -> None:
    monkeypatch.setattr("tornado_app.processes.service._EXPIRE_EVERY", 0.02)
    engine = await make_engine(keep_ended=0.05)
    await start(engine, "kept")
    await makes_progress(engine, "kept")
    await engine.pause("kept")
    for n in range(3):
        await start(engine, f"p{n}", "empty")
    await start(engine, "failed", fails=1)

    async def left() -> list[str]:
        return [process.id for process in (await engine.page(BulkRequest(), None, 10)).items]

    async def only_kept() -> bool:
        return await left() == ["kept"]

    await eventually(only_kept)


async def test_to_look_for_what_has_expired_takes_no_longer_the_more_there_is(engine: Engine) -> None:
    query = retention.ENDED_BEFORE.params(before=0.0).compile(dialect=dialect(), compile_kwargs={"literal_binds": True})

    def plan(connection: Connection) -> list[str]:
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]

    assert await engine.journal.read(plan) == ["SEARCH processes USING INDEX processes_ended (ended<?)"]


@pytest.mark.parametrize("restart", [False, True])
async def test_a_clock_that_is_weeks_ahead_for_a_moment_expires_nothing(
    make_engine: Make, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    monkeypatch.setattr("tornado_app.processes.service._EXPIRE_EVERY", 0.01)
    engine = await make_engine()
    for n in range(3):
        await start(engine, f"p{n}", "empty")
        await reaches(engine, f"p{n}", State.SUCCEEDED)
    await looks(engine)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 35 * 86400)
    if restart:
        await shut(engine)
        engine = await make_engine()
    await start(engine, "ahead", "empty")
    await reaches(engine, "ahead", State.SUCCEEDED)
    await looks(engine)
    monkeypatch.setattr(time, "time", clock)
    await looks(engine)
    assert len((await engine.page(BulkRequest(), None, 10)).items) == 4


async def test_a_clock_that_stays_ahead_is_believed_after_a_while(
    make_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tornado_app.processes.service._EXPIRE_EVERY", 0.01)
    monkeypatch.setattr("tornado_app.processes.journal.retention._FASTEST", 86400.0 * 100)  # a hundred days a second
    engine = await make_engine()
    await start(engine, "p", "empty")
    await reaches(engine, "p", State.SUCCEEDED)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 35 * 86400)
    await eventually(functools.partial(none_is_left, engine))


async def none_is_left(engine: Engine) -> bool:
    return not (await engine.page(BulkRequest(), None, 10)).items


async def looks(engine: Engine, times: int = 5) -> None:
    """The engine has looked that often for what to expire."""
    seen: list[int] = []
    expire = engine.retention.expire

    def watched(connection: Connection) -> int:
        seen.append(expire(connection))
        return seen[-1]

    engine.retention.expire = watched  # type: ignore[method-assign]
    await eventually(lambda: len(seen) >= times)
    engine.retention.expire = expire  # type: ignore[method-assign]


async def test_zero_keeps_them_forever(make_engine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tornado_app.processes.service._EXPIRE_EVERY", 0.01)
    engine = await make_engine(keep_ended=0)
    await start(engine, "p", "empty")
    await reaches(engine, "p", State.SUCCEEDED)
    await asyncio.sleep(0.05)
    assert (await engine.get("p")).state == State.SUCCEEDED


# -- what was staged in the files directory


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """Work that stages files, too."""
    registry.add_module(manifest)
    registry.add_module(export_csv)
    return registry


@pytest.fixture
def staged(settings: Settings) -> Callable[[], list[Path]]:
    """Return the files that work has staged."""
    return lambda: sorted(settings.files_dir.glob(".holdfast/uploads/work-*"))


Staged = Callable[[], list[Path]]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["thread", "process"])
async def test_nothing_of_what_it_staged_is_left_when_it_has_succeeded(
    engine: Engine, settings: Settings, staged: Staged, place: str
) -> None:
    Workspace(LocalStore(settings.files_dir), owner="another").stage("x", "key").write(b"of another journal")
    await start(engine, "p", "manifest", place=place)
    await reaches(engine, "p", State.SUCCEEDED)
    await eventually(lambda: len(staged()) == 1)
    assert (staged()[0] / "data").read_bytes() == b"of another journal"
    assert (settings.files_dir / "SHA256SUMS").exists()


@pytest.mark.slow
async def test_what_failed_keeps_what_it_staged_until_it_is_forgotten(
    make_engine: Make, settings: Settings, staged: Staged
) -> None:
    first = await make_engine()
    await start(first, "p", "export-csv", query="SELECT 1 AS n FROM nowhere", key="n", file_name="out.csv")
    await reaches(first, "p", State.FAILED)
    await shut(first)
    assert len(staged()) == 1, "it may go on"
    second = await make_engine()
    await second.delete("p")
    await eventually(lambda: not staged())


async def test_an_id_that_is_used_again_finds_nothing_staged(engine: Engine, staged: Staged) -> None:
    for _ in range(2):
        await start(engine, "p", "export-csv", query="SELECT 1 AS n FROM nowhere", key="n", file_name="out.csv")
        await reaches(engine, "p", State.FAILED)
        before = staged()
        await engine.delete("p")
    assert len({path.name for path in [*before, *staged()]}) == 2
    await shut(engine)
    assert staged() == [], "a server that stops removes it, too"


# -- bounds in bytes


async def test_parameters_that_a_list_could_not_carry_are_refused(engine: Engine) -> None:
    with pytest.raises(ProblemError, match=r"the parameters have \d+ bytes as JSON") as refused:
        await start(engine, "p", "holds-text", text="x" * (64 << 10))
    assert refused.value.members["field"] == "params"


@pytest.mark.slow
@pytest.mark.parametrize("states", [None, [State.QUEUED], [State.QUEUED, State.PAUSED]])
async def test_a_page_of_large_processes_is_short_and_the_next_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, states: list[State] | None
) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES", 50_000)
    ids = [f"p{n}" for n in range(40)]
    for n, id in enumerate(ids):
        await start(engine, id, "holds-text", text="x" * (10_000 if n % 3 else 10))
        if n % 2:
            await engine.pause(id)
    cursor, found, count = None, [], 0
    while True:
        page = await engine.page(BulkRequest(state=states), cursor, 1000)
        assert len(page.items) >= 1
        assert sum(len(p.params["text"]) for p in page.items) < 80_000
        found += [process.id for process in page.items]
        count += 1
        if page.next is None:
            break
        cursor = page.next
    of_state = {None: ids, 1: ids[::2], 2: ids}[None if states is None else len(states)]
    assert found == of_state[::-1]
    assert count > 2


@pytest.mark.slow
async def test_a_log_of_long_lines_comes_in_short_pages(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES", 5_000)
    await start(engine, "p", "says", lines=["x" * 1000] * 50)
    work.RELEASE.set()
    await reaches(engine, "p", State.SUCCEEDED)
    after, found = 0, 0
    while True:
        page = await engine.log("p", after, 1000)
        assert len(page.items) <= 6
        found += sum(line.message == "x" * 1000 for line in page.items)
        if page.next is None:
            break
        after = page.next
    assert found == 50
    assert 1 <= len((await engine.log("p", 0, 1000, last=40)).items) <= 6
