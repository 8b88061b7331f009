"""The ground that the tests stand on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tornado.ioloop import IOLoop

from tests.support.servers import children_of_this_process


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


SIGNALS = [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM]


def test_children_have_the_default_action_for_every_signal() -> None:
    code = "import signal, sys; print([n for n in map(int, sys.argv[1:]) if signal.getsignal(n) == signal.SIG_IGN])"
    numbers = [str(int(number)) for number in SIGNALS]
    assert subprocess.check_output([sys.executable, "-c", code, *numbers], text=True) == "[]\n"


@pytest.mark.slow
def test_a_run_in_the_background_is_as_one_in_front() -> None:
    """`nohup make test &` ignores these signals from its birth."""
    this = f"{__file__}::{test_children_have_the_default_action_for_every_signal.__name__}"
    code = f"import os, signal, sys; [signal.signal(n, signal.SIG_IGN) for n in {[int(n) for n in SIGNALS]}]; "
    code += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", code, "-m", "pytest", "-q", "-p", "no:cacheprovider", this]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
