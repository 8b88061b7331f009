"""SIGKILL of the server in the middle of work: at the next start it goes on, and no row is lost or doubled."""

from __future__ import annotations

import csv
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import ServerProcess, wait_until

Spawn = Callable[..., ServerProcess]

ROWS = 300_000
KILLS = 10


def write_csv(path: Path) -> list[tuple[str, str, str]]:
    """A CSV whose records are of different lengths, some of several lines; its rows."""
    rows = [(str(n), "née\n" * (n % 3) + f'"{n}"', f"{n * 7919 % 10007}") for n in range(ROWS)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["n", "text", "hash"])
        writer.writerows(rows)
    return rows


def table(server: ServerProcess) -> list[tuple[str, str, str]]:
    """Return the rows that the import has written."""
    with closing(sqlite3.connect(f"file:{server.data_dir}/default.sqlite?mode=ro", uri=True)) as database:
        return database.execute("SELECT n, text, hash FROM t ORDER BY rowid").fetchall()


def state(server: ServerProcess) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/the-import/process/")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_ten_kills_at_random_moments_of_an_import_leave_exactly_the_rows_of_the_file(spawn_server: Spawn) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    # Kills so soon after each other leave no time for progress, and would park the process as failed: no limit here.
    server = spawn_server("--max-crashes", "0")
    rows = write_csv(server.files_dir / "rows.csv")
    started = httpx.get(
        f"{server.url}/the-import/process/?work_type=import-csv&file_name=rows.csv&table=t&batch_rows=50"
    )
    assert started.status_code == 200, started.text
    reached = 0
    for kill in range(KILLS):
        # nobody asks for it to go on: the server does that by itself
        wait_until(lambda attempt=kill: state(server)["attempt"] > attempt, what="a new attempt after the kill")
        time.sleep(moments.uniform(0, 0.3))
        before = state(server)
        assert before["state"] in ("queued", "running"), f"over before kill {kill}: {before}"
        assert (before["progress"]["done"] or 0) >= reached, "progress that had been made was lost"
        server.kill()
        server.restart()
    last = wait_until(lambda: (now := state(server))["ended"] and now)
    assert last["state"] == "succeeded", last
    assert last["attempt"] > KILLS
    assert last["result"]["rows"] == ROWS
    assert table(server) == rows


@pytest.mark.slow
def test_a_paused_process_stays_paused_over_a_kill_and_goes_on_when_asked(spawn_server: Spawn) -> None:
    server = spawn_server()
    rows = write_csv(server.files_dir / "rows.csv")
    process = f"{server.url}/the-import/process/"
    httpx.get(process + "?work_type=import-csv&file_name=rows.csv&table=t&batch_rows=500")
    wait_until(lambda: (state(server)["progress"]["done"] or 0) > 0)
    httpx.post(process + "pause/")
    wait_until(lambda: state(server)["state"] == "paused")
    written = len(table(server))
    server.kill()
    server.restart()
    assert state(server)["state"] == "paused"
    assert len(table(server)) == written < ROWS
    httpx.post(process + "resume/")
    wait_until(lambda: state(server)["ended"])
    assert table(server) == rows


@pytest.mark.slow
def test_a_cancel_is_carried_through_although_the_server_is_killed_meanwhile(spawn_server: Spawn) -> None:
    server = spawn_server()
    write_csv(server.files_dir / "rows.csv")
    process = f"{server.url}/the-import/process/"
    httpx.get(process + "?work_type=import-csv&file_name=rows.csv&table=t&batch_rows=500")
    wait_until(lambda: (state(server)["progress"]["done"] or 0) > 500_000)
    httpx.post(process + "cancel/")
    server.kill()
    server.restart()
    last = wait_until(lambda: (now := state(server))["ended"] and now)
    assert last["state"] == "cancelled"
    with pytest.raises(sqlite3.OperationalError, match="no such table: t"):  # it goes with the import that made it
        table(server)
