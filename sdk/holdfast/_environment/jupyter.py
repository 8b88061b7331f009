"""What is to be known of the Jupyter around this Python: where its pages are, and what it calls its cells."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import traceback
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
        default = {"http": 80, "https": 443}[url.scheme]  # what browsers leave out; a Unix socket has no page
        port = f":{url.port}" if url.port not in (None, default) else ""
    except (ImportError, OSError, ValueError, KeyError):
        return []
    own = url.hostname or "localhost"
    hosts = {f"[{own}]" if ":" in own else own, "localhost", "127.0.0.1"}
    return [f"{url.scheme}://{host}{port}" for host in sorted(hosts)]


def own_lines(error: BaseException) -> list[str]:
    """Where an error came by in code that is neither this package nor installed, the innermost last."""
    installed = (sysconfig.get_path(each) for each in ("stdlib", "purelib", "platlib"))
    libraries = (str(Path(__file__).parents[1]), *installed)
    frames = traceback.extract_tb(error.__traceback__)
    return [
        f"{_place(frame.filename)}, line {frame.lineno}: {frame.line}"
        for frame in frames
        if not frame.filename.startswith(libraries)
    ]


def _place(filename: str) -> str:
    """A file, or a cell by the number that stands beside it."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    if (shell := get()) is not None and (cell := shell.compile.format_code_name(filename)) is not None:
        return " ".join(cell)
    return f"File {filename}"
