"""Many watchers: each is told everything, once and in order, and whoever makes things happen does not wait for them."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime

import pytest

from holdfast.wire import Event
from tornado_app.handlers.events import line_of
from tornado_app.processes import events as hubs
from tornado_app.processes.events import EventBroker, Watcher

MANY = 20 * hubs.AT_ONCE
_numbers = itertools.count(1)


def event(type: str = "log", id: str = "p", *, seq: bool = False, message: str = "") -> Event:
    number = next(_numbers)
    return Event(type, id, datetime.now(UTC), seq=number if seq else None, message=message or str(number))


async def told(watcher: Watcher, count: int) -> list[Event]:
    found: list[Event] = []
    while len(found) < count:
        found += await watcher.next(30)
    return found


async def everyone_told(broker: EventBroker) -> None:
    while broker._publishing is not None:
        await asyncio.sleep(0)


@pytest.mark.parametrize("id", [None, "p"])
async def test_each_of_many_is_told_everything_once_and_in_order(id: str | None) -> None:
    broker = EventBroker()
    many = [broker.watch(id) for _ in range(MANY)]
    few = broker.watch("p" if id is None else None)
    events = []
    for _ in range(5):
        for _ in range(30):
            events.append(event(seq=len(events) % 7 == 0))
            broker.publish(events[-1])
        await asyncio.sleep(0.001)
    for watcher in [*many, few]:
        assert await told(watcher, len(events)) == events
    await everyone_told(broker)
    for watcher in [*many, few]:
        assert not watcher._arrived.is_set(), "nothing twice"


async def test_telling_many_takes_no_longer_than_telling_a_few() -> None:
    """Counted, not timed: no watcher is touched before the loop has turned."""
    broker = EventBroker()
    many = [broker.watch(None) for _ in range(MANY)]
    broker.publish(event())
    assert not any(watcher._arrived.is_set() for watcher in many)
    most, before = 0, 0
    while before < MANY:
        await asyncio.sleep(0)
        reached = sum(watcher._arrived.is_set() for watcher in many)
        most, before = max(most, reached - before), reached
    assert most <= hubs.AT_ONCE, "in one turn of the loop"


async def test_who_comes_later_is_not_told_what_was_before_and_who_has_left_nothing() -> None:
    broker = EventBroker()
    many = [broker.watch(None) for _ in range(MANY)]
    broker.publish(event(message="before"))
    late = broker.watch(None)
    broker.leave(None, many[-1])
    broker.publish(event(message="after"))
    assert [e.message for e in await told(late, 1)] == ["after"]
    await everyone_told(broker)
    assert not many[-1]._arrived.is_set()


async def test_progress_comes_as_its_newest_and_never_after_the_state_that_ended_it() -> None:
    broker = EventBroker()
    many = [broker.watch(None) for _ in range(MANY)]
    for number in range(1000):
        broker.publish(event("progress", "a", message=str(number)))
        broker.publish(event("progress", "b", message=str(number)))
    broker.publish(event("state", "b", seq=True, message="ended"))
    for watcher in many:
        assert [(e.id, e.message) for e in await told(watcher, 2)] == [("b", "ended"), ("a", "999")]


async def test_a_flood_that_nobody_can_be_told_drops_them_and_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "MOST_KEPT", 50)
    broker = EventBroker()
    many = [broker.watch(None) for _ in range(MANY)]
    for _ in range(51):
        broker.publish(event())
    assert all("too slow" in watcher.dropped for watcher in many)
    assert not broker._ordered
    await everyone_told(broker)


async def test_the_end_of_the_server_ends_the_telling() -> None:
    broker = EventBroker()
    many = [broker.watch(None) for _ in range(MANY)]
    broker.publish(event())
    await asyncio.sleep(0)
    broker.close()
    await everyone_told(broker)
    assert all("stopping" in watcher.dropped for watcher in many)


def test_an_event_is_written_once_for_all() -> None:
    one = event(seq=True)
    assert line_of(one) is line_of(one)
    assert line_of(one).startswith(b"id: ")
    for _ in range(3000):
        line_of(event())
    assert line_of(one).startswith(b"id: ")
