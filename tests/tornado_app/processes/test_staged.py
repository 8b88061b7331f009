"""Files that work has staged go with its process, however soon after its end the server is killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import ServerProcess, wait_until

pytestmark = pytest.mark.slow

FLAGS = ("--import", "tests.support.work", "--journal-interval", "0.01")


def staged(server: ServerProcess) -> list[Path]:
    """Folders of what work has in the making."""
    return list(server.files_dir.rglob("work-*"))


def start(server: ServerProcess, id: str, end: str) -> None:
    request = {"id": id, "work_type": "stages", "params": {"end": end}}
    httpx.post(f"{server.url}/v1/processes", json=request).raise_for_status()


def get(server: ServerProcess, id: str) -> dict[str, Any]:
    return dict(httpx.get(f"{server.url}/v1/processes/{id}").json())


def cancel(server: ServerProcess, id: str) -> None:
    httpx.post(f"{server.url}/v1/processes/{id}/cancel").raise_for_status()


def delete(server: ServerProcess, id: str) -> None:
    httpx.delete(f"{server.url}/v1/processes/{id}").raise_for_status()


def nothing(server: ServerProcess, id: str) -> None:
    """It ends by itself."""


@pytest.mark.parametrize(
    ("end", "ask", "state"),
    [("runs", cancel, "running"), ("returns", nothing, ""), ("fails", delete, "failed")],
    ids=["cancelled", "succeeded", "deleted"],
)
def test_it_is_swept_at_the_start_when_the_server_was_killed_before_it_could_go(
    spawn_server: Callable[..., ServerProcess], end: str, ask: Callable[[ServerProcess, str], None], state: str
) -> None:
    server = spawn_server(*FLAGS, HOLDFAST_FAULT="staged.before-drop")
    start(server, "p", end)
    if state:
        wait_until(lambda: get(server, "p")["state"] == state and staged(server))
    ask(server, "p")
    server.wait_for_death()
    assert staged(server), "the server was killed before it could remove it"
    server.environment = {}
    server.restart()
    wait_until(lambda: not staged(server))


def test_what_may_yet_be_gone_on_with_stays_and_so_does_what_another_journal_knows(
    spawn_server: Callable[..., ServerProcess],
) -> None:
    server = spawn_server(*FLAGS)
    start(server, "failed", "fails")
    start(server, "paused", "runs")
    for id, state in (("failed", "failed"), ("paused", "running")):
        wait_until(lambda id=id, state=state: get(server, id)["state"] == state)
    httpx.post(f"{server.url}/v1/processes/paused/pause").raise_for_status()
    wait_until(lambda: get(server, "paused")["state"] == "paused")
    kept = staged(server)
    server.kill()
    server.restart()
    start(server, "swept", "returns")
    wait_until(lambda: get(server, "swept")["state"] == "succeeded")
    wait_until(lambda: set(staged(server)) == set(kept))
    server.stop()
    server.data_dir.rename(server.data_dir.with_name("elsewhere"))
    server.restart()
    start(server, "swept", "returns")
    wait_until(lambda: get(server, "swept")["state"] == "succeeded")
    wait_until(lambda: set(staged(server)) == set(kept))
