"""`holdfast sha256` prints what `sha256sum` would, and waits for what the server has to make first."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from holdfast.cli._context import Exit
from tests.support.cli_shell import COMMAND, Shell
from tests.support.servers import ServerProcess

pytestmark = pytest.mark.slow
DATA = os.urandom(200_000)


@pytest.fixture
def folder(served: ServerProcess) -> str:
    """A folder of names that no other test has; the server knows no digest of what is in it."""
    path = served.files_dir / uuid.uuid4().hex
    (path / "in").mkdir(parents=True)
    (path / "a").write_bytes(DATA)
    (path / "in" / "b c").write_bytes(b"b")
    return path.name


def line(data: bytes, name: str) -> str:
    return f"{hashlib.sha256(data).hexdigest()}  {name}\n"


def test_it_prints_lines_that_sha256sum_reads(shell: Shell, served: ServerProcess, folder: str) -> None:
    assert shell("sha256", f"{folder}/a") == line(DATA, f"{folder}/a")
    for arguments in (["-r", folder], [f"{folder}/"]):
        assert shell("sha256", *arguments) == line(DATA, f"{folder}/a") + line(b"b", f"{folder}/in/b c")
    if shutil.which("sha256sum"):
        checked = subprocess.run(
            ["sha256sum", "--check", "--strict"],
            input=shell("sha256", "-r", folder),
            cwd=served.files_dir,
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, checked.stderr


def test_a_program_gets_what_the_api_says(shell: Shell, folder: str) -> None:
    file = shell.json("sha256", f"{folder}/a")
    assert (file["name"], file["size"], file["sha256"]) == (f"{folder}/a", len(DATA), hashlib.sha256(DATA).hexdigest())


def test_the_others_come_though_one_is_missing(shell: Shell, folder: str) -> None:
    shell("sha256", "missing", f"{folder}/a", code=Exit.NOT_FOUND)
    assert shell.out == line(DATA, f"{folder}/a")
    assert "there is no file 'missing'" in shell.err
    shell("sha256", "-r", "missing", code=Exit.NOT_FOUND)
    shell("sha256", code=Exit.USAGE)


def test_a_server_that_makes_none_is_an_error_that_says_so(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, ["--no-digest-uploads"])
    server.start()
    try:
        (server.files_dir / "a").write_bytes(DATA)
        done = subprocess.run(
            [*COMMAND, "--url", server.url, "--json", "sha256", "a"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (Exit.FAILED, "")
        assert "--no-digest-uploads" in json.loads(done.stderr)["message"]
    finally:
        server.end()
