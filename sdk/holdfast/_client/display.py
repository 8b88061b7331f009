"""Interface by which clients, processes and transfers are displayed in notebooks.

The objects look the implementation up when they are displayed. `holdfast/__init__.py` registers the one of
`holdfast.notebook`, which is imported on first use: nothing below it imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from holdfast import wire
    from holdfast._client.core import AnyCore

Part = Literal["client", "processes", "files"]


class Display(Protocol):
    """Displays objects of the SDK: as live widgets in a kernel, else as HTML and text.

    `server`, `process` and `transfer` return what IPython expects of `_repr_mimebundle_`.
    """

    def server(self, core: AnyCore, part: Part) -> Any:
        """Return the display of a client, of its processes, or of its files."""
        ...

    def process(self, core: AnyCore, info: wire.ProcessInfo) -> Any:
        """Return the display of a process."""
        ...

    def transfer(self, transfer: Any) -> Any:
        """Return the display of a `Transfer` or an `AsyncTransfer`."""
        ...

    async def watch(self, core: AnyCore, info: wire.ProcessInfo) -> wire.ProcessInfo:
        """Display a process until it has ended; return how it ended."""
        ...

    def notify(self, core: AnyCore, info: wire.ProcessInfo) -> Callable[[wire.ProcessInfo], None]:
        """Have the end of a process announced. Return a function to call with the process when it was waited for."""
        ...

    def dashboard(self, core: AnyCore) -> Any:
        """Return the `Dashboard` of a server, the same one while it is open. Needs the extra `notebook`."""
        ...

    def download_link(self, core: AnyCore, link: Any) -> Any:
        """Return the display of a `DownloadLink` to a file of this server; None where there are no widgets."""
        ...

    def upload_box(self, core: AnyCore, prefix: str, overwrite: bool) -> Any:
        """Return a new `UploadBox`. Needs the extra `notebook`."""
        ...


_load: Callable[[], Display] | None = None


def register(load: Callable[[], Display]) -> None:
    """Set the function that returns the implementation. It is called whenever something is displayed."""
    global _load
    _load = load


def current() -> Display:
    """Return the registered implementation."""
    if _load is None:
        raise RuntimeError("no display is registered; importing `holdfast` registers one")
    return _load()
