"""Calls on threads have ended when the code that asked for them goes on, cancelled or not."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast._http._threads import all_ended, in_thread, on_own_thread


async def test_a_cancelled_call_returns_after_its_function() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(10)
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(3):  # once for each who is impatient
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_it_gives_what_the_function_gives() -> None:
    assert await in_thread(int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "seven")


async def test_all_are_waited_for_even_by_one_that_is_cancelled() -> None:
    ended = 0

    async def slow() -> None:
        nonlocal ended
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            ended += 1

    tasks = [asyncio.create_task(slow()) for _ in range(3)]
    waiting = asyncio.create_task(all_ended(tasks))
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == 3


async def test_a_cancelled_thread_is_told_to_stop_and_waited_for() -> None:
    begun, told, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert told.wait(10)
        ended.set()

    task = asyncio.create_task(on_own_thread(work, told.set, "work"))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_thread_of_its_own_takes_none_from_the_executor() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    go_on = threading.Event()
    tasks = [asyncio.create_task(on_own_thread(lambda: go_on.wait(10), go_on.set, "work")) for _ in range(3)]
    assert await in_thread(int, "7") == 7
    go_on.set()
    assert await asyncio.gather(*tasks) == [True] * 3


async def test_a_thread_gives_what_its_function_gives() -> None:
    assert await on_own_thread(lambda: threading.current_thread().name, lambda: None, "named") == "named"
    with pytest.raises(ValueError, match="invalid literal"):
        await on_own_thread(lambda: int("seven"), lambda: None, "work")
