"""Card of a process."""

from __future__ import annotations

import asyncio
import weakref

from holdfast import wire
from holdfast._client.core import AnyClient, AnyCore
from holdfast.notebook._card import Card
from holdfast.notebook._feed._feed import Feed
from holdfast.notebook._feed._registry import feed_of
from holdfast.notebook._front_end import needs_running_cell
from holdfast.notebook._html._appearance import Appearance
from holdfast.notebook._overview import tracked_appearance
from holdfast.notebook._renderer import kernel_renderer
from holdfast.wire import Verb

RUN_WATCH = "this front end shows no live updates by itself: run `await p.watch()` in a cell"


class ProcessCard(Card):
    """Live card of a process, with buttons. It keeps no state: made again from the same id, it shows the same.

    Args:
        client: client of the server that has the process.
        id: id of the process.
        info: the process as it is known so far, if it is known.
    """

    can_notify = True

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

    @property
    def polled(self) -> bool:  # type: ignore[override]
        """True while it runs or is expected to go on: what does not move gets older."""
        return not self._feed.closed and not (self.info is not None and self.info.has_ended)

    def has_changed(self) -> bool:
        return self.polled or self._rendered != (self._feed.offline, self._feed.error, self._tracked.revision)

    def appearance(self) -> Appearance:
        feed, tracked = self._feed, self._tracked
        with feed.lock:
            self._rendered = (feed.offline, feed.error, tracked.revision)
            return tracked_appearance(feed, tracked, self._hint)

    async def ended(self) -> wire.ProcessInfo:
        """Wait until the process has ended, and return it. Raises `NotFound`."""
        while self.comm is not None and not self._tracked.missing and not (self.info and self.info.has_ended):
            await self._next_tick()
        return await asyncio.to_thread(self._feed.fetch, self.id)

    def request(self, verb: Verb) -> None:
        self._feed.request(self.id, verb)

    def set_notify(self, notify: bool) -> None:
        self._feed.set_notify(self.id, notify)

    def close(self) -> None:
        self._subscription.close()
        super().close()


_cards: weakref.WeakKeyDictionary[Feed, weakref.WeakValueDictionary[str, ProcessCard]] = weakref.WeakKeyDictionary()
