"""A real server keeps what `/openapi.json` promises, whatever schemathesis sends to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.servers import ServerProcess

FOLDER = Path(__file__).with_name("contract")
SEED = os.environ.get("HOLDFAST_TEST_SEED", "1")
"""The same inputs every time, unless asked for others: a number, or `random`."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_no_failure(spawn_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = spawn_server()
    for name in ("one.txt", "data/two.bin"):
        httpx.put(f"{server.url}/v1/files/{name}", content=b"some bytes").raise_for_status()
    for id in ("alpha", "beta"):
        httpx.get(f"{server.url}/{id}/process/").raise_for_status()
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(FOLDER / "schemathesis.toml"), "run"]
    command += [f"{server.url}/openapi.json", "--url", server.url, "--max-examples", "15", "--no-color"]
    command += [] if SEED == "random" else ["--seed", SEED]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(FOLDER)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    print(run.stdout)  # the seed is in its last lines
    assert run.returncode == 0, run.stdout + run.stderr
    assert "No issues found" in run.stdout
    assert "Traceback" not in server.log
