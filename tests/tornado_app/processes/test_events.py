"""Server-sent events, long polls and logs over real HTTP: in order, once, and never lost to who comes back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import resource
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from holdfast.wire import BulkRequest, Event, LogPage, Process, State
from tests.support import work
from tests.support.processes import eventually, makes_progress, reaches, shut, start
from tests.tornado_app.processes.conftest import Make
from tornado_app.app import App
from tornado_app.handlers import events as handler
from tornado_app.processes import events
from tornado_app.processes import service as engine_module
from tornado_app.processes.service import Engine


@pytest.fixture
async def engine(app: App) -> AsyncIterator[Engine]:
    """The engine of the server."""
    work.RELEASE.clear()
    yield app.services.processes
    work.RELEASE.set()


class Stream:
    """Reads server-sent events from an answer, comments too."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.begins_after = 0  # the number that the stream told at its beginning

    async def next(self) -> tuple[dict[str, str], str]:
        """The next event's fields (empty for a comment), and the comment."""
        fields: dict[str, str] = {}
        comment = ""
        async for line in self._lines:
            if not line:
                return fields, comment
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.strip()
            else:
                comment = value.strip()
        raise EOFError

    async def event(self) -> Event:
        """The next event; what its SSE fields say must agree with its data."""
        while True:
            fields, _ = await asyncio.wait_for(self.next(), 10)
            if fields:
                event = msgspec.json.decode(fields["data"], type=Event)
                assert fields["event"] == event.type
                assert fields.get("id") == (None if event.seq is None else str(event.seq))
                return event

    async def until(self, type: str = "state", state: str | None = None) -> list[Event]:
        """Events up to one of that type and state."""
        found = [await self.event()]
        while (found[-1].type, found[-1].state) != (type, state):
            found.append(await self.event())
        return found


@contextlib.asynccontextmanager
async def watching(http: httpx.AsyncClient, path: str, **headers: str) -> AsyncIterator[Stream]:
    """A stream of events that the server has begun to send."""
    async with http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        stream = Stream(answer.aiter_lines())
        fields, comment = await stream.next()
        assert comment == "watching"
        stream.begins_after = int(fields["id"])
        yield stream


async def test_each_state_change_is_told_in_order_with_its_number(engine: Engine, http: httpx.AsyncClient) -> None:
    async with watching(http, "/v1/events") as stream:
        await start(engine, "p", "stubborn", to=3, labels={"a": "b"})
        events = [event for event in await stream.until(state="succeeded") if event.type == "state"]
    assert [(event.before, event.state) for event in events] == [
        (None, State.QUEUED),
        (State.QUEUED, State.RUNNING),
        (State.RUNNING, State.SUCCEEDED),
    ]
    assert [event.seq for event in events] == [1, 2, 3]
    assert {event.id for event in events} == {"p"}
    assert (await engine.get("p")).version == events[-1].version


async def test_an_event_of_a_failure_carries_the_error(engine: Engine, http: httpx.AsyncClient) -> None:
    async with watching(http, "/v1/events") as stream:
        await start(engine, "p", fails=1)
        last = (await stream.until(state="failed"))[-1]
    assert last.error is not None
    assert last.error.message == "not yet"


async def test_a_watcher_of_one_process_hears_of_no_other(engine: Engine, http: httpx.AsyncClient) -> None:
    await start(engine, "p")
    await makes_progress(engine, "p")
    async with watching(http, "/v1/processes/p/events") as stream:
        await start(engine, "q", to=3)
        await reaches(engine, "q", State.SUCCEEDED)
        await engine.cancel("p")
        assert {event.id for event in await stream.until(state="cancelled")} == {"p"}


@pytest.mark.slow
async def test_progress_is_told_at_most_ten_times_a_second_and_the_latest_wins(
    engine: Engine, http: httpx.AsyncClient
) -> None:
    await start(engine, "p", every=0.0005)
    async with watching(http, "/v1/processes/p/events") as stream:
        began = time.monotonic()
        told = []
        while len(told) < 8:
            event = await stream.event()
            if event.type == "progress":
                told.append(event)
        took = time.monotonic() - began
    assert len(told) <= took * 10 + 2
    done = [event.progress.done or 0 for event in told if event.progress is not None]
    assert done == sorted(done)
    assert max(b - a for a, b in itertools.pairwise(done)) > 1, "what came between is left out"
    versions = [event.version or 0 for event in told]
    assert versions == sorted(set(versions))


async def test_log_lines_are_told_in_order_and_once(engine: Engine, http: httpx.AsyncClient) -> None:
    await start(engine, "first")
    async with watching(http, "/v1/events") as stream:
        await start(engine, "p", "talker", to=200, every=0)
        events = await stream.until(state="succeeded")
    lines = [event for event in events if event.type == "log"]
    assert [line.message for line in lines] == [f"line {n}" for n in range(200)]
    numbers = [(line.data or {})["seq"] for line in lines]
    assert numbers == sorted(set(numbers))


# -- coming back


@pytest.mark.parametrize("how", ["header", "query"])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/processes/p/events"])
async def test_who_comes_back_gets_what_it_missed_and_then_what_comes(
    engine: Engine, http: httpx.AsyncClient, path: str, how: str
) -> None:
    async with watching(http, path if "p/" not in path else "/v1/events") as stream:
        await start(engine, "p")
        seen = (await stream.until(state="running"))[-1].seq or 0
    await engine.pause("p")
    await reaches(engine, "p", State.PAUSED)
    await engine.resume("p")
    await makes_progress(engine, "p")
    headers = {"Last-Event-ID": str(seen)} if how == "header" else {}
    async with watching(http, path + (f"?after={seen}" if how == "query" else ""), **headers) as stream:
        missed = [event.state for event in await stream.until(state="running") if event.type == "state"]
        assert missed == [State.PAUSING, State.PAUSED, State.QUEUED, State.RUNNING]
        await engine.cancel("p")
        then = [event for event in await stream.until(state="cancelled") if event.type == "state"]
        assert [event.state for event in then] == [State.CANCELLING, State.CANCELLED]


async def test_nobody_who_comes_and_goes_misses_a_state_change_or_hears_it_twice(
    engine: Engine, http: httpx.AsyncClient
) -> None:
    """The watcher leaves after each few events and comes back, while changes go on."""

    async def change() -> None:
        for n in range(40):
            await start(engine, f"p{n}", "empty")

    changing = asyncio.create_task(change())
    heard: list[Event] = []
    while len(heard) < 120:
        last = heard[-1].seq if heard else 0
        async with watching(http, "/v1/events", **{"Last-Event-ID": str(last)}) as stream:
            for _ in range(min(7, 120 - len(heard))):
                heard.append(await stream.event())
    await changing
    assert [event.seq for event in heard] == list(range(1, 121))
    assert heard == await engine.events_after(0, BulkRequest())


async def test_a_long_history_is_replayed_in_pieces(
    engine: Engine, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        await start(engine, f"p{n}", "empty")
    for n in range(20):
        await reaches(engine, f"p{n}", State.SUCCEEDED)
    few = engine.events_after
    monkeypatch.setattr(engine, "events_after", lambda seq, wanted: few(seq, wanted, 7))
    async with watching(http, "/v1/events", **{"Last-Event-ID": "0"}) as stream:
        assert [(await stream.event()).seq for _ in range(60)] == list(range(1, 61))


async def test_a_stream_begins_with_the_number_from_which_it_can_be_taken_up_again(
    engine: Engine, http: httpx.AsyncClient
) -> None:
    """A client that is cut off before the first event has come loses nothing."""
    async with watching(http, "/v1/events") as stream:
        assert stream.begins_after == 0
    await start(engine, "p", to=1)
    await reaches(engine, "p", State.SUCCEEDED)
    async with watching(http, "/v1/events") as stream:
        begins = stream.begins_after
    assert begins == 3
    await start(engine, "q", to=1)
    await reaches(engine, "q", State.SUCCEEDED)
    for path in ("/v1/events", "/v1/processes/q/events"):
        async with watching(http, path, **{"Last-Event-ID": str(begins)}) as stream:
            assert stream.begins_after == begins
            told = [event for event in await stream.until(state="succeeded") if event.type == "state"]
        assert [(event.id, event.seq) for event in told] == [("q", 4), ("q", 5), ("q", 6)]


async def test_after_a_restart_a_stream_goes_on_from_the_last_number(make_engine: Make) -> None:
    first = await make_engine()
    await start(first, "p", to=1)
    await reaches(first, "p", State.SUCCEEDED)
    await eventually(lambda: first.broker.newest == 3)  # an event is told a moment after what it tells of can be seen
    await shut(first)
    assert (await make_engine()).broker.newest == 3


@pytest.mark.parametrize("path", ["/v1/events", "/v1/processes/p/events"])
async def test_who_comes_back_to_another_journal_hears_of_what_happens_now(
    engine: Engine, http: httpx.AsyncClient, path: str
) -> None:
    await start(engine, "p")
    await makes_progress(engine, "p")
    async with watching(http, path, **{"Last-Event-ID": "4711"}) as stream:
        assert stream.begins_after == 2
        await engine.cancel("p")
        heard = [event.state for event in await stream.until(state="cancelled") if event.type == "state"]
    assert heard == [State.CANCELLING, State.CANCELLED]


async def test_progress_of_weeks_goes_on_being_told_and_a_state_change_is_newer(engine: Engine) -> None:
    await start(engine, "p")
    await makes_progress(engine, "p")
    run = engine.runner.get("p")
    assert run is not None
    run.published = 60 * 86400 * 10
    before = await engine.get("p")
    after = await engine.wait("p", before.version, 60)
    assert after.version > before.version
    await makes_progress(engine, "p", before.progress.done or 0)
    watcher = engine.broker.watch("p")
    await engine.pause("p")
    paused = await reaches(engine, "p", State.PAUSED)
    told: list[int] = []

    async def heard() -> bool:
        told.extend(event.version or 0 for event in await watcher.next(1))
        return told[-1:] == [paused.version]

    await eventually(heard)
    engine.broker.leave("p", watcher)
    assert told == sorted(told)
    assert told[0] > after.version


# -- deleted processes


async def test_a_deletion_is_told_and_replayed_with_a_number_of_its_own(
    engine: Engine, http: httpx.AsyncClient
) -> None:
    await start(engine, "p", to=1, labels={"a": "b"})
    await reaches(engine, "p", State.SUCCEEDED)
    async with watching(http, "/v1/events") as all, watching(http, "/v1/processes/p/events") as one:
        await engine.delete("p")
        told = await all.event()
        assert await one.event() == told
    assert (told.type, told.id, told.seq, told.state, told.before) == ("deleted", "p", 4, None, State.SUCCEEDED)
    assert told.data == {"work_type": "steps", "labels": {"a": "b"}}
    assert await engine.events_after(0, BulkRequest()) == [told], "what it did is forgotten with it"
    await start(engine, "p", to=2)
    await reaches(engine, "p", State.SUCCEEDED)
    async with watching(http, "/v1/events", **{"Last-Event-ID": "3"}) as stream:
        again = [event for event in await stream.until(state="succeeded") if event.seq is not None]
    assert [(event.type, event.seq) for event in again] == [("deleted", 4), ("state", 5), ("state", 6), ("state", 7)]
    assert again[0] == told


async def test_a_long_poll_of_what_is_deleted_is_a_404(engine: Engine, http: httpx.AsyncClient) -> None:
    await start(engine, "p", to=1)
    await reaches(engine, "p", State.SUCCEEDED)
    polling = asyncio.create_task(http.get("/v1/processes/p?wait=30"))
    await eventually(lambda: len(engine.broker))
    await engine.delete("p")
    assert (await polling).status_code == 404


@pytest.mark.slow
async def test_what_expires_is_told_as_deleted_and_that_is_forgotten_in_its_time(
    make_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_EXPIRE_EVERY", 0.02)
    engine = await make_engine(keep_ended=0.3)

    async def told() -> list[str]:
        return [event.type for event in await engine.events_after(0, BulkRequest())]

    async def is_told() -> bool:
        return await told() == ["deleted"]

    async def is_forgotten() -> bool:
        return await told() == []

    await start(engine, "p", to=1)
    await eventually(is_told)
    await eventually(is_forgotten)
    assert engine.broker.newest == 4


# -- filters


FILTERS = {
    "work_type=steps": {"a", "b"},
    "label=of=x": {"a", "c"},
    "label=of=x&work_type=steps": {"a"},
    "label=of=x&label=by=me": {"c"},
    "id=b&id=c": {"b", "c"},
    "id=b&id=c&label=of=x": {"c"},
    "label=of=nothing": set(),
}


@pytest.mark.parametrize("query", FILTERS)
async def test_a_filter_of_events_means_what_it_means_in_the_list(
    engine: Engine, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.setattr(handler, "HEARTBEAT", 0.1)
    wanted = FILTERS[query]
    async with watching(http, f"/v1/events?{query}") as stream:
        await start(engine, "a", to=2, labels={"of": "x"})
        await start(engine, "b", to=2)
        await start(engine, "c", "talker", to=2, labels={"of": "x", "by": "me"})
        live = [await ended(stream) for _ in wanted]
        for id in "abc":
            await reaches(engine, id, State.SUCCEEDED)
        replayed = await heard_again(http, f"/v1/events?{query}", len(wanted))
        for id in "abc":
            await engine.delete(id)
        live += [await stream.event() for _ in wanted]
        deleted = await heard_again(http, f"/v1/events?{query}", len(wanted))
    assert sorted((event.id, event.type) for event in live) == sorted(
        (id, type) for id in wanted for type in ("state", "deleted")
    )
    assert {event.id for event in replayed} == wanted
    assert [event for event in live if event.type == "deleted"] == deleted


async def ended(stream: Stream) -> Event:
    """The next event of a process that has ended, while those of others go on."""
    while (event := await stream.event()).state != State.SUCCEEDED:
        pass
    return event


async def heard_again(http: httpx.AsyncClient, path: str, processes: int) -> list[Event]:
    """The last event of each of so many processes, replayed; then nothing but a sign of life."""
    found: dict[str, Event] = {}
    async with watching(http, path, **{"Last-Event-ID": "0"}) as stream:
        while True:
            fields, comment = await asyncio.wait_for(stream.next(), 10)
            if comment == "alive":
                assert len(found) == processes
                return list(found.values())
            event = msgspec.json.decode(fields["data"], type=Event)
            found[event.id] = event


async def test_events_of_files_are_of_no_process_that_a_filter_means(engine: Engine, http: httpx.AsyncClient) -> None:
    async with watching(http, "/v1/events?work_type=steps") as some, watching(http, "/v1/events") as all:
        assert (await http.put("/v1/files/a.txt", content=b"a")).status_code == 201
        while (await all.event()).type != "file":
            pass
        await start(engine, "p", to=1)
        assert (await some.event()).id == "p"


# -- watchers that are idle, slow, many


def slow_watcher(port: int, path: str) -> socket.socket:
    """A connection that has asked and takes almost nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return connection


async def read_all(connection: socket.socket) -> bytes:
    """Everything until the server ends the answer or the connection."""
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    taken = b""
    with contextlib.suppress(ConnectionError):
        while not taken.endswith(b"0\r\n\r\n"):
            piece = await asyncio.wait_for(loop.sock_recv(connection, 1 << 16), 10)
            if not piece:
                break
            taken += piece
    connection.close()
    return taken


@pytest.mark.slow
async def test_a_watcher_that_is_too_slow_is_dropped_with_an_event_that_says_so_and_can_come_back(
    server: App, engine: Engine, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_WAITING", 20)
    watcher = slow_watcher(server.port, "/v1/events")
    await eventually(lambda: len(engine.broker))
    for n in range(6):
        await start(engine, f"p{n}", "bad", how="logs_at_length")
        await reaches(engine, f"p{n}", State.SUCCEEDED)
    taken = await read_all(watcher)
    *_, last = [piece for piece in taken.split(b"\n\n") if b"event: " in piece]
    assert b"event: dropped" in last
    assert b"too slow: come back with Last-Event-ID" in last
    assert len(engine.broker) == 0
    seen = max((int(line[4:]) for line in taken.splitlines() if line.startswith(b"id: ")), default=0)
    assert seen < 18, "it was dropped before the end"
    async with watching(http, "/v1/events", **{"Last-Event-ID": str(seen)}) as stream:
        assert [(await stream.event()).seq for _ in range(seen, 18)] == list(range(seen + 1, 19))


@pytest.mark.slow
async def test_a_watcher_that_takes_nothing_at_all_is_cut_off(
    server: App, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "_WRITE_TIMEOUT", 0.1)
    watcher = slow_watcher(server.port, "/v1/events")
    await eventually(lambda: len(engine.broker))
    for n in range(10):
        await start(engine, f"p{n}", "bad", how="logs_at_length")
    await eventually(lambda: len(engine.broker) == 0)
    watcher.close()
    await start(engine, "next", to=1)
    await reaches(engine, "next", State.SUCCEEDED)


async def test_a_slow_watcher_holds_nobody_else_up(server: App, engine: Engine, http: httpx.AsyncClient) -> None:
    watcher = slow_watcher(server.port, "/v1/events")
    await eventually(lambda: len(engine.broker))
    async with watching(http, "/v1/events") as stream:
        for n in range(5):
            await start(engine, f"p{n}", "bad", how="logs_at_length")
            await stream.until(state="succeeded")
    watcher.close()


async def test_a_watcher_that_has_gone_is_forgotten(
    engine: Engine, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "HEARTBEAT", 0.02)
    await start(engine, "p")
    for path in ("/v1/events", "/v1/processes/p/events"):
        async with watching(http, path):
            assert len(engine.broker) == 1
        await eventually(lambda: len(engine.broker) == 0)


@pytest.mark.slow
async def test_a_thousand_watchers_of_one_process_all_hear_everything(server: App, engine: Engine) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft_before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192) if hard > 0 else 8192, hard))
    await start(engine, "p", every=0.01)
    connections = []
    try:
        for _ in range(10):
            opening = [asyncio.open_connection("127.0.0.1", server.port) for _ in range(100)]
            for reader, writer in await asyncio.gather(*opening):
                writer.write(b"GET /v1/processes/p/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                connections.append((reader, writer))
        await eventually(lambda: len(engine.broker) == 1000)
        await engine.cancel("p")
        heard = await asyncio.gather(*(until_cancelled(reader) for reader, _ in connections))
    finally:
        for _, writer in connections:
            writer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft_before, hard))
    assert len(heard) == 1000
    assert all(states == [b"cancelling", b"cancelled"] for states in heard)


async def until_cancelled(reader: asyncio.StreamReader) -> list[bytes]:
    """The states that a raw connection tells, up to `cancelled`."""
    taken = await asyncio.wait_for(reader.readuntil(b'"state":"cancelled"'), 60)
    return re.findall(rb'"type":"state".*?"state":"(\w+)"', taken)


async def test_watchers_are_told_when_the_server_stops(engine: Engine, http: httpx.AsyncClient) -> None:
    async with watching(http, "/v1/events") as stream:
        stopping = asyncio.create_task(engine.stop(1))
        last = (await stream.until(type="dropped"))[-1]
        assert last.message == "the server is stopping: come back with Last-Event-ID"
        with pytest.raises(EOFError):
            await stream.event()
    await stopping


# -- long polls


async def poll(http: httpx.AsyncClient, query: str = "") -> Process:
    answer = await http.get(f"/v1/processes/p{query}")
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Process)


async def test_a_long_poll_answers_when_something_changes(engine: Engine, http: httpx.AsyncClient) -> None:
    await start(engine, "p", "bad", how="spins")
    running = await makes_no_more_progress(engine)
    polling = asyncio.create_task(poll(http, f"?wait=30&after={running.version}"))
    await eventually(lambda: len(engine.broker))
    await asyncio.sleep(0.02)
    assert not polling.done()
    await engine.pause("p")
    assert (await polling).state == State.PAUSING
    assert len(engine.broker) == 0


async def makes_no_more_progress(engine: Engine) -> Process:
    process = await engine.get("p")
    while process.version & 0xFFFFFF == 0:
        process = await engine.wait("p", process.version, 1)
    return process


async def test_a_long_poll_answers_at_once_when_its_version_is_old(engine: Engine, http: httpx.AsyncClient) -> None:
    await start(engine, "p", to=1)
    last = await reaches(engine, "p", State.SUCCEEDED)
    began = time.monotonic()
    assert await poll(http, "?wait=60&after=1") == last
    assert await poll(http) == last
    assert time.monotonic() - began < 50


async def test_a_long_poll_without_a_change_answers_in_the_end_with_the_process_as_it_stands(
    engine: Engine, http: httpx.AsyncClient
) -> None:
    await start(engine, "p", to=1)
    last = await reaches(engine, "p", State.SUCCEEDED)
    for query in ("?wait=0.05", f"?wait=0.05&after={last.version}"):
        began = time.monotonic()
        assert await poll(http, query) == last
        assert time.monotonic() - began >= 0.05


async def test_a_long_poll_follows_a_process_to_its_end(engine: Engine, http: httpx.AsyncClient) -> None:
    process = await start(engine, "p", to=40, every=0.005)
    versions = [process.version]
    while not process.has_ended:
        process = await poll(http, f"?wait=10&after={process.version}")
        versions.append(process.version)
    assert versions == sorted(set(versions)), "each answer is news"
    assert process.result == {"at": 40}


async def test_a_start_can_wait_for_the_end(engine: Engine, http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/processes?wait=10", json={"id": "p", "work_type": "steps", "params": {"to": 5}})
    assert answer.status_code == 201
    assert answer.json()["state"] == "succeeded"
    again = await http.post("/v1/processes?wait=10", json={"id": "p", "work_type": "steps", "params": {"to": 5}})
    assert again.status_code == 200


async def test_a_long_poll_is_let_go_when_the_server_stops(engine: Engine, http: httpx.AsyncClient) -> None:
    await start(engine, "p", to=1)
    await reaches(engine, "p", State.SUCCEEDED)
    polling = asyncio.create_task(poll(http, "?wait=60"))
    await eventually(lambda: len(engine.broker))
    began = time.monotonic()
    stopping = asyncio.create_task(engine.stop(1))
    assert (await polling).state == State.SUCCEEDED
    await stopping
    assert time.monotonic() - began < 50


@pytest.mark.parametrize("query", ["wait=-1", "wait=x", "wait=61", "wait=nan", "wait=1&after=x", "wait=1&after=-1"])
async def test_a_long_poll_that_is_none_is_refused_and_the_parameter_is_named(
    engine: Engine, http: httpx.AsyncClient, query: str
) -> None:
    answer = await http.get(f"/v1/processes/p?{query}")
    assert answer.status_code == 400
    assert answer.json()["field"] in query


# -- the log


async def test_the_log_is_kept_and_read_in_pages(engine: Engine, http: httpx.AsyncClient) -> None:
    await start(engine, "p", "talker", to=25, every=0)
    await start(engine, "q", "talker", to=25, every=0)
    await reaches(engine, "p", State.SUCCEEDED)
    found: list[Any] = []
    after, pages = 0, 0
    while True:
        answer = await http.get(f"/v1/processes/p/log?limit=10&after={after}")
        page = msgspec.json.decode(answer.content, type=LogPage)
        found += page.items
        pages += 1
        if page.next is None:
            break
        after = page.next
    assert pages == 3
    assert [line.message for line in found] == [f"line {n}" for n in range(25)]
    assert {line.attempt for line in found} == {1}
    numbers = [line.seq for line in found]
    assert numbers == sorted(set(numbers))


async def test_the_log_of_what_runs_is_up_to_date(engine: Engine, http: httpx.AsyncClient) -> None:
    await start(engine, "p", "talker", every=0.01)

    async def lines() -> int:
        return len((await http.get("/v1/processes/p/log")).json()["items"])

    some = await eventually(lines)

    async def more() -> bool:
        return await lines() > some

    await eventually(more)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=10001", "after=-1", "after=" + "0" * 20 + "9" * 20, "x=1"]
)
async def test_a_log_query_that_is_none_is_refused_and_the_parameter_is_named(
    engine: Engine, http: httpx.AsyncClient, query: str
) -> None:
    await start(engine, "p", to=1)
    answer = await http.get(f"/v1/processes/p/log?{query}")
    assert answer.status_code == 400
    assert answer.json()["field"] == query.partition("=")[0]
