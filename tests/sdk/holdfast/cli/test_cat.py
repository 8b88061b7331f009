"""`cat` and `download --to -`: the bytes of files on standard output, whole over broken connections."""

from __future__ import annotations

import subprocess
import uuid

import pytest

import holdfast
from holdfast.cli._context import Exit
from tests.support.cli_shell import COMMAND, Shell
from tests.support.proxy import Fault
from tests.support.servers import ServerProcess

pytestmark = pytest.mark.slow

DATA = bytes(range(256)) * 12_000


@pytest.fixture
def name() -> str:
    return f"{uuid.uuid4().hex}.bin"


def run(served: ServerProcess, *arguments: str, url: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, "--url", url or served.url, *arguments], capture_output=True, timeout=120)


def test_files_go_to_the_standard_output_whole_over_cuts(
    served: ServerProcess, client: holdfast.Client, name: str, faulty: object, shell: Shell
) -> None:
    client.files.write(name, DATA)
    assert run(served, "cat", name, name).stdout == DATA + DATA
    assert run(served, "download", name, "--to", "-", "--limit", "100M").stdout == DATA
    proxy = faulty(Fault(when=b"GET /v1/files/", cut_down=100_000))  # type: ignore[operator]
    cut = run(served, "cat", name, url=proxy.url)
    assert cut.stdout == DATA
    assert b"retrying in" in cut.stderr
    assert proxy.happened == 1
    shell("cat", "nowhere", code=Exit.NOT_FOUND)
    assert "there is no file 'nowhere'" in shell.err
    for arguments in (
        ["cat", name, "--json"],
        ["download", name, "--to", "-", "--json"],
        ["download", "x/", "--to", "-"],
    ):
        shell(*arguments, code=Exit.USAGE)


def test_a_reader_that_has_enough_is_no_error(served: ServerProcess, client: holdfast.Client, name: str) -> None:
    client.files.write(name, DATA)
    for command in (f"cat {name}", "ls --json", "ls"):
        line = f"set -o pipefail; {' '.join(COMMAND)} --url {served.url} {command} | head -c 10"
        done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b""), command
