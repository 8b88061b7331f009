"""Events for watchers: state changes and log lines in order, progress coalesced, slow watchers dropped."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from holdfast.wire import Event
from tornado_app.processes.journal.queries import ProcessRecord
from tornado_app.processes.journal.schema import DELETED

MOST_WAITING = 1000
"""State changes and log lines that wait for one watcher before it is dropped as too slow."""

AT_ONCE = 16
"""Watchers that an event is delivered to in one turn of the loop."""

PORTION = MOST_WAITING // 2
"""State changes and log lines that are delivered at once to a watcher among many."""

MOST_KEPT = 20 * MOST_WAITING
"""State changes and log lines that wait for many watchers before those are dropped as too slow."""

PAUSES = 3.0
"""Times as long as a delivery to many takes, the loop has for everything else."""

LONGEST_S = 0.05

_NOBODY: frozenset[Watcher] = frozenset()

TOO_SLOW = "too slow: come back with Last-Event-ID"

_OF_PROCESSES = frozenset({"state", "deleted", "progress", "log"})

Wants = Callable[[Event, ProcessRecord | None], bool]
"""Decides whether a watcher wants an event; with it comes the process that it is of, if it is of one."""


class Watcher:
    """One who watches. Progress that is not fetched yet is replaced by newer progress of the same process."""

    def __init__(self, wants: Wants, since: int = 0) -> None:
        self.wants = wants
        self.left = False
        self.dropped = ""  # why it gets no more, once it doesn't
        self.row: ProcessRecord | None = None  # the process of the newest event that it took, unless it was deleted
        self._ordered: deque[Event] = deque()
        self._progress: dict[str, Event] = {}
        self._arrived = asyncio.Event()
        self._since = since  # it takes nothing that was published before it came

    def put(self, item: _Publication) -> None:
        """Take an event, on the loop."""
        event, row = item.event, item.row
        if item.number <= self._since or self.left or self.dropped or not self.wants(event, row):
            return
        self.row = None if event.type == DELETED else row
        if event.type == "progress":
            self._progress[event.id] = event
        elif len(self._ordered) >= MOST_WAITING:
            self._ordered.clear()
            self._progress.clear()
            self.drop(TOO_SLOW)
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


class _Publication(NamedTuple):
    """A published event, its number, and which watchers have yet to get it."""

    number: int
    event: Event
    row: ProcessRecord | None
    to_all: bool  # those who watch everything
    to_its: bool  # those who watch its process


class EventBroker:
    """Broker of events between those who publish and those who watch. Lives on the loop.

    A few watchers get an event at once. Where there are many, delivery takes turns with the rest of the loop and takes
    a small part of its time: whoever makes things happen does not wait for those who watch. What is published meanwhile
    reaches each watcher in one piece.
    """

    def __init__(self) -> None:
        self.newest = 0  # the number of the last event that was published
        self._all: set[Watcher] = set()
        self._by_id: dict[str, set[Watcher]] = {}
        self._number = 0
        self._ordered: list[_Publication] = []  # what many watchers have yet to get
        self._progress: dict[str, _Publication] = {}
        self._late: set[str] = set()  # processes of which some of that is, for those who watch one
        self._publishing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._all) + sum(map(len, self._by_id.values()))

    def watch(self, id: str | None, wants: Wants = lambda event, row: True) -> Watcher:
        """Watch one process, or everything; end it with `leave`."""
        watcher = Watcher(wants, self._number)
        (self._all if id is None else self._by_id.setdefault(id, set())).add(watcher)
        return watcher

    def leave(self, id: str | None, watcher: Watcher) -> None:
        """Watch no more."""
        watcher.left = True
        if id is None:
            self._all.discard(watcher)
            return
        of_id = self._by_id.get(id, set())
        of_id.discard(watcher)
        if not of_id:
            self._by_id.pop(id, None)

    def publish(self, event: Event, row: ProcessRecord | None = None) -> None:
        """Deliver an event to its watchers. `row` is the process that it is of."""
        self.newest = event.seq or self.newest
        self._number += 1
        its = self._by_id.get(event.id, _NOBODY) if event.type in _OF_PROCESSES else _NOBODY
        item = _Publication(
            self._number,
            event,
            row,
            to_all=len(self._all) > AT_ONCE or (bool(self._all) and self._publishing is not None),
            to_its=len(its) > AT_ONCE or (bool(its) and event.id in self._late),
        )
        for watcher in () if item.to_its else its:
            watcher.put(item)
        for watcher in () if item.to_all else self._all:
            watcher.put(item)
        if item.to_its:
            self._late.add(event.id)
        if item.to_all or item.to_its:
            self._keep(item)

    def _keep(self, item: _Publication) -> None:
        """Keep an event for later, as a watcher would keep it."""
        event = item.event
        if event.type == "progress":
            self._progress.pop(event.id, None)
            self._progress[event.id] = item
        else:
            if event.seq is not None:
                self._progress.pop(event.id, None)
            self._ordered.append(item)
        if len(self._ordered) > MOST_KEPT:  # they come faster than they can be delivered
            self._ordered.clear()
            for watcher in self._everyone():
                watcher.drop(TOO_SLOW)
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish_to_many())

    async def _publish_to_many(self) -> None:
        """Deliver to a slice of the watchers in a turn of the loop, then pause a few times as long as that took."""
        try:
            while self._ordered or self._progress:
                await self._publish_portion()
        finally:
            self._late.clear()
            self._publishing = None

    async def _publish_portion(self) -> None:
        batch = self._ordered[:PORTION]
        del self._ordered[:PORTION]
        if not self._ordered:
            batch += self._progress.values()
            self._progress.clear()
        watchers = self._recipients(batch)
        for first in range(0, len(watchers), AT_ONCE):
            start = time.perf_counter()
            for watcher, items in watchers[first : first + AT_ONCE]:
                for item in items:
                    watcher.put(item)
            await asyncio.sleep(0)  # those who got something
            await asyncio.sleep(0)  # write it
            await asyncio.sleep(min(LONGEST_S, PAUSES * (time.perf_counter() - start)))

    def _recipients(self, batch: list[_Publication]) -> list[tuple[Watcher, list[_Publication]]]:
        """Return who gets which of these."""
        to_all = [item for item in batch if item.to_all]
        found = [(watcher, to_all) for watcher in self._all] if to_all else []
        for id in self._late:
            its = [item for item in batch if item.to_its and item.event.id == id]
            found += [(watcher, its) for watcher in self._by_id.get(id, ())] if its else []
        return found

    def _everyone(self) -> list[Watcher]:
        return [*self._all, *itertools.chain(*self._by_id.values())]

    def close(self) -> None:
        """Drop all watchers: the server is stopping."""
        if self._publishing is not None:
            self._publishing.cancel()
        for watcher in self._everyone():
            watcher.drop("the server is stopping: come back with Last-Event-ID")

    @property
    def has_watchers(self) -> bool:
        """Return whether anyone watches."""
        return bool(self._all or self._by_id)
