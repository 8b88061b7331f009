"""Waiting for threads and tasks to end, even if the waiting task is cancelled."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Call a blocking function on a thread. If cancelled, raise `CancelledError` after the function has returned.

    A thread can't be cancelled: it would continue to write to a file that is already closed.
    """
    # Not a task: a loop that ends cancels all tasks.
    work = functools.partial(contextvars.copy_context().run, function, *args)
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await all_ended([future])
    except asyncio.CancelledError:
        future.exception()  # retrieved, so that asyncio does not log it
        raise
    return future.result()


async def on_own_thread(function: Callable[[], T], stop: Callable[[], object], name: str) -> T:
    """Call a function that blocks for long on a thread of its own, so that it takes none from the executor of the loop.

    If cancelled, call `stop`, and raise `CancelledError` after the function has returned.
    """
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    outcome.set_running_or_notify_cancel()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon: the interpreter must not wait at its exit for the rest of a big file.
    threading.Thread(target=contextvars.copy_context().run, args=(work,), name=name, daemon=True).start()
    future = asyncio.wrap_future(outcome)
    try:
        await asyncio.wait([future])
    except asyncio.CancelledError:
        stop()
        try:
            await all_ended([future])
        finally:
            future.exception()  # retrieved, so that asyncio does not log it
        raise
    return future.result()


async def all_ended(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until all have ended, in any way. If cancelled, raise `CancelledError` after that, not before."""
    waiting = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while waiting:
        try:
            _, waiting = await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
