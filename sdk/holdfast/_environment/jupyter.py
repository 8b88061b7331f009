"""Jupyter around this Python: the origins of its pages, and the names of its cells."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def parent_server() -> dict[str, Any]:
    """Return the description of the Jupyter server that started this kernel; {} outside a kernel, and if it is gone.

    A Jupyter server is the parent of its kernels, and writes its URL and token to `jpserver-PID.json` in the runtime
    folder (`ServerApp.server_info`).
    """
    parent = os.environ.get("JPY_PARENT_PID", "")
    if not parent.isdigit():
        return {}
    try:
        from jupyter_core.paths import jupyter_runtime_dir

        with (Path(jupyter_runtime_dir()) / f"jpserver-{parent}.json").open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return {}  # another user could have written it
            found = json.load(file)
    except (ImportError, OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def page_origins() -> list[str]:
    """Return the origins of the pages that can show views of this kernel; none outside a kernel."""
    try:
        url = urlsplit(parent_server()["url"])
        # Browsers leave the default port out; a Unix socket has no page.
        default = {"http": 80, "https": 443}[url.scheme]
        port = f":{url.port}" if url.port not in (None, default) else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    own = url.hostname or "localhost"
    hosts = {f"[{own}]" if ":" in own else own, "localhost", "127.0.0.1"}
    return [f"{url.scheme}://{host}{port}" for host in sorted(hosts)]


def own_lines(error: BaseException) -> list[str]:
    """Return the lines of a traceback that are neither in this package nor in installed ones, innermost last."""
    installed = (sysconfig.get_path(each) for each in ("stdlib", "purelib", "platlib"))
    libraries = (str(Path(__file__).parents[1]), *installed)
    frames = traceback.extract_tb(error.__traceback__)
    return [
        f"{place_of(frame.filename)}, line {frame.lineno}: {frame.line}"
        for frame in frames
        if not frame.filename.startswith(libraries)
    ]


def place_of(filename: str) -> str:
    """Return the name of a file, or of a notebook cell by its number."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    if (shell := get()) is not None and (cell := shell.compile.format_code_name(filename)) is not None:
        return " ".join(cell)
    return f"File {filename}"
