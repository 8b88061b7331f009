"""Holdfast inside Jupyter Server: `{base_url}holdfast/` streams to the user's own server, which is started on demand.

For people whose browser reaches Jupyter and nothing else: on a hub, or anywhere remote. `pip install
'holdfast[jupyter]'` enables it. The server is a process of its own, so that it outlives Jupyter, and neither keeps the
other waiting. Only this package of the SDK imports Tornado and Jupyter Server. Begin reading in `handlers.py`.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from holdfast.jupyter.extension import HoldfastExtension

    return [{"module": "holdfast.jupyter", "app": HoldfastExtension}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "holdfast"}]
