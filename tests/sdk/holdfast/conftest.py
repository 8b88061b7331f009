"""One server for the tests of a module, and clients of it; resume records go to the test's own folder."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from tests.support.cli_shell import COMMAND, Shell, Started
from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import ServerProcess


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server in a process of its own, for tests that leave it as they found it."""
    server = ServerProcess(
        tmp_path_factory.mktemp("served"),
        ["--import", "tests.support.sdk_work", "--allow-code", "--max-running", "64"],
        {"PYTHONPATH": os.getcwd()},
    )
    server.start()
    yield server
    server.end()


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of this test's resume records."""
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


@pytest.fixture
def started(served: ServerProcess) -> Iterator[Started]:
    """Starts the command in a process of its own, with its standard output and error piped."""
    children: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        environment = os.environ | {"COLUMNS": "200"}
        children.append(subprocess.Popen([*COMMAND, "--url", served.url, *arguments], env=environment, **options))
        return children[-1]

    yield start
    for child in children:
        child.send_signal(signal.SIGINT)
        try:
            child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: ours, and the command's."""
    main, side = pty.openpty()
    yield main, side
    os.close(main)
    os.close(side)


@pytest.fixture
def shell(served: ServerProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(served.url, capsys)
