"""Commands about the server: `serve` starts one, `version` and `work-types` ask it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import holdfast
from tests.support.cli_shell import COMMAND, Shell, Started

pytestmark = pytest.mark.slow


def test_what_the_server_can_run_and_versions(shell: Shell) -> None:
    assert "import-csv" in shell("work-types")
    assert "manifest" in {work["name"] for work in shell.lines("work-types")}
    assert shell.json("version")["server"] == "ready"
    assert "holdfast" in shell("--version")


def test_serve_starts_a_server_and_passes_signals_and_flags(tmp_path: Path, started: Started) -> None:
    flags = ["--port", "0", "--files-dir", str(tmp_path / "files"), "--data-dir", str(tmp_path / "data")]
    child = started("serve", *flags, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    line = child.stdout.readline().decode()
    assert line.startswith("Holdfast serving on ")
    with holdfast.Client(line.split()[-1]) as client:
        assert client.live()
    child.terminate()
    assert child.wait(30) == 0
    wrong = subprocess.run([*COMMAND, "serve", "--port", "nonsense"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "--port" in wrong.stderr
