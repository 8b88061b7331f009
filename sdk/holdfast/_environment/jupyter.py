"""Jupyter around this Python: the origins of its pages, and the names of its cells."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from urllib.parse import urlsplit


def page_origins() -> list[str]:
    """Return the origins of the pages that can show views of this kernel; none outside a kernel.

    A Jupyter server is the parent of its kernels, and writes its URL to `jpserver-PID.json` in the runtime folder.
    """
    parent = os.environ.get("JPY_PARENT_PID", "")
    if not parent.isdigit():
        return []
    try:
        from jupyter_core.paths import jupyter_runtime_dir

        server = json.loads((Path(jupyter_runtime_dir()) / f"jpserver-{parent}.json").read_text("utf-8"))
        url = urlsplit(server["url"])
        default = {"http": 80, "https": 443}[
            url.scheme
        ]  # browsers leave the default port out; a Unix socket has no page
        port = f":{url.port}" if url.port not in (None, default) else ""
    except (ImportError, OSError, ValueError, KeyError):
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
        f"{_place(frame.filename)}, line {frame.lineno}: {frame.line}"
        for frame in frames
        if not frame.filename.startswith(libraries)
    ]


def _place(filename: str) -> str:
    """Return the name of a file, or of a notebook cell by its number."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    if (shell := get()) is not None and (cell := shell.compile.format_code_name(filename)) is not None:
        return " ".join(cell)
    return f"File {filename}"
