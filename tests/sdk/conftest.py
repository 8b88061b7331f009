"""One server for the tests of a module, and clients of it; resume records go to the test's own folder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

import holdfast
from tests.proxy import Fault, FaultyProxy
from tests.servers import ServerProcess


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server in a process of its own, for tests that leave it as they found it."""
    server = ServerProcess(
        tmp_path_factory.mktemp("served"),
        ["--import", "tests.sdk.work", "--allow-code", "--max-running", "64"],
        {"PYTHONPATH": os.getcwd()},
    )
    server.start()
    yield server
    server.end()


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's resume records are."""
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("HOLDFAST_URL", raising=False)
    monkeypatch.delenv("HOLDFAST_TOKEN", raising=False)
    return tmp_path / "state"


@pytest.fixture
def client(served: ServerProcess) -> Iterator[holdfast.Client]:
    """A client of the server that all share."""
    with holdfast.Client(served.url) as client:
        yield client


@pytest.fixture
async def aclient(served: ServerProcess) -> AsyncIterator[holdfast.AsyncClient]:
    """An async client of the server that all share."""
    async with holdfast.AsyncClient(served.url) as client:
        yield client


@pytest.fixture
def faulty(served: ServerProcess) -> Iterator[Callable[..., FaultyProxy]]:
    """Starts faulty proxies before the shared server: `faulty(Fault(cut_down=1000))`."""
    proxies: list[FaultyProxy] = []

    def start(*faults: Fault, upstream: int | None = None) -> FaultyProxy:
        proxy = FaultyProxy(upstream or int(served.url.rpartition(":")[2]), *faults)
        proxies.append(proxy)
        return proxy.start()

    yield start
    for proxy in proxies:
        proxy.stop()
