"""Holdfast: long processes and big transfers that can be paused, resumed and cancelled.

    import holdfast

    client = holdfast.connect()
    process = client.processes.start("import-csv", file_name="flights.csv", table="flights")
    process.pause(); process.resume()
    print(process.result())

In a notebook `%load_ext holdfast` brings `%holdfast` and `%%process`; `%holdfast?` tells of them.
Names are imported when they are first used, so that `import holdfast` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from holdfast._client import display as _display

if TYPE_CHECKING:
    from holdfast import errors
    from holdfast._async.client import AsyncClient, AsyncProcess
    from holdfast._connect.connecting import connect
    from holdfast._sync.client import Client, Process
    from holdfast._transfers.handles import AsyncTransfer, Transfer, TransferState
    from holdfast.errors import HoldfastError
    from holdfast.local import LocalServer, local_server
    from holdfast.plans import Retries
    from holdfast.wire import State

__all__ = [
    "AsyncClient",
    "AsyncProcess",
    "AsyncTransfer",
    "Client",
    "HoldfastError",
    "LocalServer",
    "Process",
    "Retries",
    "State",
    "Transfer",
    "TransferState",
    "connect",
    "errors",
    "local_server",
]

__version__ = "0.2.0.dev0"

_HOME = {
    "AsyncClient": "_async.client",
    "AsyncProcess": "_async.client",
    "AsyncTransfer": "_transfers.handles",
    "Client": "_sync.client",
    "HoldfastError": "errors",
    "LocalServer": "local",
    "Process": "_sync.client",
    "Retries": "plans",
    "State": "wire",
    "Transfer": "_transfers.handles",
    "TransferState": "_transfers.handles",
    "connect": "_connect.connecting",
    "local_server": "local",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("holdfast.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"holdfast.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def _notebook_display() -> _display.Display:
    from holdfast.notebook._display import NotebookDisplay

    return NotebookDisplay()


_display.register(_notebook_display)


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext holdfast`: the magics `%holdfast` and `%%process`."""
    from holdfast.notebook import _magics

    _magics.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext holdfast`."""
    from holdfast.notebook import _magics

    _magics.unload(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
