"""Card of a process."""

from __future__ import annotations

import asyncio
import dataclasses
import weakref

from holdfast import wire
from holdfast._client.core import AnyClient, AnyCore
from holdfast.notebook._card import Card
from holdfast.notebook._feed._feed import CLOSED, Feed
from holdfast.notebook._feed._registry import feed_of
from holdfast.notebook._html import _appearance
from holdfast.notebook._html._appearance import VERBS, Appearance
from holdfast.notebook._renderer import kernel_renderer, needs_running_cell
from holdfast.wire import Verb

RUN_WATCH = "this front end shows no live updates by itself: run `await p.watch()` in a cell"


class ProcessCard(Card):
    """Live card of a process, with buttons. It keeps no state: made again from the same id, it shows the same.

    Args:
        client: client of the server that has the process.
        id: id of the process.
        info: the process as it is known so far, if it is known.
    """

    def __init__(self, client: AnyClient | AnyCore, id: str, info: wire.ProcessInfo | None = None) -> None:
        self._feed = feed_of(client)
        self._hint = RUN_WATCH if needs_running_cell() else ""
        self.show_process(id, info)
        super().__init__(self.appearance())

    def show_process(self, id: str, info: wire.ProcessInfo | None = None) -> None:
        """Show another process from now on."""
        before = getattr(self, "_subscription", None)
        self.id = id
        self._subscription = self._feed.subscribe(self, kernel_renderer().request_render, id, info)
        self._tracked = self._subscription.tracked
        self._rendered: tuple[str, str, int] = ("", "", -1)
        if before is not None:
            before.close()

    @classmethod
    def of(cls, client: AnyClient | AnyCore, info: wire.ProcessInfo) -> ProcessCard:
        """Return the open card of this process, or a new one."""
        cards = _cards.setdefault(feed_of(client), weakref.WeakValueDictionary())
        card = cards.get(info.id)
        if card is None or card.comm is None:
            card = cards[info.id] = cls(client, info.id, info)
        else:
            card._feed.apply_answer(info)  # an answer has fields that no event carries, such as the result
        return card

    @property
    def info(self) -> wire.ProcessInfo | None:
        """The newest known state of the process; None before the first answer."""
        return self._tracked.info

    def has_changed(self) -> bool:
        return self._rendered != (self._feed.offline, self._feed.error, self._tracked.revision)

    def appearance(self) -> Appearance:
        feed, tracked = self._feed, self._tracked
        with feed.lock:
            self._rendered = (feed.offline, feed.error, tracked.revision)
            if tracked.info is None:
                waiting = feed.offline or feed.error
                return _appearance.unknown_process_appearance(self.id, feed.url, tracked.missing, waiting)
            hint = CLOSED if feed.closed else self._hint
            appearance = _appearance.process_appearance(
                tracked.info,
                rate=tracked.speed.rate,
                lines=tracked.lines,
                offline=feed.offline,
                warning=feed.error,
                pending_verb=tracked.pending_verb,
                refusal=tracked.refusal,
                hint="" if tracked.info.has_ended else hint,
                verbs=tracked.verbs & frozenset(VERBS),
            )
            return dataclasses.replace(appearance, verbs=frozenset()) if feed.closed else appearance

    async def ended(self) -> wire.ProcessInfo:
        """Wait until the process has ended, and return it. Raises `NotFound`."""
        while self.comm is not None and not self._tracked.missing and not (self.info and self.info.has_ended):
            await self._next_tick()
        return await asyncio.to_thread(self._feed.fetch, self.id)

    def request(self, verb: Verb) -> None:
        self._feed.request(self.id, verb)

    def close(self) -> None:
        self._subscription.close()
        super().close()


_cards: weakref.WeakKeyDictionary[Feed, weakref.WeakValueDictionary[str, ProcessCard]] = weakref.WeakKeyDictionary()
