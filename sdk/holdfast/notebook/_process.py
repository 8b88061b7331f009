"""The card of a process."""

from __future__ import annotations

import asyncio
import dataclasses
import weakref
from typing import TYPE_CHECKING

from holdfast import wire
from holdfast.notebook._card import Card
from holdfast.notebook._feed._feed import CLOSED, Feed, feed_of
from holdfast.notebook._html import _appearance
from holdfast.notebook._html._appearance import Look, Verb
from holdfast.notebook._renderer import only_while_a_cell_runs, waker

if TYPE_CHECKING:
    from holdfast._async.client import AsyncClient
    from holdfast._sync.client import Client

WATCH = "this front end shows no live updates by itself: run `await p.watch()` in a cell"


class ProcessCard(Card):
    """A process of a server, live, with buttons. It owns nothing: made again from the same id it shows the same.

    Args:
        client: whose server it is.
        id: the process's.
        info: what is known of it, when something is.
    """

    def __init__(self, client: Client | AsyncClient, id: str, info: wire.Process | None = None) -> None:
        self._feed = feed_of(client)
        self._hint = WATCH if only_while_a_cell_runs() else ""
        self.turn_to(id, info)
        super().__init__(self.look())

    def turn_to(self, id: str, info: wire.Process | None = None) -> None:
        """Show another process from now on. On the kernel's loop."""
        before = getattr(self, "_follow", None)
        self.id = id
        self._follow = self._feed.follow(self, waker(), id, info)
        self._tracked = self._follow.tracked
        self._seen: tuple[str, str, int] = ("", "", -1)
        if before is not None:
            before.close()

    @classmethod
    def of(cls, client: Client | AsyncClient, info: wire.Process) -> ProcessCard:
        """The card of this process; the same one again while it is open, however often it is shown."""
        cards = _cards.setdefault(feed_of(client), weakref.WeakValueDictionary())
        card = cards.get(info.id)
        if card is None or card.comm is None:
            card = cards[info.id] = cls(client, info.id, info)
        else:
            card._feed.learn(info)  # an answer may know what no event tells, such as the result
        return card

    @property
    def info(self) -> wire.Process | None:
        """The process as it stands; None while nothing is known of it."""
        return self._tracked.info

    def has_changed(self) -> bool:
        return self._seen != (self._feed.offline, self._feed.trouble, self._tracked.revision)

    def look(self) -> Look:
        feed, tracked = self._feed, self._tracked
        with feed.lock:
            self._seen = (feed.offline, feed.trouble, tracked.revision)
            if tracked.info is None:
                return _appearance.unknown_look(self.id, feed.url, tracked.missing, feed.offline or feed.trouble)
            hint = CLOSED if feed.closed else self._hint
            look = _appearance.process_look(
                tracked.info,
                rate=tracked.speed.rate,
                lines=tracked.lines,
                offline=feed.offline,
                warning=feed.trouble,
                asking=tracked.asking,
                refusal=tracked.refusal,
                hint="" if tracked.info.has_ended else hint,
            )
            return dataclasses.replace(look, verbs=frozenset()) if feed.closed else look

    async def ended(self) -> wire.Process:
        """Wait, on the kernel's loop, until it has ended; what it came to. Raises `NotFound`."""
        while self.comm is not None and not self._tracked.missing and not (self.info and self.info.has_ended):
            await self._next_tick()
        return await asyncio.to_thread(self._feed.fetch, self.id)

    def ask(self, verb: Verb) -> None:
        self._feed.ask(self.id, verb)

    def close(self) -> None:
        self._follow.close()
        super().close()


_cards: weakref.WeakKeyDictionary[Feed, weakref.WeakValueDictionary[str, ProcessCard]] = weakref.WeakKeyDictionary()
