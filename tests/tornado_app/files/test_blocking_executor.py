"""Trips off the loop: shared when they are quick, never waiting behind a slow one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tornado_app.files.blocking_executor import BlockingExecutor, WorkerThreads


@pytest.fixture
def trips() -> Iterator[BlockingExecutor]:
    trips = BlockingExecutor(2, "test")
    yield trips
    trips.close()


async def test_a_function_runs_in_another_thread_and_its_result_comes_back(trips: BlockingExecutor) -> None:
    def where(number: int, *, name: str) -> tuple[int, str, int]:
        return threading.get_ident(), name, number

    ident, name, number = await trips.run(where, 5, name="x")
    assert ident != threading.get_ident()
    assert (name, number) == ("x", 5)


async def test_an_error_comes_back_and_does_not_touch_the_others(trips: BlockingExecutor) -> None:
    def fail() -> None:
        raise LookupError("this one")

    results = await asyncio.gather(trips.run(int), trips.run(fail), trips.run(int, 3), return_exceptions=True)
    assert results[0] == 0
    assert isinstance(results[1], LookupError)
    assert results[2] == 3


async def test_what_is_asked_for_in_one_turn_of_the_loop_shares_a_trip(trips: BlockingExecutor) -> None:
    idents = await asyncio.gather(*(trips.run(threading.get_ident) for _ in range(50)))
    # Those behind one that was slow may have been sent on.
    assert len(set(idents)) <= 2
    order: list[int] = []
    await asyncio.gather(*(trips.run(order.append, number) for number in range(5)))
    assert sorted(order) == list(range(5))


async def test_nobody_waits_for_one_that_is_slow(trips: BlockingExecutor) -> None:
    release = threading.Event()
    before = trips.run(int, 1)
    slow = trips.run(release.wait, 10)
    behind = [trips.run(int, number) for number in range(3)]
    assert await asyncio.wait_for(asyncio.gather(before, *behind), 5) == [1, 0, 1, 2]
    assert await asyncio.wait_for(trips.run(lambda: "in another turn"), 5) == "in another turn"
    assert not slow.done()
    release.set()
    assert await slow


async def test_a_call_that_was_cancelled_before_it_began_is_not_made(trips: BlockingExecutor) -> None:
    made: list[int] = []
    futures = [trips.run(made.append, number) for number in range(3)]
    futures[1].cancel()
    await asyncio.gather(futures[0], futures[2])
    assert made == [0, 2]


async def test_after_the_end_a_call_is_an_error_not_a_wait(trips: BlockingExecutor) -> None:
    await trips.run(int)
    trips.close()
    with pytest.raises(RuntimeError):
        await trips.run(int)


def test_a_crew_makes_every_trip_and_ends_its_threads_after_the_last() -> None:
    before = threading.active_count()
    crew = WorkerThreads(3, "test")
    made: list[int] = []
    for number in range(1000):
        crew.submit(lambda number=number: made.append(number))  # type: ignore[misc]
    assert threading.active_count() <= before + 3
    crew.close()
    assert sorted(made) == list(range(1000))
    assert threading.active_count() == before
    with pytest.raises(RuntimeError):
        crew.submit(made.clear)


def test_the_thread_that_came_back_last_goes_first() -> None:
    crew = WorkerThreads(3, "test")
    idents: list[int] = []
    back = threading.Semaphore(0)

    def trip() -> None:
        idents.append(threading.get_ident())
        back.release()

    for _ in range(20):
        crew.submit(trip)
        back.acquire()
        while not crew._idle:
            pass
    crew.close()
    assert len(set(idents)) == 1
