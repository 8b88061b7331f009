"""Interrupts what the work of one attempt waits for when a stop is requested: a database statement, a socket read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from holdfast.work import Interrupted

log = logging.getLogger("holdfast.processes")

_AGAIN = 0.1  # seconds between interrupts: one that comes before the statement begins is lost


class Interrupts:
    """Interruptible blocks of one attempt. The work enters them; requests come from other threads.

    It needs no lock: the work stores its block and then reads the request, the other thread stores the request and then
    reads the block, so at least one of them sees the other.
    """

    __slots__ = ("_block", "_stopping", "killed", "used")

    def __init__(self) -> None:
        self._block: _InterruptBlock | None = None
        self._stopping = False
        self.killed = False
        self.used = False

    @contextmanager
    def __call__(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """See `Job.interruptible`."""
        block = _InterruptBlock(interrupt, self.is_wanted)
        self._block, self.used = block, True
        try:
            if self.is_wanted():
                raise Interrupted
            yield
        except Exception as error:
            if block.interrupted:
                raise Interrupted from error
            raise
        finally:
            self._block = None
            block.leave()

    def is_wanted(self) -> bool:
        """Return whether a stop or a kill is requested."""
        return self.killed or self._stopping

    def request_stop(self, requested: bool) -> None:
        """Interrupt the current block until the work leaves it; False revokes that. Does not block."""
        self._stopping = requested
        self._begin()

    def kill(self) -> None:
        """Interrupt the current block, and each one that the work enters from now on."""
        self.killed = True
        self._begin()

    def revoke_kill(self) -> None:
        """Interrupt no more blocks for a kill that was given up."""
        self.killed = False

    def _begin(self) -> None:
        block = self._block
        if block is not None and self.is_wanted():
            block.begin()


class _InterruptBlock:
    """One block, from entering to leaving it."""

    def __init__(self, interrupt: Callable[[], object], wanted: Callable[[], bool]) -> None:
        self.interrupted = False
        self._interrupt = interrupt
        self._wanted = wanted
        self._lock = threading.Lock()  # an interrupt must not reach what the work does next
        self._begun = False
        self._left = False

    def begin(self) -> None:
        """Interrupt the block from a thread of its own until the work leaves it."""
        if not self._begun:  # a race that starts two threads does no harm
            self._begun = True
            threading.Thread(target=self._run, name="interrupt", daemon=True).start()

    def leave(self) -> None:
        """End the block: no interrupt comes after this."""
        with self._lock:
            self._left = True

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._left:
                    return
                if self._wanted():  # the request may have been revoked
                    self.interrupted = True
                    try:
                        self._interrupt()
                    except Exception as error:  # a connection that is closed has nothing left to interrupt
                        log.debug("an interrupt failed: %s", error)
            time.sleep(_AGAIN)
