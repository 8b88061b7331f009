"""The async client and its processes, against a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import holdfast
from holdfast import errors
from holdfast.wire import State
from holdfast.work import Job, NoParams, Progress
from tests.support.servers import ServerProcess

ENDLESS = {"to": 1_000_000_000, "pause": 0.01}

pytestmark = pytest.mark.slow


def fresh() -> str:
    return f"t-{uuid.uuid4().hex}"


async def test_the_server_itself(aclient: holdfast.AsyncClient) -> None:
    assert await aclient.live()
    assert await aclient.ready()
    assert "holdfast_" in await aclient.metrics()
    assert (await aclient.openapi())["openapi"].startswith("3.1")
    assert "steps" in [work.name for work in await aclient.work_types()]
    assert repr(aclient) == f"<AsyncClient {aclient.base_url}>"


async def test_a_token_is_assigned_anew(spawn_server: Callable[..., ServerProcess]) -> None:
    server = spawn_server(HOLDFAST_TOKEN="right")
    async with holdfast.AsyncClient(server.url, "wrong") as client:
        with pytest.raises(errors.Unauthorized):
            await client.work_types()
        client.token = "right"
        assert client.token == "right"
        assert await client.work_types()


async def test_a_closed_client_sends_nothing() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"status": "live"}))
    client = holdfast.AsyncClient("http://server", transport=transport)
    assert await client.live()
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.live()


async def test_a_process_is_paused_resumed_cancelled_and_deleted(aclient: holdfast.AsyncClient) -> None:
    process = await aclient.processes.start("steps", id=fresh(), **ENDLESS)
    assert (await (await process.pause()).wait(60, until="paused")).state is State.PAUSED
    assert (await process.resume()).state in (State.QUEUED, State.RUNNING)
    with pytest.raises(errors.IllegalState):
        await process.forget()
    await process.cancel()
    with pytest.raises(errors.ProcessCancelled):
        await process.result(60)
    await process.forget()
    with pytest.raises(errors.NotFound):
        await process.refresh()


async def test_verbs_by_id_and_waits(aclient: holdfast.AsyncClient) -> None:
    id = (await aclient.processes.start("steps", id=fresh(), **ENDLESS)).id
    await aclient.processes.pause(id)
    assert (await aclient.processes.wait(id, 60, until="paused")).state is State.PAUSED
    with pytest.raises(errors.WaitTimeout):
        await aclient.processes.wait(id, 0.01)
    await aclient.processes.resume(id)
    await aclient.processes.cancel(id)
    assert (await aclient.processes.wait(id, 60)).state is State.CANCELLED
    assert (await aclient.processes.get(id)).has_ended
    await aclient.processes.forget(id)


async def test_all_that_match_are_changed(aclient: holdfast.AsyncClient) -> None:
    group = {"group": fresh()}
    started = [await aclient.processes.start("steps", id=fresh(), labels=group, **ENDLESS) for _ in range(3)]
    changed = await aclient.processes.pause_all(labels=group)
    assert sorted(changed.changed) == sorted(process.id for process in started)
    for process in started:
        await process.wait(60, until="paused")
    listed = [process.id async for process in aclient.processes.list(labels=group, state="paused", page_size=1)]
    assert listed == [process.id for process in reversed(started)]
    assert len((await aclient.processes.resume_all(labels=group)).changed) == 3
    assert len((await aclient.processes.cancel_all(labels=group)).changed) == 3
    assert (await aclient.processes.kill_all(labels={"group": "of nobody"})).changed == []
    with pytest.raises(errors.BadRequest):
        await aclient.processes.cancel_all()


async def test_events_and_the_log_of_a_process(aclient: holdfast.AsyncClient) -> None:
    process = await aclient.processes.start("steps", id=fresh(), to=3)
    states = [event.state async for event in process.events() if event.type == "state"]
    assert states[-1] is State.SUCCEEDED
    assert [line async for line in process.log(after=1_000_000)] == []
    assert await process.result() == {"steps": 3}


async def test_events_of_the_server_are_those_of_the_filter(aclient: holdfast.AsyncClient) -> None:
    id, seen = fresh(), list[Any]()

    async def watch() -> None:
        async for event in aclient.events(ids=[id], after=0):
            seen.append(event)
            if event.state is State.SUCCEEDED:
                return

    watching = asyncio.create_task(watch())
    await aclient.processes.start("steps", id=fresh(), to=1)
    await aclient.processes.start("steps", id=id, to=1)
    await watching
    assert {event.id for event in seen} == {id}


async def test_a_function_is_sent_by_a_call(aclient: holdfast.AsyncClient) -> None:
    @aclient.process
    def count(job: Job[NoParams], to: int) -> Iterator[Progress]:
        for i in range(to):
            yield Progress(i, to, {"i": i})

    assert count.__name__ == "count"
    assert (await (await count(2)).wait(60)).state is State.SUCCEEDED
    submitted = await aclient.processes.submit(count.function, 2, id=fresh())
    assert (await submitted.wait(60)).state is State.SUCCEEDED
