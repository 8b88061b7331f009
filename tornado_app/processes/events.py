"""Tells watchers what happens: state changes and log lines in order, progress coalesced, slow watchers dropped."""

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
"""Watchers that are told in one turn of the loop."""

PORTION = MOST_WAITING // 2
"""State changes and log lines that a watcher among many is told in one piece."""

MOST_KEPT = 20 * MOST_WAITING
"""State changes and log lines that wait for many watchers before they are dropped as too slow."""

PAUSES = 3.0
"""How many times as long as it tells the many, the loop has for everything else."""

LONGEST_S = 0.05

_NOBODY: frozenset[Watcher] = frozenset()

TOO_SLOW = "too slow: come back with Last-Event-ID"

_OF_PROCESSES = frozenset({"state", "deleted", "progress", "log"})

Wants = Callable[[Event, ProcessRecord | None], bool]
"""Whether a watcher wants an event; with it comes the process that it is of, if it is of one."""


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
        self._since = since  # what was told before it came is not for it

    def put(self, told: _Told) -> None:
        """Take an event, on the loop."""
        event, row = told.event, told.row
        if told.number <= self._since or self.left or self.dropped or not self.wants(event, row):
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


class _Told(NamedTuple):
    """An event that was told, the number of the telling, and who has yet to hear it."""

    number: int
    event: Event
    row: ProcessRecord | None
    to_all: bool  # those who watch everything
    to_its: bool  # those who watch its process


class EventBroker:
    """Everyone who watches. Lives on the loop.

    A few watchers are told at once. Where there are many, telling takes turns with the rest of the loop and takes a
    small part of its time: whoever makes things happen does not wait for those who watch. What happens meanwhile
    reaches each watcher in one piece.
    """

    def __init__(self) -> None:
        self.newest = 0  # the number of the last event that was told
        self._all: set[Watcher] = set()
        self._by_id: dict[str, set[Watcher]] = {}
        self._number = 0
        self._ordered: list[_Told] = []  # what the many have not been told yet
        self._progress: dict[str, _Told] = {}
        self._late: set[str] = set()  # processes of which some of that is, for those who watch one
        self._telling: asyncio.Task[None] | None = None

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

    def tell(self, event: Event, row: ProcessRecord | None = None) -> None:
        """Tell everyone whom it concerns. `row` is the process that it is of."""
        self.newest = event.seq or self.newest
        self._number += 1
        its = self._by_id.get(event.id, _NOBODY) if event.type in _OF_PROCESSES else _NOBODY
        told = _Told(
            self._number,
            event,
            row,
            to_all=len(self._all) > AT_ONCE or (bool(self._all) and self._telling is not None),
            to_its=len(its) > AT_ONCE or (bool(its) and event.id in self._late),
        )
        for watcher in () if told.to_its else its:
            watcher.put(told)
        for watcher in () if told.to_all else self._all:
            watcher.put(told)
        if told.to_its:
            self._late.add(event.id)
        if told.to_all or told.to_its:
            self._keep(told)

    def _keep(self, told: _Told) -> None:
        """For later, as a watcher would keep it."""
        event = told.event
        if event.type == "progress":
            self._progress.pop(event.id, None)
            self._progress[event.id] = told
        else:
            if event.seq is not None:
                self._progress.pop(event.id, None)
            self._ordered.append(told)
        if len(self._ordered) > MOST_KEPT:  # they come faster than anyone can be told
            self._ordered.clear()
            for watcher in self._everyone():
                watcher.drop(TOO_SLOW)
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_the_many())

    async def _tell_the_many(self) -> None:
        """A slice of the watchers in a turn of the loop, then a pause of a few times as long as that took."""
        try:
            while self._ordered or self._progress:
                await self._tell_a_portion()
        finally:
            self._late.clear()
            self._telling = None

    async def _tell_a_portion(self) -> None:
        batch = self._ordered[:PORTION]
        del self._ordered[:PORTION]
        if not self._ordered:
            batch += self._progress.values()
            self._progress.clear()
        watchers = self._concerned(batch)
        for first in range(0, len(watchers), AT_ONCE):
            start = time.perf_counter()
            for watcher, news in watchers[first : first + AT_ONCE]:
                for told in news:
                    watcher.put(told)
            await asyncio.sleep(0)  # those who were told
            await asyncio.sleep(0)  # write it
            await asyncio.sleep(min(LONGEST_S, PAUSES * (time.perf_counter() - start)))

    def _concerned(self, batch: list[_Told]) -> list[tuple[Watcher, list[_Told]]]:
        """Who has to be told what."""
        to_all = [told for told in batch if told.to_all]
        found = [(watcher, to_all) for watcher in self._all] if to_all else []
        for id in self._late:
            its = [told for told in batch if told.to_its and told.event.id == id]
            found += [(watcher, its) for watcher in self._by_id.get(id, ())] if its else []
        return found

    def _everyone(self) -> list[Watcher]:
        return [*self._all, *itertools.chain(*self._by_id.values())]

    def close(self) -> None:
        """Let everyone go: the server is stopping."""
        if self._telling is not None:
            self._telling.cancel()
        for watcher in self._everyone():
            watcher.drop("the server is stopping: come back with Last-Event-ID")

    @property
    def anyone(self) -> bool:
        """Whether someone watches at all."""
        return bool(self._all or self._by_id)
