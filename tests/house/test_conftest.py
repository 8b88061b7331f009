"""The ground that the tests stand on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator

import pytest
from tornado.ioloop import IOLoop

from tests.servers import children_of_this_process


@pytest.fixture
async def loop_of_a_value() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


@pytest.fixture
async def closed_with() -> AsyncIterator[list[asyncio.AbstractEventLoop]]:
    loops = [asyncio.get_running_loop()]
    yield loops
    assert loops == [asyncio.get_running_loop()]


@pytest.mark.parametrize("again", [1, 2])
async def test_async_tests_and_fixtures_share_the_loop_of_their_own_test(
    again: int,
    io_loop: IOLoop,
    loop_of_a_value: asyncio.AbstractEventLoop,
    closed_with: list[asyncio.AbstractEventLoop],
) -> None:
    here = asyncio.get_running_loop()
    assert here is loop_of_a_value is closed_with[0] is io_loop.asyncio_loop  # type: ignore[attr-defined]
    assert IOLoop.current() is io_loop


async def test_tasks_and_executor_threads_of_a_test_end_with_it() -> None:
    asyncio.get_running_loop().create_task(asyncio.sleep(3600), name="left behind")
    await asyncio.to_thread(threading.current_thread)


def test_children_are_seen_from_their_start_to_their_end() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children_of_this_process()
    assert child.pid not in children_of_this_process()
