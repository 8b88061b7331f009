"""Requests to the engine: ids, requests and verbs that do not fit, and work whose code has changed."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast.wire import StartRequest, State
from tests.support.processes import eventually, reaches, shut, start, told
from tests.tornado_app.processes.conftest import Make
from tornado_app import problems
from tornado_app.problems import Kind, ProblemError
from tornado_app.processes.service import Engine


async def test_the_same_id_with_the_same_request_is_the_same_process(engine: Engine, trail: Path) -> None:
    first = await start(engine, "p", to=1, trail=trail)
    again = await start(engine, "p", to=1, trail=trail)
    assert again.created == first.created
    await reaches(engine, "p", State.SUCCEEDED)
    assert (await start(engine, "p", to=1, trail=trail)).state == State.SUCCEEDED
    assert told(trail) == ["run 1 0", "stop 1 1 None"]


async def test_a_hundred_requests_for_one_id_at_once_start_it_once(engine: Engine, trail: Path) -> None:
    started = await asyncio.gather(*(start(engine, "p", to=1, trail=trail) for _ in range(100)))
    assert len({process.created for process in started}) == 1
    await reaches(engine, "p", State.SUCCEEDED)
    assert told(trail) == ["run 1 0", "stop 1 1 None"]


@pytest.mark.parametrize(
    "other",
    [
        {"to": 2},
        {"work_type": "limited"},
        {"priority": 1},
        {"labels": {"a": "b"}},
        {"retries": 1},
        {"place": "process"},
        {"deadline_s": 60},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_the_same_id_with_another_request_is_refused_and_changes_nothing(
    engine: Engine, other: dict[str, Any]
) -> None:
    first = await start(engine, "p", to=1)
    with pytest.raises(ProblemError, match="'p' was started with another request") as refusal:
        await start(engine, "p", **{"to": 1} | other)
    assert refusal.value.kind is problems.ID_TAKEN
    assert (await reaches(engine, "p", State.SUCCEEDED)).created == first.created


async def test_a_default_that_is_left_out_and_one_that_is_given_are_the_same_request(engine: Engine) -> None:
    await start(engine, "p", to=1)
    await start(engine, "p", to=1, every=0.001, place="thread", retries=0, priority=0)


@pytest.mark.parametrize("id", ["", " ", "a/b", "ü", "a" * 129, "a\n", "a b", "%2e"])
async def test_an_id_that_is_none_is_refused(engine: Engine, id: str) -> None:
    for ask in (start(engine, id), engine.get(id), engine.pause(id), engine.delete(id)):
        with pytest.raises(ProblemError, match="1 to 128 of letters") as refusal:
            await ask
        assert refusal.value.kind is problems.BAD_PARAMETERS


async def test_without_an_id_the_server_picks_one(engine: Engine) -> None:
    one, _ = await engine.start(StartRequest(work_type="empty"))
    two, _ = await engine.start(StartRequest(work_type="empty"))
    assert one.id != two.id
    await reaches(engine, two.id, State.SUCCEEDED)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"work_type": "moon"}, "there is no work type 'moon'; there are bad, bad-async"),
        ({"too": 1}, "steps has no parameter 'too'; it takes optionally to, every"),
        ({"to": "many"}, "parameter 'to' of steps: Expected `int`, got `str`"),
        ({"work_type": "bad"}, "bad needs the parameter 'how'"),
        ({"priority": 2**31}, "priority is a whole number from -2147483648 to 2147483647"),
        ({"priority": 2**80}, "priority is a whole number"),
        ({"retries": -1}, "retries is from 0"),
        ({"retries": 2**64}, "retries is from 0"),
        ({"deadline_s": 0}, "deadline_s is more than 0"),
        ({"deadline_s": 1e300}, "less than a hundred years"),
        ({"labels": {"": "x"}}, "a label's key has 1 to 128"),
        ({"labels": {"x": "y" * 257}}, "its value at most 256"),
        ({"labels": {str(n): "" for n in range(65)}}, "at most 64 labels"),
    ],
)
async def test_a_request_that_does_not_fit_is_refused_and_starts_nothing(
    engine: Engine, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ProblemError) as refusal:
        await start(engine, "p", **options)
    assert words in refusal.value.detail
    assert refusal.value.kind in (problems.BAD_PARAMETERS, problems.UNKNOWN_WORK_TYPE)
    with pytest.raises(ProblemError):
        await engine.get("p")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("checkpoint", b'{"somewhere": 5}', "its last checkpoint no longer fits the work type typed"),
        ("checkpoint", b'{"at": "five"}', "its last checkpoint no longer fits the work type typed"),
        ("params", b'{"to": "many"}', "its parameters no longer fit the work type typed"),
        ("work_type", "gone", "no work type 'gone' any more"),
    ],
)
async def test_what_no_longer_fits_the_code_fails_with_a_clear_error_instead_of_running_wrongly(
    make_engine: Make, column: str, value: Any, words: str
) -> None:
    first = await make_engine()
    await start(first, "p", "typed")
    await eventually(lambda: first.get("p"))
    await first.pause("p")
    await reaches(first, "p", State.PAUSED)
    await shut(first)
    with closing(sqlite3.connect(first.journal.path)) as journal, journal:
        journal.execute(f"UPDATE processes SET {column} = ?", (value,))
    journal.close()
    second = await make_engine()
    await second.resume("p")
    last = await reaches(second, "p", State.FAILED)
    assert last.error is not None
    assert words in last.error.message


async def test_unknown_processes_are_named(engine: Engine) -> None:
    for ask in (
        engine.get("p"),
        engine.pause("p"),
        engine.resume("p"),
        engine.cancel("p"),
        engine.kill("p"),
        engine.delete("p"),
        engine.log("p", 0, 1),
        engine.wait("p", None, 1),
    ):
        with pytest.raises(ProblemError, match=r"there is no process 'p'\. Start it first") as refusal:
            await ask
        assert refusal.value.kind is problems.NO_SUCH_PROCESS


@pytest.mark.parametrize(
    ("state", "verb", "kind"),
    [
        ("paused", "pause", problems.ILLEGAL_STATE),
        ("running", "resume", problems.ILLEGAL_STATE),
        ("succeeded", "pause", problems.ILLEGAL_STATE),
        ("succeeded", "resume", problems.ILLEGAL_STATE),
        ("succeeded", "cancel", problems.ILLEGAL_STATE),
        ("succeeded", "kill", problems.ILLEGAL_STATE),
    ],
)
async def test_a_verb_that_does_not_fit_is_refused_and_changes_nothing(
    engine: Engine, state: str, verb: str, kind: Kind
) -> None:
    await start(engine, "p", to=1 if state == "succeeded" else 100_000)
    if state == "paused":
        await engine.pause("p")
    await reaches(engine, "p", state)
    with pytest.raises(ProblemError, match=f"cannot {verb} a process that is {state}") as refusal:
        await getattr(engine, verb)("p")
    assert refusal.value.kind is kind
    assert (await engine.get("p")).state == state
