"""Fixtures for work types."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import ServerProcess
from tests.support.work_runs import Run, Running


@pytest.fixture
def run(spawn_server: Callable[..., ServerProcess]) -> Iterator[Run]:
    """Starts a server with these flags and files, and a process on it."""
    started: list[Running] = []

    def start(
        *flags: str, work_type: str, place: str = "thread", files: Mapping[str, bytes] | None = None, **params: Any
    ) -> Running:
        server = spawn_server(*flags)
        for name, data in (files or {}).items():
            (server.files_dir / name).write_bytes(data)
        started.append(Running(server, work_type, place, params))
        return started[-1]

    yield start
    for running in started:
        running.client.close()


COUNTER = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"told to end\\n"), os._exit(3)))
helper = subprocess.Popen(["sleep", "1000"]) if "helper" in sys.argv else None
print("pids", os.getpid(), helper.pid if helper else 0, flush=True)
n = 0
while n < 40 if sys.argv[1] == "forty" else not os.path.exists(sys.argv[1]):
    print(n, flush=True)
    n += 1
    time.sleep(0.01)
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    """A program that counts, as a command line."""
    path = tmp_path / "counter.py"
    path.write_text(COUNTER)
    return f"{sys.executable} {path}"
