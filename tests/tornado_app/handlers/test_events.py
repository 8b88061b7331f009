"""Streams of server-sent events: where they begin, what they refuse, and how an event is written."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from holdfast.wire import Event
from tornado_app.handlers import events
from tornado_app.handlers.events import line_of


async def lines_until(answer: httpx.Response, end: str) -> list[str]:
    """Return the lines of a stream up to one that begins so."""
    found: list[str] = []
    async for line in answer.aiter_lines():
        found.append(line)
        if line.startswith(end):
            return found
    raise EOFError(found)


async def manifest(http: httpx.AsyncClient, id: str) -> None:
    answer = await http.post("/v1/processes?wait=30", json={"work_type": "manifest", "id": id})
    assert answer.json()["state"] == "succeeded"


def event(seq: int | None) -> Event:
    return Event("state", "p", datetime(2030, 1, 2, tzinfo=UTC), seq=seq)


def test_an_event_that_can_be_replayed_has_an_id() -> None:
    head, kind, data, *rest = line_of(event(7)).decode().split("\n")
    assert (head, kind, rest) == ("id: 7", "event: state", ["", ""])
    assert msgspec.json.decode(data.removeprefix("data: "), type=Event) == event(7)
    assert line_of(event(None)).startswith(b"event: state\n")


def test_an_event_is_written_once_however_many_watch() -> None:
    one = event(1)
    assert line_of(one) is line_of(one)
    for number in range(2000):
        line_of(event(number))
    assert line_of(one) == line_of(event(1)), "also after it has left the cache"


async def test_a_stream_begins_with_the_id_that_it_continues_after(http: httpx.AsyncClient) -> None:
    await manifest(http, "a")
    async with http.stream("GET", "/v1/events") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-accel-buffering"] == "no"
        comment, first = await lines_until(answer, "id: ")
    assert comment == ": watching"
    assert int(first.removeprefix("id: ")) > 0


@pytest.mark.parametrize("by_header", [True, False])
async def test_missed_events_are_replayed(http: httpx.AsyncClient, by_header: bool) -> None:
    await manifest(http, "a")
    given = {"headers": {"Last-Event-ID": "0"}} if by_header else {"params": {"after": "0"}}
    async with http.stream("GET", "/v1/processes/a/events", **given) as answer:  # type: ignore[arg-type]
        lines = await lines_until(answer, 'data: {"type":"state","id":"a"')
    assert "event: state" in lines


@pytest.mark.parametrize("wrong", ["x", "-1", "1.5", "9" * 19, "9" * 5000])
async def test_a_last_event_id_that_is_none_is_refused(http: httpx.AsyncClient, wrong: str) -> None:
    answer = await http.get("/v1/events", headers={"Last-Event-ID": wrong})
    assert answer.status_code == 400
    assert "a whole number" in answer.json()["detail"]


async def test_events_of_an_unknown_process_are_a_404(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/processes/moon/events")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_heartbeats_show_that_the_connection_lives(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.02)
    async with http.stream("GET", "/v1/events") as answer:
        assert ": alive" in await lines_until(answer, ": alive")
