"""A process of a real server, asked over HTTP; and what the kernel tells of the programs that it starts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.servers import PATIENCE, ServerProcess, wait_until


class Running:
    """The process `p` of `server`."""

    def __init__(self, server: ServerProcess, work_type: str, place: str, params: dict[str, Any]) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=30)
        body = {"id": "p", "work_type": work_type, "place": place, "params": params}
        answer = self.client.post("/v1/processes", json=body)
        assert answer.status_code == 201, answer.text

    def ask(self, verb: str) -> httpx.Response:
        return self.client.post(f"/v1/processes/p/{verb}")

    def get(self) -> dict[str, Any]:
        return dict(self.client.get("/v1/processes/p").json())

    def until(self, state: str, within: float = PATIENCE) -> dict[str, Any]:
        return wait_until(lambda: found if (found := self.get())["state"] == state else None, within, state) or {}

    def log(self) -> list[str]:
        lines: list[dict[str, Any]] = []
        while True:
            after = lines[-1]["seq"] if lines else 0
            page = self.client.get("/v1/processes/p/log", params={"after": after, "limit": 5000}).json()["items"]
            if not page:
                return [line["message"] for line in lines]
            lines += page


Run = Callable[..., Running]
"""`run("--flag", "value", work_type="name", files={"name": b"data"}, **params)` on a server of its own."""


def state(pid: int) -> str:
    """As the kernel tells it: R, S, D, T (stopped), Z; "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def stands(pid: int) -> bool:
    """Return whether it is stopped, or will be before it runs a step, as a parent that waits for its vfork's child.

    A shell is often met there, as it uses vfork for what it starts.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    said = dict(line.split(":", 1) for line in lines)
    pending = int(said["ShdPnd"], 16) | int(said["SigPnd"], 16)
    kept = said["State"].split()[0]
    return kept == "T" or (kept == "D" and bool(pending & 1 << (signal.SIGSTOP - 1)))


def gone(pid: int) -> bool:
    """Return whether it has ended, even if nobody has waited for it yet."""
    return state(pid) in ("", "Z")
