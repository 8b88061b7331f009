"""Installation of extras. No package index has Holdfast, so an extra is installed from the origin of this copy."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def install_hint(extra: str) -> str:
    """Return the command that installs an extra. The origin is recorded by the installer (PEP 610)."""
    try:
        text = metadata.distribution("holdfast").read_text("direct_url.json")
        origin: dict[str, Any] = json.loads(text or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        origin = {}
    url = str(origin.get("url", ""))
    if "vcs_info" in origin:
        revision = origin["vcs_info"].get("requested_revision")
        return (
            f"pip install 'holdfast[{extra}] @ {origin['vcs_info']['vcs']}+{url}{f'@{revision}' if revision else ''}'"
        )
    if "dir_info" in origin and Path(folder := unquote(urlsplit(url).path), "setup.py").is_file():
        return f"pip install {'-e ' if origin['dir_info'].get('editable') else ''}'{folder}[{extra}]'"
    return f"pip install '.[{extra}]' in a clone of Holdfast"
