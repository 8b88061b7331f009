"""An unmarked test that takes over a quarter of a second fails the run, on its own account only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.quarter_second import BY_THE_CLOCK, LIMIT, QUICK, Took, calibrate, too_long

ROOT = Path(__file__).parents[2]

AS_ON_THE_REFERENCE = Took(1.0, 1.0)
TEN_TIMES_SLOWER = Took(10.0, 10.0)
BUSY = Took(1.0, QUICK + 0.1)


@pytest.mark.parametrize("machine", [AS_ON_THE_REFERENCE, BUSY])
def test_time_of_the_processor_counts_however_busy_the_machine_is(machine: Took) -> None:
    assert too_long(Took(LIMIT * 1.01, 0.1), machine)
    assert not too_long(Took(LIMIT * 0.99, 0.1), machine)


def test_the_clock_counts_where_nobody_else_is_at_work() -> None:
    assert too_long(Took(0.01, BY_THE_CLOCK * 1.01), AS_ON_THE_REFERENCE)
    assert not too_long(Took(0.01, BY_THE_CLOCK * 0.99), AS_ON_THE_REFERENCE)
    assert not too_long(Took(0.01, 60), BUSY)


def test_a_slower_machine_has_more_time() -> None:
    assert not too_long(Took(LIMIT * 9, 60), TEN_TIMES_SLOWER)
    assert too_long(Took(LIMIT * 11, 60), TEN_TIMES_SLOWER)


def test_a_machine_counts_at_least_as_the_reference() -> None:
    machine = calibrate()
    assert machine.processor >= 1
    assert machine.clock >= 1


CONFTEST = """
from tests.support import quarter_second

quarter_second.LIMIT = 0.05
quarter_second.calibrate = lambda: quarter_second.Took(1.0, 100.0)

def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes longer")
    quarter_second.register(config)
"""
TESTS = """
import subprocess, sys, time
from pathlib import Path
import pytest

BURN = "import time\\nwhile time.process_time() < 0.3: pass"

def burn():
    start = time.process_time()
    while time.process_time() - start < 0.2:
        pass

def test_is_quick(): ...
def test_burns(): burn()
def test_burns_in_a_child(): subprocess.run([sys.executable, "-c", BURN], check=True)
@pytest.mark.slow
def test_is_marked(): burn()
def test_burns_once():
    seen = Path(__file__).with_name("seen")
    if not seen.exists():
        seen.touch()
        burn()
"""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["-n", "2"]])
def test_what_takes_too_long_each_time_fails_the_run(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:pytest-tornado"]
    command = [sys.executable, str(ROOT / ".ci/retry.py"), "--flaky", "noted", *pytest_command, "--", *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COVERAGE_"))}
    environment = inherited | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "unmarked tests that took over a quarter of a second" in run.stdout
    verdict = run.stdout.splitlines()[-2:]
    assert sorted(line.partition(": took ")[0] for line in verdict) == [  # in the order in which workers end
        "test_it.py::test_burns",
        "test_it.py::test_burns_in_a_child",
    ]
    assert not (tmp_path / "noted").exists()
