"""Handles of transfers in the background, which can be paused, resumed, cancelled, waited for and watched.

Resuming is the only way to start: each run of a transfer is a new plan that continues from the state of the server and
of the local file. Pausing ends the run.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Self, cast

from holdfast._client import display
from holdfast._http._threads import in_thread
from holdfast._transfers.job import R, TransferJob
from holdfast._transfers.pace import Rate, checked_rate
from holdfast.errors import TransferCancelled, WaitTimeout
from holdfast.plans import Stop, Stopped

if TYPE_CHECKING:
    from holdfast._http import AsyncDriver, SyncDriver


log = logging.getLogger("holdfast")

NOTIFY_INTERVAL = 0.1  # seconds between calls of a listener


class TransferState(StrEnum):
    """State of a transfer; one that is `failed` or `paused` can be resumed."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FAILED = "failed"
    SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """`done` and `total` in bytes, `rate` in bytes per second over the last seconds, `left` in seconds."""

    done: int
    total: int | None
    rate: float
    left: float | None

    @property
    def fraction(self) -> float | None:
        """Fraction that is done, from 0 to 1; None while the total is not known."""
        if self.total is None:
            return None
        return self.done / self.total if self.total else 1.0


class TransferView(Generic[R]):
    """Base of `Transfer` and `AsyncTransfer`. `client.files.upload` and `download` make them."""

    def __init__(self, job: TransferJob[R]) -> None:
        self._job = job
        self._rate = Rate()
        self._listeners: list[Callable[[Any], None]] = []
        self._notified_at = 0.0
        job.on_progress = self._on_progress
        self._listening = threading.local()
        self._state = TransferState.PAUSED
        self._error: BaseException | None = None
        self._result: R | None = None

    @property
    def kind(self) -> str:
        """`upload` or `download`."""
        return self._job.kind

    @property
    def name(self) -> str:
        """Name of the file on the server."""
        return self._job.name

    @property
    def state(self) -> TransferState:
        """State of the transfer."""
        return self._state

    @property
    def error(self) -> BaseException | None:
        """Error of a failed transfer, else None."""
        return self._error

    @property
    def progress(self) -> TransferProgress:
        """Progress of the transfer."""
        done, total = self._job.done, self._job.total
        rate = self._rate.at(done)
        left = (total - done) / rate if total is not None and rate > 0 else None
        return TransferProgress(done, total, rate, left)

    @property
    def sent(self) -> int:
        """Bytes of content that an upload has sent: fewer than its size where the server had some, as for a delta."""
        return self._job.sent

    @property
    def limit(self) -> float | None:
        """Maximum rate in bytes per second. It can be changed while the transfer runs."""
        return self._job.throttle.rate

    @limit.setter
    def limit(self, rate: float | None) -> None:
        self._job.throttle.rate = checked_rate(rate)

    def on_change(self, listener: Callable[[Self], None]) -> Callable[[], None]:
        """Call `listener` with this transfer now, at every change of state, and up to ten times a second on progress.

        It runs on the thread that makes the change, usually one of the transfer (in async code: on the loop), so it has
        to be quick. It may pause or cancel the transfer. Its exceptions are logged and ignored. Returns a function that
        removes the listener.
        """
        self._listeners.append(listener)
        self._call(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def _on_progress(self) -> None:
        if self._is_due():
            self._notify()

    def _is_due(self) -> bool:
        """Return whether listeners are to be notified of progress now."""
        now = time.monotonic()
        if not self._listeners or now - self._notified_at < NOTIFY_INTERVAL:
            return False
        self._notified_at = now
        return True

    def _notify(self) -> None:
        for listener in [*self._listeners]:
            self._call(listener)

    def _call(self, listener: Callable[[Self], None]) -> None:
        before, self._listening.now = self._is_listening(), True
        try:
            listener(self)
        except Exception:
            log.exception("a listener of the %s of %r failed", self.kind, self.name)
        finally:
            self._listening.now = before

    def _is_listening(self) -> bool:
        """Return whether this thread runs a listener."""
        return getattr(self._listening, "now", False)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return display.current().transfer(self)

    def __repr__(self) -> str:
        progress = self.progress
        share = "" if progress.fraction is None else f" {progress.fraction:.0%}"
        return f"<{type(self).__name__} {self.kind} {self.name!r} {self.state}{share}>"

    def _outcome(self) -> R:
        if self._state is TransferState.SUCCEEDED:
            return cast("R", self._result)
        if self._error is not None:
            raise self._error
        raise TransferCancelled(f"the {self.kind} of {self.name!r} was cancelled")


class Transfer(TransferView[R]):
    """A transfer on a thread of its own. All methods can be called from any thread."""

    def __init__(self, job: TransferJob[R], driver: SyncDriver) -> None:
        super().__init__(job)
        self._driver = driver
        self._changed = threading.Condition()
        self._stop: Stop | None = None
        self._thread: threading.Thread | None = None
        self._cancelling = False

    def resume(self) -> None:
        """Continue after a pause or a failure. Does nothing if the transfer is running or has ended."""
        with self._changed:
            if self._state not in (TransferState.PAUSED, TransferState.FAILED):
                return
            self._state, self._error, self._stop = TransferState.RUNNING, None, Stop()
            # A daemon: the interpreter must not wait at its exit for the rest of a big file.
            self._thread = threading.Thread(
                target=self._work, args=(self._stop,), name=f"holdfast-{self.kind}", daemon=True
            )
            self._thread.start()
        self._notify()

    def _work(self, stop: Stop) -> None:
        result: R | None = None
        state, error = TransferState.SUCCEEDED, None
        try:
            result = self._run(stop)
        except Stopped:
            state = TransferState.PAUSED
        except BaseException as failure:
            state, error = TransferState.FAILED, failure
        with self._changed:
            self._state, self._error, self._result = state, error, result
            self._changed.notify_all()
            cancelling, self._cancelling = self._cancelling, False
        self._notify()
        if cancelling:
            try:
                self.cancel()
            except Exception:
                log.exception("the partial data of the cancelled %s of %r was not removed", self.kind, self.name)

    def _run(self, stop: Stop) -> R:
        try:
            self._job.begin()
            with self._driver.session(stop) as driver:
                return driver.run(self._job.run(), stop)
        finally:
            self._job.close()

    def pause(self) -> None:
        """Stop, and keep the partial data. Returns after it has stopped; within a listener, at once."""
        with self._changed:
            stop, thread = self._stop, self._thread
        if stop is not None:
            stop.set()
        # A listener runs on the thread that has to stop: it would wait for itself.
        if thread is not None and thread is not threading.current_thread() and not self._is_listening():
            thread.join()

    def cancel(self) -> None:
        """Stop, and remove the partial data on both sides. Does nothing if the transfer has succeeded.

        Within a listener it returns at once.
        """
        while True:
            self.pause()
            with self._changed:
                if self._state is TransferState.RUNNING:
                    if not self._is_listening():
                        continue  # it was resumed meanwhile
                    self._cancelling = True
                    return
                if self._state in (TransferState.SUCCEEDED, TransferState.CANCELLED):
                    return
                self._state, self._error = TransferState.CANCELLED, None
                self._changed.notify_all()
                break
        self._driver.run(self._job.discard())
        self._notify()

    def wait(self, timeout: float | None = None) -> R:
        """Wait for the end and return the result: for an upload its `FileInfo`, for a download the path.

        Raises:
            WaitTimeout: it has not ended within `timeout` seconds; the transfer continues.
            TransferCancelled: it was cancelled.
            HoldfastError: it failed.
        """
        with self._changed:
            ended = self._changed.wait_for(
                lambda: self._state not in (TransferState.RUNNING, TransferState.PAUSED), timeout
            )
        if not ended:
            raise WaitTimeout(f"the {self.kind} of {self.name!r} is not done after {timeout} s: {self.state}")
        return self._outcome()


class AsyncTransfer(TransferView[R]):
    """A transfer on a thread of its own, which an asyncio task waits for; `await` it for the result."""

    def __init__(self, job: TransferJob[R], driver: AsyncDriver) -> None:
        super().__init__(job)
        self._driver = driver
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    def resume(self) -> None:
        """Continue after a pause or a failure. Does nothing if the transfer is running or has ended."""
        if self._state not in (TransferState.PAUSED, TransferState.FAILED):
            return
        self._state, self._error = TransferState.RUNNING, None
        self._ended.clear()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._work(), name=f"holdfast-{self.kind}")
        self._notify()

    async def _work(self) -> None:
        try:
            self._result = await self._run()
            self._state = TransferState.SUCCEEDED
        except asyncio.CancelledError:
            self._state = TransferState.PAUSED
        except BaseException as failure:
            self._state, self._error = TransferState.FAILED, failure
        if self._state is not TransferState.PAUSED:
            self._ended.set()
        self._notify()

    async def _run(self) -> R:
        try:
            await in_thread(self._job.begin)
            return await self._driver.transfer(self._job.run())
        finally:
            await in_thread(self._job.close)

    def _on_progress(self) -> None:
        """Call listeners on the loop; progress is made on a thread."""
        if self._loop is None or not self._is_due():
            return
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            self._notify()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._notify)

    async def pause(self) -> None:
        """Stop, and keep the partial data. Returns after it has stopped."""
        task = self._task
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if task is self._task and self._state is TransferState.RUNNING:  # it was cancelled before it began
            self._state = TransferState.PAUSED
            self._notify()

    async def cancel(self) -> None:
        """Stop, and remove the partial data on both sides. Does nothing if the transfer has succeeded."""
        await self.pause()
        while self._state is TransferState.RUNNING:  # it was resumed meanwhile
            await self.pause()
        if self._state in (TransferState.SUCCEEDED, TransferState.CANCELLED):
            return
        self._state, self._error = TransferState.CANCELLED, None
        self._ended.set()
        await self._driver.run(self._job.discard())
        self._notify()

    async def wait(self, timeout: float | None = None) -> R:
        """Wait for the end and return the result: for an upload its `FileInfo`, for a download the path.

        Raises:
            WaitTimeout: it has not ended within `timeout` seconds; the transfer continues.
            TransferCancelled: it was cancelled.
            HoldfastError: it failed.
        """
        try:
            await asyncio.wait_for(self._ended.wait(), timeout)
        except TimeoutError:
            raise WaitTimeout(f"the {self.kind} of {self.name!r} is not done after {timeout} s: {self.state}") from None
        return self._outcome()

    def __await__(self) -> Generator[Any, None, R]:
        return self.wait().__await__()
