"""Folders of many small files, and a transport that counts what is asked for them."""

from __future__ import annotations

from pathlib import Path

import httpx


class Counting(httpx.BaseTransport):
    """Counts requests by method and kind of resource; without `archives` it answers as an earlier server would."""

    def __init__(self, *, archives: bool = True) -> None:
        self.requests: list[tuple[str, str]] = []
        self._archives = archives
        self._real = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        kind = request.url.path.split("/")[2]
        self.requests.append((request.method, kind))
        if kind == "archives" and not self._archives:
            return httpx.Response(404, json={"type": "/problems/not-found", "title": "Not found", "status": 404})
        return self._real.handle_request(request)

    def close(self) -> None:
        self._real.close()


def filled(root: Path, count: int) -> Path:
    """Make a folder of small files in folders, with names of every kind, and one that is large."""
    for number in range(count):
        path = root / f"in{number % 3}" / f"f{number:04}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * (number % 50))
    (root / "ünï").write_text("x")
    (root / ("n" * 120)).write_text("y")
    (root / "large").write_bytes(bytes(600_000))
    return root


def contents(root: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


CLIENT = """
import sys, holdfast
way, url, folder, prefix = sys.argv[1:]
files = holdfast.Client(url).files
if way == "up":
    files.upload_folder(folder, prefix, limit=400_000).wait()
else:
    files.download_folder(prefix, folder, limit=400_000).wait()
"""
"""Program of a client that transfers a folder slowly."""
