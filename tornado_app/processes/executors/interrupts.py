"""Ends what the work of one attempt waits for when it is to stop: a statement of a database, a read of a socket."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from holdfast.work import Interrupted

log = logging.getLogger("holdfast.processes")

_AGAIN = 0.1  # seconds between interrupts: one that comes before the statement has begun is lost


class Interrupts:
    """Blocks of one attempt that can be interrupted. The work enters them; `stop` and `kill` come from other threads.

    No lock: the block is noted before the request is read, and the request before the block, so one side sees the
    other.
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
        """Whether the work is to stop, or was killed."""
        return self.killed or self._stopping

    def stop(self, wanted: bool) -> None:
        """Interrupt the block that the work is in until it leaves it, or no more. Does not wait."""
        self._stopping = wanted
        self._begin()

    def kill(self) -> None:
        """Interrupt the block that the work is in, and each one that it enters."""
        self.killed = True
        self._begin()

    def _begin(self) -> None:
        block = self._block
        if block is not None and self.is_wanted():
            block.begin()


class _InterruptBlock:
    """One stay in a block."""

    def __init__(self, interrupt: Callable[[], object], wanted: Callable[[], bool]) -> None:
        self.interrupted = False
        self._interrupt = interrupt
        self._wanted = wanted
        self._lock = threading.Lock()  # an interrupt must not meet what the work does next
        self._begun = False
        self._left = False

    def begin(self) -> None:
        """Interrupt it in a thread of its own, until it is left."""
        if not self._begun:  # twice does no harm
            self._begun = True
            threading.Thread(target=self._run, name="interrupt", daemon=True).start()

    def leave(self) -> None:
        """Be left: no interrupt comes after this."""
        with self._lock:
            self._left = True

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._left:
                    return
                if self._wanted():  # it may have been revoked
                    self.interrupted = True
                    try:
                        self._interrupt()
                    except Exception as error:  # a connection that is gone has nothing left to interrupt
                        log.debug("an interrupt failed: %s", error)
            time.sleep(_AGAIN)
