"""Blocking calls off the loop: in one batch when they are quick, never waiting behind a slow one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tornado_app.files.blocking_executor import BlockingExecutor, WorkerThreads


@pytest.fixture
def executor() -> Iterator[BlockingExecutor]:
    executor = BlockingExecutor(2, "test")
    yield executor
    executor.close()


async def test_a_function_runs_in_another_thread_and_its_result_comes_back(executor: BlockingExecutor) -> None:
    def where(number: int, *, name: str) -> tuple[int, str, int]:
        return threading.get_ident(), name, number

    ident, name, number = await executor.run(where, 5, name="x")
    assert ident != threading.get_ident()
    assert (name, number) == ("x", 5)


async def test_an_error_comes_back_and_does_not_touch_the_others(executor: BlockingExecutor) -> None:
    def fail() -> None:
        raise LookupError("this one")

    results = await asyncio.gather(executor.run(int), executor.run(fail), executor.run(int, 3), return_exceptions=True)
    assert results[0] == 0
    assert isinstance(results[1], LookupError)
    assert results[2] == 3


async def test_what_is_submitted_in_one_iteration_of_the_loop_runs_as_a_batch(executor: BlockingExecutor) -> None:
    idents = await asyncio.gather(*(executor.run(threading.get_ident) for _ in range(50)))
    # Those behind a slow one may have gone on in another thread.
    assert len(set(idents)) <= 2
    order: list[int] = []
    await asyncio.gather(*(executor.run(order.append, number) for number in range(5)))
    assert sorted(order) == list(range(5))


async def test_nobody_waits_for_one_that_is_slow(executor: BlockingExecutor) -> None:
    release = threading.Event()
    before = executor.run(int, 1)
    slow = executor.run(release.wait, 10)
    behind = [executor.run(int, number) for number in range(3)]
    assert await asyncio.wait_for(asyncio.gather(before, *behind), 5) == [1, 0, 1, 2]
    assert await asyncio.wait_for(executor.run(lambda: "in another iteration"), 5) == "in another iteration"
    assert not slow.done()
    release.set()
    assert await slow


async def test_a_call_that_was_cancelled_before_it_began_is_not_made(executor: BlockingExecutor) -> None:
    made: list[int] = []
    futures = [executor.run(made.append, number) for number in range(3)]
    futures[1].cancel()
    await asyncio.gather(futures[0], futures[2])
    assert made == [0, 2]


async def test_after_the_end_a_call_is_an_error_not_a_wait(executor: BlockingExecutor) -> None:
    await executor.run(int)
    executor.close()
    with pytest.raises(RuntimeError):
        await executor.run(int)


def test_threads_run_every_task_and_end_after_the_last() -> None:
    before = threading.active_count()
    threads = WorkerThreads(3, "test")
    made: list[int] = []
    for number in range(1000):
        threads.submit(lambda number=number: made.append(number))  # type: ignore[misc]
    assert threading.active_count() <= before + 3
    threads.close()
    assert sorted(made) == list(range(1000))
    assert threading.active_count() == before
    with pytest.raises(RuntimeError):
        threads.submit(made.clear)


def test_the_thread_that_became_idle_last_is_used_first() -> None:
    threads = WorkerThreads(3, "test")
    idents: list[int] = []
    back = threading.Semaphore(0)

    def task() -> None:
        idents.append(threading.get_ident())
        back.release()

    for _ in range(20):
        threads.submit(task)
        back.acquire()
        while not threads.idle:
            pass
    threads.close()
    assert len(set(idents)) == 1
