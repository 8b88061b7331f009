"""Programs that keep tables and arrays in many files work as they are: zarr, xarray, polars, and fsspec's caches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.servers import ServerProcess


@pytest.mark.slow
@pytest.mark.parametrize("what", ["zarr2", "zarr3", "xarrays", "caches", "polars_frames"])
def test_it_works_as_it_is(spawn_server: Callable[..., ServerProcess], tmp_path: Path, what: str) -> None:
    server = spawn_server()
    arguments = [what, server.url, *([str(tmp_path)] if what == "caches" else [])]
    command = [sys.executable, "-m", "tests.support.array_tools", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
