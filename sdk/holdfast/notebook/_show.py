"""How things of the SDK show themselves: as a widget where there is a kernel, as HTML, and as text."""

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
from holdfast.notebook._html._appearance import Look
from holdfast.plans import Retries

_AT_ONCE = Retries(attempts=0)
_MOST = 20  # of each kind, where there is nothing but text


def mimebundle(thing: Any) -> Any:
    """What IPython shows of a process, a transfer, a client or a part of one."""
    if in_kernel():
        try:
            view = _VIEWS[thing._shows](thing)
        except ImportError:  # holdfast without [notebook]
            pass
        else:
            return view._repr_mimebundle_()
    if thing._shows in _LOOKS:
        look = _LOOKS[thing._shows](thing)
        return {"text/plain": _appearance.plain(look), "text/html": _appearance.static_html(look, datetime.now(UTC))}
    text = listing(thing)
    return {"text/plain": text, "text/html": f"<pre>{escape(text)}</pre>"}


async def watch(process: Any) -> None:
    """Show a process and wait until it has ended. What is shown moves wherever a cell that awaits may run."""
    if in_kernel():
        from IPython.display import display

        from holdfast.notebook._process import ProcessCard

        card = ProcessCard.of(process._client, process.info)
        display(card)  # type: ignore[no-untyped-call]
        process._info = await card.ended()
    else:
        ended = process.wait
        await (ended() if inspect.iscoroutinefunction(ended) else asyncio.to_thread(ended))
        print(_appearance.plain(_appearance.process_look(process.info)))  # noqa: T201 - there is nothing else to show it in


def in_kernel() -> bool:
    """Whether this Python is a kernel, whose widgets someone may see."""
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
    """The newest processes and the first files, as far as `thing` is about them, as text."""
    client = thing if thing._shows == "client" else thing._client
    driver, lines = SyncDriver(client._connection), [repr(client)]
    try:
        if thing._shows != "files":
            processes = driver.run(plans.request(calls.list_processes(limit=_MOST), _AT_ONCE)).items
            lines += [_appearance.plain(_appearance.process_look(info)).replace("\n", "  ") for info in processes]
        if thing._shows != "processes":
            files = driver.run(plans.request(calls.list_files(limit=_MOST), _AT_ONCE)).items
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
_LOOKS: dict[str, Callable[[Any], Look]] = {
    "process": lambda process: _appearance.process_look(process.info),
    "transfer": _appearance.transfer_look,
}
