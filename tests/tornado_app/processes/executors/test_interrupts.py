"""Work that waits in a block that can be interrupted stops at once, in every place, and can be killed in a thread."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from holdfast.work import Interrupted, Job, Progress, work_type
from tornado_app.app import App
from tornado_app.processes.executors.interrupts import Interrupts

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@work_type("endless")
def endless(job: Job[Any]) -> Generator[Progress, None, None]:
    """A statement without end, in its second step."""
    yield Progress(checkpoint=1)
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        with job.interruptible(connection.interrupt):
            job.log("waits")
            connection.execute(ENDLESS).fetchone()
    except Exception:  # it must not hide that the work is to stop
        job.log("swallowed")
    finally:
        connection.close()


@pytest.fixture
def processes(app: App) -> App:
    app.services.processes.registry.add(endless, __name__)
    return app


async def until(http: httpx.AsyncClient, *states: str) -> dict[str, Any]:
    version = None
    while True:
        query = {} if version is None else {"wait": 10, "after": version}
        process = (await http.get("/v1/processes/a", params=query)).json()
        if process["state"] in states:
            return dict(process)
        version = process["version"]


async def waiting(http: httpx.AsyncClient, place: str, times: int = 1) -> None:
    """Until its statement runs."""
    while len((await http.get("/v1/processes/a/log")).json()["items"]) < times:
        pass


async def start(http: httpx.AsyncClient, place: str) -> None:
    answer = await http.post("/v1/processes", json={"id": "a", "work_type": "endless", "place": place})
    assert answer.status_code == 201
    await waiting(http, place)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["thread", "process"])
async def test_a_statement_without_end_is_paused_resumed_and_cancelled(
    processes: App, http: httpx.AsyncClient, place: str
) -> None:
    await start(http, place)
    await http.post("/v1/processes/a/pause")
    assert (await until(http, "paused", "failed"))["state"] == "paused"
    await http.post("/v1/processes/a/resume")
    await waiting(http, place, 2)
    await http.post("/v1/processes/a/cancel")
    assert (await until(http, "cancelled", "failed"))["state"] == "cancelled"
    said = [line["message"] for line in (await http.get("/v1/processes/a/log")).json()["items"]]
    assert said == ["waits", "waits"]


async def test_it_can_be_killed_in_a_thread(processes: App, http: httpx.AsyncClient) -> None:
    await start(http, "thread")
    answer = await http.post("/v1/processes/a/kill")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "failed"
    assert answer.json()["error"]["type"] == "Killed"


async def test_the_end_of_the_server_does_not_wait_for_it(processes: App, http: httpx.AsyncClient) -> None:
    await start(http, "thread")
    engine = processes.services.processes
    await engine.stop(1000)
    assert (await engine.get("a")).state == "queued", "it goes on at the next start"


def test_one_that_is_to_stop_enters_no_block() -> None:
    interrupts = Interrupts()
    interrupts.request_stop(True)
    entered = False
    with pytest.raises(Interrupted), interrupts(lambda: None):
        entered = True
    assert not entered
    interrupts.request_stop(False)
    with interrupts(lambda: None):
        entered = True
    assert entered


def test_an_error_that_no_interrupt_has_caused_stays_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"), Interrupts()(lambda: None):
        raise ValueError("mine")


def test_an_interrupt_comes_again_until_the_block_is_left() -> None:
    """One that comes before the statement has begun is lost."""
    interrupts, second, came = Interrupts(), threading.Event(), 0

    def interrupt() -> None:
        nonlocal came
        came += 1
        if came == 2:
            second.set()
        raise OSError("the connection is gone")

    def work() -> None:
        with interrupts(interrupt):
            interrupts.request_stop(True)
            assert second.wait(30)
            raise RuntimeError("interrupted")

    with pytest.raises(Interrupted):
        work()
    assert came >= 2
