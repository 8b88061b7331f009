"""Options of work beside yielding: the check of its parameters, being killed, and processes that live on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import httpx
import msgspec
import pytest

from holdfast.wire import StartRequest
from holdfast.work import Job, Progress, WorkError, work_type
from tests.support.processes import eventually
from tornado_app.app import App
from tornado_app.settings import Settings


class Count(msgspec.Struct):
    to: int = 3


class Thing:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


class Bench:
    """A work type whose every attempt stops where the test wants it to, and leaves a thing behind."""

    def __init__(self) -> None:
        self.left = Thing()
        self.taken: list[Any] = []
        self.waits = threading.Event()
        self.can_be_killed = threading.Event()
        self.killed = 0
        bench = self

        @work_type("leaves", params=Count)
        def leaves(job: Job[Count]) -> Generator[Progress, None, None]:
            bench.taken.append(job.take())
            try:
                while True:
                    yield Progress(checkpoint=1)
                    time.sleep(0.01)
            finally:
                job.leave(bench.left)

        @leaves.check
        def odd(params: Count, setting: Callable[[str], Any]) -> None:
            if params.to % 2 == 0:
                raise WorkError(f"`to` must be odd, not {params.to}; at most {setting('max_running')}")

        @work_type("waits")
        def waits(job: Job[Any]) -> Generator[Progress, None, None]:
            def end() -> None:
                bench.killed += 1
                if bench.killed == 2:
                    bench.waits.set()

            job.when_killed(end)
            bench.can_be_killed.set()
            yield Progress(checkpoint=1)
            bench.waits.wait(20)
            raise WorkError("what I waited for has ended")

        self.work_types = (leaves, waits)


@pytest.fixture
def bench(app: App) -> Bench:
    made = Bench()
    for work in made.work_types:
        app.services.processes.registry.add(work, __name__)
    return made


async def until(http: httpx.AsyncClient, state: str) -> dict[str, Any]:
    version = None
    while True:
        query = {} if version is None else {"wait": 60, "after": version}
        process = (await http.get("/v1/processes/a", params=query)).json()
        if process["state"] == state:
            return dict(process)
        version = process["version"]


async def start(http: httpx.AsyncClient, work: str, **params: Any) -> httpx.Response:
    return await http.post("/v1/processes", json={"id": "a", "work_type": work, "params": params})


async def test_what_a_paused_process_left_alive_is_taken_when_it_goes_on(http: httpx.AsyncClient, bench: Bench) -> None:
    assert (await start(http, "leaves")).status_code == 201
    await http.post("/v1/processes/a/pause")
    await until(http, "paused")
    await http.post("/v1/processes/a/resume")
    await until(http, "running")
    await http.post("/v1/processes/a/pause")
    await until(http, "paused")
    assert bench.taken == [None, bench.left]
    assert not bench.left.closed.is_set()
    await http.post("/v1/processes/a/cancel")
    await until(http, "cancelled")
    assert bench.left.closed.wait(5)


async def test_what_was_left_alive_ends_with_the_server(settings: Settings) -> None:
    app, bench = await App.open(settings), Bench()
    processes = app.services.processes
    processes.registry.add(bench.work_types[0], __name__)
    await processes.start(StartRequest(id="a", work_type="leaves"))
    await processes.pause("a")
    while (await processes.get("a")).state != "paused":
        await processes.wait("a", None, 10)
    assert not bench.left.closed.is_set()
    await app.close()
    assert bench.left.closed.is_set()


async def test_a_work_types_own_check_refuses_before_anything_starts(http: httpx.AsyncClient, bench: Bench) -> None:
    answer = await start(http, "leaves", to=4)
    assert answer.status_code == 400
    assert answer.json()["type"] == "/problems/bad-parameters"
    assert answer.json()["detail"] == "leaves: `to` must be odd, not 4; at most 32"
    assert (await http.get("/v1/processes/a")).status_code == 404


@pytest.mark.slow
async def test_kill_ends_what_a_thread_waits_for_when_the_work_says_how(
    app: App, http: httpx.AsyncClient, bench: Bench
) -> None:
    object.__setattr__(app.settings, "kill_grace", 0.2)
    await start(http, "waits")
    await until(http, "running")
    await eventually(bench.can_be_killed.is_set)
    answer = await http.post("/v1/processes/a/kill")
    assert answer.status_code == 200, answer.text
    failed = await until(http, "failed")
    assert failed["error"] == {"type": "Killed", "message": "it was killed"}
    assert bench.killed == 2


@pytest.mark.slow
async def test_a_kill_that_does_not_help_says_so(app: App, http: httpx.AsyncClient, bench: Bench) -> None:
    object.__setattr__(app.settings, "kill_grace", 0.1)
    bench.killed = 2
    await start(http, "waits")
    await until(http, "running")
    await eventually(bench.can_be_killed.is_set)
    answer = await http.post(
        "/v1/processes/a/kill",
    )
    assert answer.status_code == 409
    assert "does not go on" in answer.json()["detail"]
    bench.waits.set()
    assert (await until(http, "failed"))["error"]["type"] == "WorkError"


@pytest.mark.slow
async def test_a_flood_of_log_lines_keeps_no_long_poll_waiting(app: App, http: httpx.AsyncClient) -> None:
    @work_type("floods")
    def floods(job: Job[Any]) -> Generator[Progress, None, None]:
        for n in range(30_000):
            job.log(str(n))
        yield Progress()

    app.services.processes.registry.add(floods, __name__)
    await start(http, "floods")
    begun = time.monotonic()
    await until(http, "succeeded")
    assert time.monotonic() - begun < 55, "a long poll of 60 s was not woken"
    lines = []
    while True:
        page = (await http.get("/v1/processes/a/log", params={"limit": 5000, "after": len(lines)})).json()
        lines += page["items"]
        if not page["items"]:
            break
    assert [line["message"] for line in lines] == [str(n) for n in range(30_000)]
