"""The benchmarks can be run: each module names its figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py") if "main(__name__" in p.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_every_benchmark_names_its_figures(module: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{module}", "--list"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()
