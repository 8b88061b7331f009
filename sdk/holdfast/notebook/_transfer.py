"""The card of a transfer."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Any

from holdfast._transfers.handles import AsyncTransfer, Transfer, TransferState
from holdfast.errors import HoldfastError
from holdfast.notebook._card import Card
from holdfast.notebook._html import _appearance
from holdfast.notebook._html._appearance import Look, Verb
from holdfast.notebook._renderer import STANDS_STILL, kernel_loop, only_while_a_cell_runs

AnyTransfer = Transfer[Any] | AsyncTransfer[Any]

_OVER = (TransferState.SUCCEEDED, TransferState.CANCELLED)


class TransferCard(Card):
    """An upload or a download of this kernel, live, with buttons."""

    def __init__(self, transfer: AnyTransfer) -> None:
        self._transfer = transfer
        self._asking = ""
        self._refusal = ""
        self._hint = STANDS_STILL if only_while_a_cell_runs() else ""
        super().__init__(self.look())

    @classmethod
    def of(cls, transfer: AnyTransfer) -> TransferCard:
        """The card of this transfer; the same one again while it is open."""
        card = _cards.get(id(transfer))  # a card that is there holds its transfer: nothing else has that id
        if card is None or card.comm is None:
            card = _cards[id(transfer)] = cls(transfer)
        return card

    @property
    def polled(self) -> bool:  # type: ignore[override]
        """A transfer tells nothing by itself."""
        return self._transfer.state not in _OVER or self._transfer.state != self._shown.state

    def look(self) -> Look:
        transfer = self._transfer
        return _appearance.transfer_look(transfer, asking=self._asking, refusal=self._refusal, hint=self._hint)

    def ask(self, verb: Verb) -> None:
        if self._asking:
            return
        self._asking, self._refusal = verb, ""
        transfer, me = self._transfer, weakref.ref(self)

        def done(refusal: str) -> None:
            if (card := me()) is not None:
                card._asking, card._refusal = "", refusal

        if isinstance(transfer, AsyncTransfer):
            loop = kernel_loop()
            if loop is not None:  # where it lives
                loop.call_soon_threadsafe(lambda: _keep(asyncio.ensure_future(_ask_async(transfer, verb, done))))
        else:
            threading.Thread(target=_ask, args=(transfer, verb, done), name="holdfast-ask", daemon=True).start()


def _ask(transfer: Transfer[Any], verb: Verb, done: Callable[[str], None]) -> None:
    refusal = ""
    try:
        getattr(transfer, verb)()
    except (HoldfastError, OSError) as error:
        refusal = f"{verb} was not done: {error}"
    done(refusal)


async def _ask_async(transfer: AsyncTransfer[Any], verb: Verb, done: Callable[[str], None]) -> None:
    refusal = ""
    try:
        if verb == "resume":
            transfer.resume()
        else:
            await (transfer.pause() if verb == "pause" else transfer.cancel())
    except (HoldfastError, OSError) as error:
        refusal = f"{verb} was not done: {error}"
    done(refusal)


_tasks: set[asyncio.Future[None]] = set()  # asyncio itself holds tasks weakly


def _keep(task: asyncio.Future[None]) -> None:
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


_cards: weakref.WeakValueDictionary[int, TransferCard] = weakref.WeakValueDictionary()
