"""Card of a transfer."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from holdfast._transfers.handles import AsyncTransfer, Transfer, TransferState
from holdfast.errors import HoldfastError
from holdfast.notebook._card import Card
from holdfast.notebook._feed._speed import Speed
from holdfast.notebook._front_end import NO_LIVE_UPDATES, needs_running_cell
from holdfast.notebook._html import _appearance
from holdfast.notebook._html._appearance import Appearance
from holdfast.notebook._renderer import UpdateWidget, kernel_loop
from holdfast.wire import Verb

AnyTransfer = Transfer[Any] | AsyncTransfer[Any]

_FINAL = (TransferState.SUCCEEDED, TransferState.CANCELLED)


class TransferCard(Card):
    """Live card of an upload or a download of this kernel, with buttons."""

    def __init__(self, transfer: AnyTransfer) -> None:
        self._transfer = transfer
        self._pending_verb = ""
        self._refusal = ""
        self._speed, self._moved_to = Speed(), (-1, "")
        self._hint = NO_LIVE_UPDATES if needs_running_cell() else ""
        self._rendered = ""
        super().__init__(self.appearance())

    @classmethod
    def of(cls, transfer: AnyTransfer) -> TransferCard:
        """Return the open card of this transfer, or a new one."""
        card = _cards.get(id(transfer))  # an open card refers to its transfer, so its id is not used again
        if card is None or card.comm is None:
            card = _cards[id(transfer)] = cls(transfer)
        return card

    @property
    def polled(self) -> bool:  # type: ignore[override]
        """True until the final state is shown: transfers send no notifications."""
        return self._transfer.state not in _FINAL or self._transfer.state != self._rendered

    def appearance(self) -> Appearance:
        moved_to = (self._transfer.progress.done, str(self._transfer.state))
        if moved_to != self._moved_to:
            self._speed.moved(time.monotonic())
            self._moved_to = moved_to
        return _appearance.transfer_appearance(
            self._transfer,
            pending_verb=self._pending_verb,
            refusal=self._refusal,
            hint=self._hint,
            speed=self._speed,
        )

    def render(self, update: UpdateWidget) -> None:
        state = self._transfer.state
        super().render(update)
        self._rendered = state

    def request(self, verb: Verb) -> None:
        if self._pending_verb:
            return
        self._pending_verb, self._refusal = verb, ""
        transfer, me = self._transfer, weakref.ref(self)

        def done(refusal: str) -> None:
            if (card := me()) is not None:
                card._pending_verb, card._refusal = "", refusal

        if isinstance(transfer, AsyncTransfer):
            loop = kernel_loop()
            if loop is not None:  # the loop that runs the transfer
                loop.call_soon_threadsafe(lambda: _keep(asyncio.ensure_future(_run_verb_async(transfer, verb, done))))
        else:
            work = (transfer, verb, done)
            threading.Thread(target=_run_verb, args=work, name="holdfast-transfer-verb", daemon=True).start()


def _run_verb(transfer: Transfer[Any], verb: Verb, done: Callable[[str], None]) -> None:
    refusal = ""
    try:
        getattr(transfer, verb)()
    except (HoldfastError, OSError) as error:
        refusal = f"{verb} was not done: {error}"
    done(refusal)


async def _run_verb_async(transfer: AsyncTransfer[Any], verb: Verb, done: Callable[[str], None]) -> None:
    refusal = ""
    try:
        if verb == "resume":
            transfer.resume()
        else:
            await (transfer.pause() if verb == "pause" else transfer.cancel())
    except (HoldfastError, OSError) as error:
        refusal = f"{verb} was not done: {error}"
    done(refusal)


_tasks: set[asyncio.Future[None]] = set()  # asyncio holds weak references to tasks


def _keep(task: asyncio.Future[None]) -> None:
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


_cards: weakref.WeakValueDictionary[int, TransferCard] = weakref.WeakValueDictionary()
