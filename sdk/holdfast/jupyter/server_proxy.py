"""Entry point for jupyter-server-proxy, for a Jupyter in which the extension is switched off.

It holds whole bodies in memory: what is larger than some 100 MB fails. Both roads lead to the same server.

    python -m holdfast.jupyter.server_proxy /a/socket       # as jupyter-server-proxy calls it
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from holdfast._environment import shared_server

_POLL_S = 2.0


def setup() -> dict[str, Any]:
    """Return the server as jupyter-server-proxy describes one. Its tile is shown where there is no better one."""
    from holdfast.jupyter.handlers import ProxyHandler

    return {
        "command": [sys.executable, "-P", "-m", "holdfast.jupyter.server_proxy", "{unix_socket}"],
        "unix_socket": True,
        "timeout": 60,
        "launcher_entry": {
            "title": "Holdfast (small files)",
            "path_info": "holdfast",
            "enabled": not ProxyHandler.is_served,
        },
    }


def serve(place: Path) -> None:
    """Lend the socket of the shared server a second name until the server ends."""
    url = shared_server.ensure(None, os.getcwd(), flags=["--allow-code"])
    target = Path(url.removeprefix("unix:"))
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    try:
        while shared_server.answers(target):
            time.sleep(_POLL_S)
    finally:
        with contextlib.suppress(OSError):
            place.unlink()


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]))
    except shared_server.SharedServerError as error:
        sys.exit(f"holdfast: {error}")
