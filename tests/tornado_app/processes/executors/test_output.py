"""Output of work is in its log: once, in order, bounded, wherever the work runs."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from holdfast.wire import State
from tests.support.processes import reaches, start
from tests.tornado_app.processes.test_sent_code import Spawn, pickled
from tests.tornado_app.processes.test_sent_code import start as send
from tornado_app.processes.executors.attempt import LONGEST_LINE
from tornado_app.processes.executors.output import OutputLines
from tornado_app.processes.service import Engine

SAID = [
    "one",
    "two é \\udce9",
    "three",
    "by a program",
    "to its error output",
    "from a fork",
    "WARNING:shop:4 left",
    "by job.log",
    "without an end",
]


async def log_of(engine: Engine, id: str) -> list[str]:
    return [line.message for line in (await engine.log(id, 0, 5000)).items]


@pytest.mark.slow
async def test_in_a_process_of_its_own_all_output_is_in_the_log_in_order(engine: Engine) -> None:
    await start(engine, "p", "speaks", place="process")
    await reaches(engine, "p", State.SUCCEEDED)
    assert await log_of(engine, "p") == SAID


async def test_in_a_thread_what_it_prints_and_logs_is_in_the_log_in_order(engine: Engine) -> None:
    await start(engine, "p", "speaks", place="thread")
    await reaches(engine, "p", State.SUCCEEDED)
    by_others = ("by a program", "to its error output", "from a fork")
    assert await log_of(engine, "p") == [line for line in SAID if line not in by_others]


async def test_on_the_loop_what_it_prints_is_in_the_log(engine: Engine) -> None:
    await start(engine, "p", "speaks-async")
    await reaches(engine, "p", State.SUCCEEDED)
    assert await log_of(engine, "p") == ["one", "from a thread of asyncio", "WARNING:shop:4 left"]


async def test_each_process_has_its_own_lines_and_the_server_the_others(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(8):
        await start(engine, f"p{n}", "counts-aloud", name=str(n), place="thread")
    print("the server's own")
    for n in range(8):
        await reaches(engine, f"p{n}", State.SUCCEEDED)
        assert await log_of(engine, f"p{n}") == [f"{n}: {i}" for i in range(200)]
    assert capsys.readouterr().out == "the server's own\n"


async def test_a_handler_of_the_works_own_does_not_double_what_it_logs(engine: Engine) -> None:
    await start(engine, "p", "configures-logging", place="process")
    await reaches(engine, "p", State.SUCCEEDED)
    assert await log_of(engine, "p") == ["INFO:shop:before", "mine: own", "all: configured", "mine: after"]


async def test_last_words_are_in_the_log(engine: Engine) -> None:
    await start(engine, "p", "speaks-and-dies", place="process")
    await reaches(engine, "p", State.FAILED)
    assert "last words" in await log_of(engine, "p")


@pytest.mark.slow
async def test_what_comes_quicker_than_it_can_be_written_waits(engine: Engine) -> None:
    await start(engine, "p", "counts-aloud", name="p", to=25_000, place="process")
    await reaches(engine, "p", State.SUCCEEDED, within=60)
    lines: list[str] = []
    while page := (await engine.log("p", len(lines), 5000)).items:
        lines += [line.message for line in page]
    assert lines == [f"p: {i}" for i in range(25_000)]


@pytest.mark.slow
def test_code_that_was_sent_speaks_to_its_log(spawn_server: Spawn) -> None:
    def speak(job: Any) -> Any:

        print("hello")
        logging.getLogger("mine").info("and %s", "logged")
        yield __import__("holdfast.work", fromlist=["Progress"]).Progress(checkpoint=1)

    speak.__module__ = "__main__"
    server = spawn_server("--allow-code")
    import httpx

    process = send(server, code=pickled(speak)).json()
    assert process["state"] == "succeeded", process
    lines = httpx.get(f"{server.url}/v1/processes/{process['id']}/log").json()["items"]
    assert [line["message"] for line in lines] == ["hello", "INFO:mine:and logged"]


# -- lines


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        (["a\nb", "c\n", "\n"], ["a", "bc", ""]),
        (["10%\r20%\r", "30%\r\n"], ["30%"]),
        (["1%\r" + "x" * 10, "\r2%"], ["2%"]),
        (["x" * (LONGEST_LINE + 5), "\n"], ["x" * LONGEST_LINE, "x" * 5]),
        (["no end"], ["no end"]),
    ],
)
def test_text_becomes_lines(written: list[str], lines: list[str]) -> None:
    said: list[str] = []
    cut = OutputLines(said.append)
    for text in written:
        cut.write(text)
    cut.finish()
    assert said == lines


def test_progress_bars_do_not_grow_in_memory() -> None:
    said: list[str] = []
    cut = OutputLines(said.append)
    for n in range(1000):
        cut.write(f"\r{n}" + "." * 500)
    assert len(cut._pending) < 1000
    assert said == []
