"""Display of SDK objects: as a widget in a kernel, else as HTML and text."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from typing import Any

from holdfast import calls, plans, wire
from holdfast._client.core import AnyCore, AsyncCore
from holdfast._client.display import Part
from holdfast._client.download_link import DownloadLink
from holdfast._http import SyncDriver
from holdfast.errors import HoldfastError
from holdfast.notebook._front_end import takes_modules
from holdfast.notebook._html import _appearance
from holdfast.notebook._html._appearance import Appearance
from holdfast.plans import Retries
from holdfast.wire import ENDED

_NO_RETRIES = Retries(attempts=0)
_MAX_LISTED = 20  # of each kind, where there is nothing but text


class NotebookDisplay:
    """Implementation of `holdfast._client.display.Display`. Widgets are imported when one is made."""

    def server(self, core: AnyCore, part: Part) -> Any:
        bundle = _widget(lambda: _dashboard(core, part))
        if bundle is None:
            text = listing(core, part)
            bundle = {"text/plain": text, "text/html": f"<pre>{escape(text)}</pre>"}
        return bundle

    def process(self, core: AnyCore, info: wire.ProcessInfo) -> Any:
        return _widget(lambda: _process_card(core, info)) or _static(_appearance.process_appearance(info))

    def transfer(self, transfer: Any) -> Any:
        return _widget(lambda: _transfer_card(transfer)) or _static(_appearance.transfer_appearance(transfer))

    async def watch(self, core: AnyCore, info: wire.ProcessInfo) -> wire.ProcessInfo:
        if in_kernel():
            from IPython.display import display

            card = _process_card(core, info)
            display(card)  # type: ignore[no-untyped-call]
            ended: wire.ProcessInfo = await card.ended()
            return ended
        plan = plans.wait(info, ENDED, None, core.patience)
        info = await (core.run(plan) if isinstance(core, AsyncCore) else asyncio.to_thread(core.run, plan))
        print(_appearance.plain(_appearance.process_appearance(info)))  # noqa: T201 - there is nothing else to show it in
        return info

    def notify(self, core: AnyCore, info: wire.ProcessInfo) -> Callable[[wire.ProcessInfo], None]:
        if not in_kernel():
            return _ring
        try:
            card = _process_card(core, info)
        except ImportError:
            return _ring
        from IPython.display import display

        card.set_notify(True)
        display(card)  # type: ignore[no-untyped-call]
        # With a module the browser announces it, also while the kernel is busy.
        return _do_nothing if takes_modules() else _say

    def dashboard(self, core: AnyCore) -> Any:
        return _dashboard(core, "client")

    def download_link(self, core: AnyCore, link: DownloadLink) -> Any:
        return _widget(lambda: _download_link(core, link))

    def upload_box(self, core: AnyCore, prefix: str, overwrite: bool) -> Any:
        from holdfast.notebook._page._upload_box import UploadBox

        return UploadBox(core, prefix, overwrite=overwrite)


def _widget(make: Callable[[], Any]) -> Any:
    """Return the display of a new widget; None outside a kernel and without the extra `notebook`."""
    if not in_kernel():
        return None
    try:
        view = make()
    except ImportError:
        return None
    return view._repr_mimebundle_()


def _static(shown: Appearance) -> dict[str, str]:
    return {"text/plain": _appearance.plain(shown), "text/html": _appearance.static_html(shown, datetime.now(UTC))}


def _ring(info: wire.ProcessInfo) -> None:
    """Ring the bell of the terminal, if there is one, and print how the process stands."""
    if sys.stderr.isatty():
        print(f"\a{info.work_type} {info.id}: {info.state}", file=sys.stderr)  # noqa: T201 - a person asked for it


def _say(info: wire.ProcessInfo) -> None:
    """Print how the process stands, where the front end has no notifications for its cards."""
    print(f"{info.work_type} {info.id}: {info.state}")  # noqa: T201 - a person asked for it


def _do_nothing(info: wire.ProcessInfo) -> None:
    """Do nothing."""


def in_kernel() -> bool:
    """Return whether this Python is a Jupyter kernel, which can display widgets."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _process_card(core: AnyCore, info: wire.ProcessInfo) -> Any:
    from holdfast.notebook._process import ProcessCard

    return ProcessCard.of(core, info)


def _download_link(core: AnyCore, link: DownloadLink) -> Any:
    from holdfast.notebook._page._download_link import DownloadLinkView

    return DownloadLinkView(core, link)


def _transfer_card(transfer: Any) -> Any:
    from holdfast.notebook._transfer import TransferCard

    return TransferCard.of(transfer)


def _dashboard(core: AnyCore, part: Part) -> Any:
    from holdfast.notebook._dashboard import Dashboard
    from holdfast.notebook._selection import ALL

    # Not a new one: ipywidgets keeps every widget until it is closed, however often the cell is run again.
    return Dashboard.of(core, {"client": ALL, "processes": ("processes",), "files": ("uploads", "files")}[part])


def listing(core: AnyCore, part: Part) -> str:
    """Return the newest processes and the first files, as far as `part` is about them, as text."""
    driver, lines = SyncDriver(core.connection), [repr(core)]
    try:
        if part != "files":
            processes = driver.run(plans.request(calls.list_processes(limit=_MAX_LISTED), _NO_RETRIES)).items
            lines += [_appearance.plain(_appearance.process_appearance(info)).replace("\n", "  ") for info in processes]
        if part != "processes":
            files = driver.run(plans.request(calls.list_files(limit=_MAX_LISTED), _NO_RETRIES)).items
            lines += [f"file {file.name}: {_appearance.size(file.size)}" for file in files]
    except HoldfastError as error:
        lines.append(f"no answer: {error}")
    finally:
        driver.close()
    return "\n".join(lines)
