"""Tells watchers what happens: state changes and log lines in order, progress coalesced, slow watchers dropped."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable

from holdfast.wire import Event
from tornado_app.processes.rows import Record
from tornado_app.processes.schema import DELETED

MOST_WAITING = 1000
"""State changes and log lines that wait for one watcher before it is dropped as too slow."""

_OF_PROCESSES = frozenset({"state", "deleted", "progress", "log"})

Wants = Callable[[Event, Record | None], bool]
"""Whether a watcher wants an event; with it comes the process that it is of, if it is of one."""


class Watcher:
    """One who watches. Progress that is not fetched yet is replaced by newer progress of the same process."""

    def __init__(self, wants: Wants) -> None:
        self.wants = wants
        self.dropped = ""  # why it gets no more, once it doesn't
        self.row: Record | None = None  # the process of the newest event that it took, unless it was deleted
        self._ordered: deque[Event] = deque()
        self._progress: dict[str, Event] = {}
        self._arrived = asyncio.Event()

    def put(self, event: Event, row: Record | None) -> None:
        """Take an event, on the loop."""
        if self.dropped or not self.wants(event, row):
            return
        self.row = None if event.type == DELETED else row
        if event.type == "progress":
            self._progress[event.id] = event
        elif len(self._ordered) >= MOST_WAITING:
            self._ordered.clear()
            self._progress.clear()
            self.drop("too slow: come back with Last-Event-ID")
        else:
            if event.seq is not None:
                self._progress.pop(event.id, None)  # the state change carries what was newest
            self._ordered.append(event)
        self._arrived.set()

    def drop(self, why: str) -> None:
        """Send no more to it."""
        self.dropped = why
        self._arrived.set()

    async def next(self, timeout: float) -> list[Event]:
        """Everything new, in order, progress last; empty after `timeout` seconds without anything."""
        if not self._arrived.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        self._arrived.clear()
        found = [*self._ordered, *self._progress.values()]
        self._ordered.clear()
        self._progress.clear()
        return found


class Hub:
    """Everyone who watches. Lives on the loop."""

    def __init__(self) -> None:
        self.newest = 0  # the number of the last event that was told
        self._all: set[Watcher] = set()
        self._by_id: dict[str, set[Watcher]] = {}

    def __len__(self) -> int:
        return len(self._all) + sum(map(len, self._by_id.values()))

    def watch(self, id: str | None, wants: Wants = lambda event, row: True) -> Watcher:
        """Watch one process, or everything; end it with `leave`."""
        watcher = Watcher(wants)
        (self._all if id is None else self._by_id.setdefault(id, set())).add(watcher)
        return watcher

    def leave(self, id: str | None, watcher: Watcher) -> None:
        """Watch no more."""
        if id is None:
            self._all.discard(watcher)
            return
        of_id = self._by_id.get(id, set())
        of_id.discard(watcher)
        if not of_id:
            self._by_id.pop(id, None)

    def tell(self, event: Event, row: Record | None = None) -> None:
        """Tell everyone whom it concerns. `row` is the process that it is of."""
        self.newest = event.seq or self.newest
        if event.type in _OF_PROCESSES:
            for watcher in self._by_id.get(event.id, ()):
                watcher.put(event, row)
        for watcher in self._all:
            watcher.put(event, row)

    def close(self) -> None:
        """Let everyone go: the server is stopping."""
        for watcher in [*self._all, *itertools.chain(*self._by_id.values())]:
            watcher.drop("the server is stopping: come back with Last-Event-ID")

    @property
    def anyone(self) -> bool:
        """Whether someone watches at all."""
        return bool(self._all or self._by_id)
