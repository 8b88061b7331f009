"""What the tests of work types share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
