"""Where the pages of the Jupyter server are that this kernel belongs to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit


def page_origins() -> list[str]:
    """Origins of the pages that may show this kernel's views; none outside a kernel, or where that can't be told.

    A Jupyter server is the parent of its kernels, and leaves `jpserver-PID.json` with its URL in the runtime folder.
    """
    parent = os.environ.get("JPY_PARENT_PID", "")
    if not parent.isdigit():
        return []
    try:
        from jupyter_core.paths import jupyter_runtime_dir

        said = json.loads((Path(jupyter_runtime_dir()) / f"jpserver-{parent}.json").read_text("utf-8"))
        url = urlsplit(said["url"])
        port = f":{url.port}" if url.port else ""
    except (ImportError, OSError, ValueError, KeyError):
        return []
    hosts = {url.hostname or "localhost", "localhost", "127.0.0.1"}
    return [f"{url.scheme}://{host}{port}" for host in sorted(hosts)]
