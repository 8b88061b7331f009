"""A user's code is typed: two checkers in their strict modes find nothing in a sample, and find what is wrong.

They find the types by themselves, in the environment that `make` has made and wherever they are started.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "tests/sdk/holdfast/typed_sample.py"
WRONG = """
import holdfast
with holdfast.Client() as client:
    process = client.processes.start("x")
    process.pausee()
    client.files.upload(5, "x")
    number: int = client.files.download("x").wait()
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def mypy(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-incremental"]
    command += ["--follow-imports=silent", str(path)]  # as where the SDK is installed: only the user's code is judged
    environment = {"PATH": str(Path(sys.executable).parent)}
    return subprocess.run(command, cwd="/", capture_output=True, text=True, env=environment)


def pyright(path: Path, tmp_path: Path) -> list[str]:
    config = {
        "include": [str(path)],
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": False,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    command = [str(Path(sys.executable).with_name("basedpyright")), "--outputjson", "-p", str(tmp_path)]
    command += ["--pythonpath", sys.executable]
    run = subprocess.run(command, capture_output=True, text=True)
    found = json.loads(run.stdout)["generalDiagnostics"]
    return [f"{d['range']['start']['line']}: {d['message']}" for d in found if d["severity"] == "error"]


def test_mypy_strict_finds_nothing_in_a_users_code() -> None:
    run = mypy(SAMPLE)
    assert run.returncode == 0, run.stdout


def test_pyright_strict_finds_nothing_in_a_users_code(tmp_path: Path) -> None:
    assert pyright(SAMPLE, tmp_path) == []


def test_both_find_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    assert mypy(path).stdout.count("error:") == 3
    lines = {int(found.partition(":")[0]) for found in pyright(path, tmp_path)}
    assert {4, 5, 6} <= lines
