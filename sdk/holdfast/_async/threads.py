"""Threads and tasks that are waited for to their end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Call a function that blocks on a thread. Cancelled, it raises `CancelledError` once the function has returned.

    A thread can't be cancelled: one that was left to itself would go on writing to a file that is closed already.
    """
    # No task: a loop that ends cancels all of those.
    work = functools.partial(contextvars.copy_context().run, function, *args)
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await all_ended([future])
    except asyncio.CancelledError:
        future.exception()  # looked at, so that nothing is logged of it
        raise
    return future.result()


async def all_ended(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until all have ended, however. Cancelled, it raises `CancelledError` after that, not before."""
    waiting = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while waiting:
        try:
            _, waiting = await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
