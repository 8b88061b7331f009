"""How things of the SDK show themselves: as a widget where there is a kernel, as HTML, and as text."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from holdfast._views import ProcessView
from holdfast.transfers import TransferView
from holdfast.widgets import _look
from holdfast.widgets._look import Look


def mimebundle(thing: Any) -> Any:
    """What IPython shows of a process, a transfer, a client or a part of one."""
    if in_kernel():
        try:
            view = _VIEWS[_kind(thing)](thing)
        except ImportError:  # holdfast without [notebook]
            pass
        else:
            return view._repr_mimebundle_()
    look = _LOOKS[_kind(thing)](thing)
    return {"text/plain": _look.plain(look), "text/html": _look.static_html(look, datetime.now(UTC))}


async def watch(process: Any) -> None:
    """Show a process and wait until it has ended. What is shown moves wherever a cell that awaits may run."""
    if in_kernel():
        from IPython.display import display

        from holdfast.widgets._process import ProcessCard

        card = ProcessCard.of(process._client, process.info)
        display(card)  # type: ignore[no-untyped-call]
        process._info = await card.ended()
    else:
        ended = process.wait
        await (ended() if inspect.iscoroutinefunction(ended) else asyncio.to_thread(ended))
        print(_look.plain(_look.process_look(process.info)))  # noqa: T201 - there is nothing else to show it in


def in_kernel() -> bool:
    """Whether this Python is a kernel, whose widgets someone may see."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _kind(thing: Any) -> type:
    return next(kind for kind in _VIEWS if isinstance(thing, kind))


def _process_card(process: Any) -> Any:
    from holdfast.widgets._process import ProcessCard

    return ProcessCard.of(process._client, process.info)


def _transfer_card(transfer: Any) -> Any:
    from holdfast.widgets._transfer import TransferCard

    return TransferCard.of(transfer)


_VIEWS: dict[type, Callable[[Any], Any]] = {ProcessView: _process_card, TransferView: _transfer_card}
_LOOKS: dict[type, Callable[[Any], Look]] = {
    ProcessView: lambda process: _look.process_look(process.info),
    TransferView: _look.transfer_look,
}
