"""The run of all tests tries once more what failed, and says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RETRY = Path(__file__).parents[2] / ".ci" / "retry.py"

FAILS_AT_FIRST = """
from pathlib import Path

import pytest

@pytest.mark.parametrize("n", range({many}))
def test_fails_at_first(n):
    marker = Path(__file__).with_name(f"seen-{{n}}")
    seen = marker.exists()
    marker.touch()
    assert seen, f"never seen: {{n}}"
"""
FAILS_AT_TEARDOWN_FIRST = """
from pathlib import Path

import pytest

@pytest.fixture
def left():
    yield
    marker = Path(__file__).with_name("seen")
    seen = marker.exists()
    marker.touch()
    assert seen, "something was left"

def test_leaves_something(left): ...
"""
ALWAYS = "def test_always(): assert False, 'as ever'\n"
PASSES = "def test_passes(): ...\n"


def retried(folder: Path, source: str, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:pytest-tornado"]
    command = [sys.executable, str(RETRY), "--flaky", "noted", *pytest_command, "--", *more]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COVERAGE_"))}
    return subprocess.run(command, cwd=folder, env=inherited, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["-n", "2"]])
def test_passing_alone_is_flaky_and_told_with_its_first_failure(tmp_path: Path, arguments: list[str]) -> None:
    run = retried(tmp_path, FAILS_AT_FIRST.format(many=3) + PASSES, *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    said = run.stdout.partition("\nflaky:\n")[2]
    for n in range(3):
        assert f"test_it.py::test_fails_at_first[{n}]: failed, and passed alone" in said
        assert f"never seen: {n}" in said
    noted = sorted((tmp_path / "noted").read_text().splitlines())
    assert noted == [f"test_it.py::test_fails_at_first[{n}]" for n in range(3)]


@pytest.mark.slow
def test_more_than_three_flaky_tests_fail_the_run(tmp_path: Path) -> None:
    run = retried(tmp_path, FAILS_AT_FIRST.format(many=4))
    assert run.returncode == 1
    assert "4 tests are flaky" in run.stdout


@pytest.mark.slow
def test_runs_that_share_a_file_share_the_limit(tmp_path: Path) -> None:
    (tmp_path / "noted").write_text("earlier::one\nearlier::two\nearlier::three\n")
    assert retried(tmp_path, PASSES).returncode == 0
    assert retried(tmp_path, FAILS_AT_FIRST.format(many=1)).returncode == 1


@pytest.mark.slow
def test_failing_twice_fails_the_run(tmp_path: Path) -> None:
    run = retried(tmp_path, FAILS_AT_FIRST.format(many=1) + ALWAYS)
    assert run.returncode == 1
    assert "test_it.py::test_always: failed twice" in run.stdout
    assert "test_fails_at_first[0]: failed, and passed alone" in run.stdout


@pytest.mark.slow
def test_an_error_at_teardown_is_a_failure(tmp_path: Path) -> None:
    run = retried(tmp_path, FAILS_AT_TEARDOWN_FIRST)
    assert run.returncode == 0
    assert "(teardown)" in run.stdout.partition("\nflaky:\n")[2]


@pytest.mark.slow
@pytest.mark.parametrize(("source", "status"), [("import nothing_of_that_name\n", 2), ("", 5)])
def test_a_run_that_could_not_take_place_is_not_tried_again(tmp_path: Path, source: str, status: int) -> None:
    run = retried(tmp_path, source)
    assert run.returncode == status
    assert "once more" not in run.stdout


@pytest.mark.slow
def test_many_failures_are_not_tried_again(tmp_path: Path) -> None:
    run = retried(tmp_path, FAILS_AT_FIRST.format(many=11))
    assert run.returncode == 1
    assert "once more" not in run.stdout
