"""Other people's clients, as they are, against a real server over a connection that breaks.

A client that is not installed fails its test: `tests/tools.sh` installs them all.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.proxy import Fault, FaultyProxy
from tests.support.servers import PATIENCE, ServerProcess

MIB = 1 << 20
CONTENT = random.Random(6).randbytes(12 * MIB + 345)


def program(*names: str) -> str:
    """The path of the first of these programs that is there; without any of them the test fails."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.fail(f"{' or '.join(names)} is missing: tests/tools.sh installs it", pytrace=False)


def run(*command: str | Path, cwd: Path, within: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Run a client to its end, whatever that is."""
    return subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=within)


@pytest.fixture
def server(spawn_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server that has `big.bin` and `table.csv`."""
    server = spawn_server("--log-level", "debug")
    (server.files_dir / "big.bin").write_bytes(CONTENT)
    (server.files_dir / "table.csv").write_text("n,square\n" + "".join(f"{n},{n * n}\n" for n in range(200_000)))
    return server


@pytest.fixture
def below(spawn_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server below a base URL."""
    return spawn_server("--base-url", "/hub/user/jo/holdfast/")


@pytest.fixture
def broken(server: ServerProcess) -> Iterator[Callable[..., FaultyProxy]]:
    """Puts a proxy with these faults before the server."""
    with contextlib.ExitStack() as stack:

        def through(*faults: Fault) -> FaultyProxy:
            return stack.enter_context(FaultyProxy(int(server.url.rpartition(":")[2]), *faults))

        yield through


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "source.bin"
    path.write_bytes(CONTENT)
    return path
