"""Work that takes its server with it: parked after three times, and nobody else with it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import ServerProcess, wait_until

pytestmark = pytest.mark.slow

Spawn = Callable[..., ServerProcess]

FLAGS = ("--import", "tests.support.work", "--journal-interval", "0.01", "--shutdown-grace", "0.1")
DEADLINE = 120.0


class Unlucky:
    """A server that is started again whenever it dies."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.deaths = 0

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        while True:
            try:
                return httpx.request(method, self.server.url + path, timeout=20, **options)
            except httpx.TransportError:
                self.server.wait_for_death()
                self._restart()

    def _restart(self) -> None:
        while True:
            self.deaths += 1
            try:
                self.server.restart()
            except AssertionError as error:
                if "exit -9" not in str(error):
                    raise
            else:
                return

    def start(self, id: str, work_type: str, **params: Any) -> None:
        request = {"id": id, "work_type": work_type, "params": params}
        assert self.ask("POST", "/v1/processes", json=request).status_code in (200, 201)

    def get(self, id: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"/v1/processes/{id}").json())

    def durable(self, id: str, column: str) -> Any:
        """Return a column of the process as the journal has it on disk."""
        with closing(sqlite3.connect(self.server.data_dir / "journal.sqlite")) as journal:
            query = f"SELECT {column} FROM processes WHERE id = ?"
            return journal.execute(query, (id,)).fetchone()[0]

    def ended(self, id: str) -> dict[str, Any]:
        return self.until(id, lambda process: process["ended"] is not None)

    def until(self, id: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE
        while not true(process := self.get(id)):
            assert time.monotonic() < deadline, process
            time.sleep(0.02)
        return process

    def verb(self, id: str, verb: str) -> None:
        """Ask once: the server may die of it before it answers."""
        with contextlib.suppress(httpx.TransportError):
            httpx.post(f"{self.server.url}/v1/processes/{id}/{verb}", timeout=20)


@pytest.fixture
def unlucky(spawn_server: Spawn) -> Unlucky:
    return Unlucky(spawn_server(*FLAGS))


def test_poison_is_parked_after_three_attempts_and_its_neighbours_go_on(unlucky: Unlucky, tmp_path: Path) -> None:
    cured = tmp_path / "cured"
    for n in range(5):
        unlucky.start(f"neighbour-{n}", "steps", to=60, every=0.05)
    for n in range(5):
        unlucky.until(f"neighbour-{n}", lambda process: (process["progress"]["done"] or 0) > 1)
    unlucky.start("silent", "silent", seconds=3)
    unlucky.start("poison", "poison", cured=str(cured))
    parked = unlucky.ended("poison")
    assert (parked["state"], parked["attempt"], unlucky.deaths) == ("failed", 3, 3)
    assert parked["error"]["type"] == "ServerDied"
    assert "3 attempts in a row ended with the server, without progress" in parked["error"]["message"]
    for id in ("silent", *(f"neighbour-{n}" for n in range(5))):
        neighbour = unlucky.ended(id)
        assert neighbour["state"] == "succeeded", neighbour
        assert neighbour["attempt"] <= 3, "it was not tried beside the poison again and again"
    assert unlucky.deaths == 3
    cured.touch()
    unlucky.verb("poison", "resume")
    assert unlucky.ended("poison")["state"] == "succeeded"
    assert unlucky.get("poison")["error"] is None


def test_poison_that_has_made_progress_first_is_parked_where_it_stands(unlucky: Unlucky) -> None:
    unlucky.start("silent", "silent", seconds=4)
    unlucky.start("poison", "poison", steps=3)
    parked = unlucky.ended("poison")
    assert (parked["state"], parked["attempt"], parked["progress"]["done"]) == ("failed", 3, 3)
    assert unlucky.ended("silent")["state"] == "succeeded"
    unlucky.verb("poison", "resume")
    assert unlucky.until("poison", lambda process: process["attempt"] == 6 and process["ended"])["state"] == "failed"


def test_a_rollback_that_takes_its_server_with_it_is_parked_too(unlucky: Unlucky, tmp_path: Path) -> None:
    cured = tmp_path / "cured"
    unlucky.start("silent", "silent", seconds=3)
    unlucky.start("poison", "poison", steps=1, undo=True, cured=str(cured))
    unlucky.until("poison", lambda process: process["progress"]["done"] == 1)
    unlucky.verb("poison", "cancel")
    parked = unlucky.ended("poison")
    assert (parked["state"], unlucky.deaths) == ("failed", 3)
    assert "3 rollbacks in a row ended with the server" in parked["error"]["message"]
    assert unlucky.ended("silent")["state"] == "succeeded"
    cured.touch()
    unlucky.verb("poison", "cancel")
    assert unlucky.ended("poison")["state"] == "cancelled"


def test_a_rollback_that_a_kill_cuts_off_is_run_once_more_and_only_once(spawn_server: Spawn, tmp_path: Path) -> None:
    trail = tmp_path / "trail"
    unlucky = Unlucky(spawn_server(*FLAGS, HOLDFAST_FAULT="undone.written"))
    unlucky.start("p", "steps", trail=str(trail), every=0.01)
    unlucky.until("p", lambda process: (process["progress"]["done"] or 0) > 1)
    unlucky.verb("p", "cancel")
    unlucky.server.wait_for_death()
    unlucky.server.environment = {}
    unlucky.server.restart()
    assert unlucky.ended("p")["state"] == "cancelled"
    unlucky.start("q", "empty")  # whatever waits for the recovery comes after it
    unlucky.ended("q")
    unlucky.server.stop()
    assert trail.read_text().count("undo") == 2


def test_work_whose_server_is_killed_again_and_again_is_not_parked_while_it_makes_progress(unlucky: Unlucky) -> None:
    unlucky.start("p", "steps", to=10_000, every=0.01)
    for kill in range(5):
        unlucky.until("p", lambda p, before=kill: p["attempt"] == before + 1 and (p["progress"]["done"] or 0) > before)
        before = unlucky.get("p")["progress"]["done"]
        wait_until(lambda before=before: (unlucky.durable("p", "done") or 0) > before)
        unlucky.server.kill()
        unlucky.server.restart()
    assert unlucky.get("p")["state"] in ("queued", "running")


def test_a_server_that_is_stopped_in_the_middle_of_work_blames_nobody(unlucky: Unlucky) -> None:
    unlucky.start("p", "silent", seconds=60)
    for attempt in range(1, 5):
        unlucky.until("p", lambda process, attempt=attempt: process["attempt"] == attempt)
        unlucky.server.stop()
        unlucky.server.restart()
    assert unlucky.get("p")["state"] in ("queued", "running")


@pytest.mark.parametrize(("limit", "attempts"), [("1", 1), ("2", 2)])
def test_the_number_of_attempts_is_a_setting(spawn_server: Spawn, limit: str, attempts: int) -> None:
    unlucky = Unlucky(spawn_server(*FLAGS, "--max-crashes", limit))
    unlucky.start("poison", "poison")
    assert (unlucky.ended("poison")["attempt"], unlucky.deaths) == (attempts, attempts)


def test_without_a_limit_it_is_tried_again_and_again(spawn_server: Spawn) -> None:
    unlucky = Unlucky(spawn_server(*FLAGS, "--max-crashes", "0"))
    unlucky.start("poison", "poison")
    for _ in range(4):
        unlucky.server.wait_for_death()
        with contextlib.suppress(AssertionError):  # it may die before it serves
            unlucky.server.restart()
    with closing(sqlite3.connect(unlucky.server.data_dir / "journal.sqlite")) as journal, journal:
        assert journal.execute("SELECT attempt FROM processes").fetchone()[0] > 3
    journal.close()


def test_a_kill_while_a_suspect_is_being_tried_loses_no_attempt_and_blames_nobody_else(unlucky: Unlucky) -> None:
    unlucky.start("p", "silent", seconds=2)
    unlucky.start("q", "silent", seconds=2)
    for id in ("p", "q"):
        unlucky.until(id, lambda process: process["attempt"] == 1)
    unlucky.server.kill()
    unlucky.server.environment = {"HOLDFAST_FAULT": "alone.written"}
    unlucky.server.restart()
    unlucky.server.wait_for_death()
    unlucky.server.environment = {}
    unlucky.server.restart()
    for id in ("p", "q"):
        ended = unlucky.ended(id)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
