"""Live views of server state for notebooks; they need the extra `notebook`.

A view shows what the server says and its buttons only send requests; it can be made again from an id at any time. What
is the last line of a cell shows itself: a process, a transfer, `client`, `client.processes`, `client.files`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast._client.download_link import DownloadLink
    from holdfast.notebook._dashboard import Dashboard
    from holdfast.notebook._page._upload_box import UploadBox
    from holdfast.notebook._process import ProcessCard
    from holdfast.notebook._transfer import TransferCard

__all__ = ["Dashboard", "DownloadLink", "ProcessCard", "TransferCard", "UploadBox"]

_HOME = {
    "Dashboard": "notebook._dashboard",
    "DownloadLink": "_client.download_link",
    "ProcessCard": "notebook._process",
    "TransferCard": "notebook._transfer",
    "UploadBox": "notebook._page._upload_box",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'holdfast.widgets' has no attribute {name!r}")
    return getattr(importlib.import_module(f"holdfast.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
