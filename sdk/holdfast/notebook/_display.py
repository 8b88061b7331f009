"""How objects of the SDK display themselves: as a widget in a kernel, else as HTML and text."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from typing import Any

from holdfast import calls, plans
from holdfast._http import SyncDriver
from holdfast.errors import HoldfastError
from holdfast.notebook._html import _appearance
from holdfast.notebook._html._appearance import Appearance
from holdfast.plans import Retries

_NO_RETRIES = Retries(attempts=0)
_MAX_LISTED = 20  # of each kind, in text


def mimebundle(thing: Any) -> Any:
    """Return what IPython displays for a process, a transfer, a client or a part of a client."""
    if in_kernel():
        try:
            view = _VIEWS[thing._shows](thing)
        except ImportError:  # holdfast without [notebook]
            pass
        else:
            return view._repr_mimebundle_()
    if thing._shows in _APPEARANCES:
        shown = _APPEARANCES[thing._shows](thing)
        return {"text/plain": _appearance.plain(shown), "text/html": _appearance.static_html(shown, datetime.now(UTC))}
    text = listing(thing)
    return {"text/plain": text, "text/html": f"<pre>{escape(text)}</pre>"}


async def watch(process: Any) -> None:
    """Display a process and wait until it has ended. It updates live in any front end that can run `await` cells."""
    if in_kernel():
        from IPython.display import display

        from holdfast.notebook._process import ProcessCard

        card = ProcessCard.of(process._client, process.info)
        display(card)  # type: ignore[no-untyped-call]
        process._info = await card.ended()
    else:
        ended = process.wait
        await (ended() if inspect.iscoroutinefunction(ended) else asyncio.to_thread(ended))
        print(_appearance.plain(_appearance.process_appearance(process.info)))  # noqa: T201 - there is no widget


def in_kernel() -> bool:
    """Return whether this Python is a Jupyter kernel, which can display widgets."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _process_card(process: Any) -> Any:
    from holdfast.notebook._process import ProcessCard

    return ProcessCard.of(process._client, process.info)


def _transfer_card(transfer: Any) -> Any:
    from holdfast.notebook._transfer import TransferCard

    return TransferCard.of(transfer)


def _dashboard(client: Any, *parts: Any) -> Any:
    from holdfast.notebook._dashboard import Dashboard

    return Dashboard.of(client, parts)


def listing(thing: Any) -> str:
    """Return the newest processes and the first files as text; only one of them for a part of a client."""
    client = thing if thing._shows == "client" else thing._client
    driver, lines = SyncDriver(client._connection), [repr(client)]
    try:
        if thing._shows != "files":
            processes = driver.run(plans.request(calls.list_processes(limit=_MAX_LISTED), _NO_RETRIES)).items
            lines += [_appearance.plain(_appearance.process_appearance(info)).replace("\n", "  ") for info in processes]
        if thing._shows != "processes":
            files = driver.run(plans.request(calls.list_files(limit=_MAX_LISTED), _NO_RETRIES)).items
            lines += [f"file {file.name}: {_appearance.size(file.size)}" for file in files]
    except HoldfastError as error:
        lines.append(f"no answer: {error}")
    finally:
        driver.close()
    return "\n".join(lines)


_VIEWS: dict[str, Callable[[Any], Any]] = {
    "process": _process_card,
    "transfer": _transfer_card,
    "client": lambda client: _dashboard(client, "processes", "uploads", "files"),
    "processes": lambda processes: _dashboard(processes._client, "processes"),
    "files": lambda files: _dashboard(files._client, "uploads", "files"),
}
_APPEARANCES: dict[str, Callable[[Any], Appearance]] = {
    "process": lambda process: _appearance.process_appearance(process.info),
    "transfer": _appearance.transfer_appearance,
}
