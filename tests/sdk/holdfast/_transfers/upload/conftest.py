"""Local files to upload."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def make(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a local file of so many random bytes, with a name that no other has."""

    def make(size: int) -> Path:
        path = tmp_path / f"{uuid.uuid4().hex}.bin"
        path.write_bytes(random.Random(size).randbytes(size))
        return path

    return make
