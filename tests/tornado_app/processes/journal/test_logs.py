"""Logs are bounded, for a process and in all: the oldest lines go first, and the log says so."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator

import httpx
import pytest

from holdfast.wire import LogLine, State
from tests.support import work
from tests.support.processes import reaches, shut, start
from tests.support.servers import ServerProcess, wait_until
from tests.tornado_app.processes.conftest import Make
from tornado_app.processes.service import Engine

BOUND = 64 << 10
MISSING = re.compile(r"\[(\d+) older lines are missing here: logs are bounded by --log-size and --logs-size\]")


@pytest.fixture(autouse=True)
def released(make_engine: Make) -> Iterator[None]:
    """Opens the gate that `make_engine` begins with shut."""
    work.RELEASE.set()
    yield
    work.RELEASE.clear()


async def says(engine: Engine, id: str, count: int) -> None:
    await start(engine, id, "says", lines=[f"{id} says {n}" for n in range(count)])
    await reaches(engine, id, State.SUCCEEDED)


async def lines_of(engine: Engine, id: str) -> tuple[int, list[LogLine]]:
    """Return the number of lines that are said to be missing, and those that are there."""
    items = (await engine.log(id, 0, 100_000)).items
    told = MISSING.fullmatch(items[0].message) if items else None
    return (int(told[1]), items[1:]) if told else (0, items)


def size(lines: list[LogLine]) -> int:
    return sum(64 + len(line.message) for line in lines)


async def test_of_one_process_the_newest_lines_stay_and_the_log_says_how_many_went(make_engine: Make) -> None:
    engine = await make_engine(log_size=BOUND)
    await says(engine, "p", 3000)
    await says(engine, "q", 100)
    missing, there = await lines_of(engine, "p")
    assert missing > 0
    assert [line.message for line in there] == [f"p says {n}" for n in range(missing, 3000)]
    assert BOUND * 0.9 < size(there) <= BOUND
    assert (await lines_of(engine, "q"))[0] == 0
    assert len((await lines_of(engine, "q"))[1]) == 100
    await shut(engine)
    again = await make_engine(log_size=BOUND)
    assert await lines_of(again, "p") == (missing, there)


async def test_of_all_processes_the_oldest_lines_go_whosever_they_are(make_engine: Make) -> None:
    engine = await make_engine(log_size=0, logs_size=BOUND)
    for id in "abcd":
        await says(engine, id, 400)
    missing = {id: (await lines_of(engine, id))[0] for id in "abcd"}
    there = {id: (await lines_of(engine, id))[1] for id in "abcd"}
    assert (missing["a"], there["a"]) == (400, [])
    assert 0 < missing["b"] + missing["c"] < 800
    assert (missing["d"], len(there["d"])) == (0, 400)
    assert sum(map(size, there.values())) <= BOUND


async def test_a_reader_is_told_once_where_lines_are_missing(make_engine: Make) -> None:
    engine = await make_engine(log_size=BOUND)
    await says(engine, "p", 3000)
    first = await engine.log("p", 0, 10)
    assert MISSING.fullmatch(first.items[0].message)
    assert first.next is not None
    second = await engine.log("p", first.next, 10)
    assert not MISSING.fullmatch(second.items[0].message)
    assert second.items[0].seq == first.items[-1].seq + 1
    assert not MISSING.fullmatch((await engine.log("p", 0, 1, last=10)).items[0].message)
    assert MISSING.fullmatch((await engine.log("p", 0, 1, last=5000)).items[0].message)


async def test_a_number_of_a_line_is_never_used_again(make_engine: Make) -> None:
    engine = await make_engine()
    await says(engine, "p", 5)
    *_, last = (await lines_of(engine, "p"))[1]
    await engine.delete("p")
    await says(engine, "p", 1)
    assert (await lines_of(engine, "p"))[1][0].seq == last.seq + 1


async def test_the_lines_of_an_older_journal_count(make_engine: Make) -> None:
    engine = await make_engine()
    await says(engine, "p", 3000)
    await shut(engine)
    older = sqlite3.connect(engine.journal.path)
    older.executescript("DROP TABLE log_sizes; DELETE FROM migrations WHERE name = '2026-11-bound-logs'")
    older.close()
    engine = await make_engine(logs_size=BOUND)
    await says(engine, "q", 1)
    missing, there = await lines_of(engine, "p")
    assert missing + len(there) == 3000
    assert size(there) <= BOUND


@pytest.mark.slow
def test_a_program_that_never_stops_talking_does_not_fill_the_disk(
    spawn_server: Callable[..., ServerProcess],
) -> None:
    server = spawn_server("--command", "yes=yes", "--log-size", str(1 << 20))
    request = {"id": "p", "work_type": "command", "params": {"name": "yes"}}
    httpx.post(f"{server.url}/v1/processes", json=request).raise_for_status()

    def missing() -> int:
        items = httpx.get(f"{server.url}/v1/processes/p/log", params={"limit": 1}, timeout=60).json()["items"]
        told = MISSING.fullmatch(items[0]["message"]) if items else None
        return int(told[1]) if told else 0

    wait_until(lambda: missing() > 100_000, within=200)
    assert sum(path.stat().st_size for path in server.data_dir.glob("journal.sqlite*")) < 24 << 20
    httpx.post(f"{server.url}/v1/processes/p/cancel").raise_for_status()
