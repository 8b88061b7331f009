"""Whatever goes wrong on the way, what arrives is what was sent. `benchmarks/sdk.py` does it a thousand times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.faults import there_and_back
from tests.support.servers import ServerProcess


@pytest.mark.slow
def test_random_faults_never_give_a_wrong_file(served: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "files").symlink_to(served.files_dir)
    port, happened = int(served.url.rpartition(":")[2]), 0
    for number in range(40):
        same, faults = there_and_back(number, port, tmp_path)
        assert same, f"run {number}"
        happened += faults
    assert happened >= 20
